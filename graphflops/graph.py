"""Stage 2, build: the fx graph as a frozen networkx DiGraph whose nodes are Op records."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import networkx as nx
import torch
from torch import fx
from torch.utils._pytree import tree_flatten, tree_map

from graphflops.rulebook import dotted_name
from graphflops.sizes import Spec
from graphflops.tracing import Trace, spec_of

OpGraph: TypeAlias = "nx.DiGraph[str]"
Kind: TypeAlias = Literal["input", "parameter", "constant", "call", "output"]


@dataclass(frozen=True, slots=True)
class Operand:
    """One tensor that an Op reads: under which name, from which result of which Op.

    ``is_weight`` says that it is made of parameters alone, as a transposed or tied weight is, so that its gradient is
    wgrad; the gradient of everything that depends on the inputs is dgrad.
    """

    name: str
    source: str
    index: int | None
    spec: Spec
    requires_grad: bool
    is_weight: bool


@dataclass(frozen=True, slots=True)
class Op:
    """One node: a call, or where tensors come from and go to. ``call`` is what is called, or a parameter's own name.

    ``operands`` stand in the order of the call, repeats and all: ``matmul(x, x)`` has two. ``needs_grad`` names the
    operands whose gradients autograd computes; ``fan_in`` is, for each result, how many gradients meet there.
    Both are empty until ``annotate``.
    """

    name: str
    kind: Kind
    call: Any
    owner: str
    line: str
    operands: tuple[Operand, ...]
    offered: Mapping[str, Any]
    out: Spec | tuple[Spec, ...]
    requires_grad: bool
    region: int | None = None
    """which checkpointed region it is in"""
    runs_again: bool = False
    """whether it is computed again when a gradient reaches its region"""
    node: fx.Node | None = field(default=None, repr=False, compare=False)
    """where it comes from; ``meta["run"]`` is what was called, with the node's arguments"""
    needs_grad: frozenset[str] = frozenset()
    fan_in: Mapping[int | None, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """What is called, as people write it."""
        return dotted_name(self.call) if self.kind == "call" else self.kind

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """The output Specs, a single one as a tuple of one."""
        return self.out if isinstance(self.out, tuple) else (self.out,)

    @property
    def elements(self) -> int:
        """How many elements the outputs have together."""
        return sum(int(each.numel) for each in self.outputs)

    @property
    def nbytes(self) -> int:
        """How many bytes the outputs take together."""
        return sum(int(each.nbytes) for each in self.outputs)

    def result(self, index: int | None) -> Spec:
        """The output that an Operand's ``index`` means."""
        return self.outputs[index or 0]


def build(trace: Trace) -> OpGraph:
    """The graph of Ops, frozen; each node's attribute ``op`` is its Op, edges run from maker to reader."""
    graph: OpGraph = nx.DiGraph()
    from_inputs: set[str] = set()
    for node in trace.graph.nodes:
        if _is_part(node):
            continue  # Operands say which part of a result they read
        op = _op(node, from_inputs)
        if op.kind == "input" or any(operand.source in from_inputs for operand in op.operands):
            from_inputs.add(op.name)
        graph.add_node(op.name, op=op)
        graph.add_edges_from((operand.source, op.name) for operand in op.operands)
    return nx.freeze(graph)


def ops(graph: OpGraph) -> Iterator[Op]:
    """The Ops in the order in which they ran."""
    return (attributes["op"] for _, attributes in graph.nodes(data=True))


def calls(graph: OpGraph) -> Iterator[Op]:
    """The Ops that call something: all but inputs, parameters, constants and the output."""
    return (op for op in ops(graph) if op.kind == "call")


def _op(node: fx.Node, from_inputs: Set[str]) -> Op:
    if node.op == "output":
        operands = tuple(_operands("output", node.args[0], node.meta["flows"], from_inputs))
        return Op(node.name, "output", None, "", "", operands, {}, (), requires_grad=False)
    value = node.meta["val"]
    kind: Kind = "call"
    if node.op == "placeholder":
        kind = "input"
    elif node.op == "get_attr":
        kind = "parameter" if node.meta["parameter"] else "constant"
    offered = node.meta.get("offered", {})
    return Op(
        name=node.name,
        kind=kind,
        call=str(node.target) if kind == "parameter" else node.meta.get("call"),
        owner=node.meta["owner"],
        line=node.meta["line"],
        operands=tuple(
            operand
            for name, each in offered.items()
            for operand in _operands(name, each, node.meta["flows"], from_inputs)
        ),
        offered={name: tree_map(_spec_if_node, each) for name, each in offered.items()} | dict(_masks(node)),
        out=spec_of(value) if torch.is_tensor(value) else tuple(map(_spec_or_none, _several(value))),
        requires_grad=any(each.requires_grad for each in _several(value) if torch.is_tensor(each)),
        region=node.meta["region"],
        runs_again=node.meta["runs_again"],
        node=node,
    )


def _operands(name: str, value: Any, flows: Mapping[fx.Node, bool], from_inputs: Set[str]) -> Iterator[Operand]:
    """The tensors under one name; those of a list are called ``name.0``, ``name.1``, …"""
    leaves, structure = tree_flatten(value)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, fx.Node):
            maker, index = _origin(leaf)
            yield Operand(
                name=name if structure.is_leaf() else f"{name}.{i}",
                source=maker.name,
                index=index,
                spec=spec_of(leaf.meta["val"]),
                requires_grad=flows[leaf],
                is_weight=maker.name not in from_inputs,
            )


def _is_part(node: fx.Node) -> bool:
    return node.target is operator.getitem and "call" not in node.meta


def _origin(node: fx.Node) -> tuple[fx.Node, int | None]:
    """The node that made a value, and which of its results it is."""
    if not _is_part(node):
        return node, None
    maker, index = node.args
    assert isinstance(maker, fx.Node)
    assert isinstance(index, int)
    return maker, index


def _masks(node: fx.Node) -> Iterator[tuple[str, Spec]]:
    """The operands that are masks, with how much they let through."""
    for name, passing in node.meta.get("stored", {}).items():
        yield name, replace(_spec_if_node(node.meta["offered"][name]), stored=passing)


def _spec_if_node(value: Any) -> Any:
    return spec_of(value.meta["val"]) if isinstance(value, fx.Node) else value


def _spec_or_none(value: Any) -> Spec:
    return spec_of(value) if torch.is_tensor(value) else Spec((0,), "none")


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
