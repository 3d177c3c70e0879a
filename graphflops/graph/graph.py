"""Stage 2, build: the fx graph as a frozen networkx DiGraph whose nodes are Op records."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import networkx as nx
import torch
from torch import fx
from torch.fx.node import map_arg

from graphflops.capture import Trace, spec_of
from graphflops.core.renaming import Likeness
from graphflops.core.sizes import Spec
from graphflops.core.torch_compat import tree_leaves
from graphflops.rules.targets import dotted_name

OpGraph: TypeAlias = "nx.DiGraph[str]"
Source: TypeAlias = "tuple[str, int | None]"
"""the name of an Op, and which of its results"""
StepPhase: TypeAlias = Literal["", "dgrad", "wgrad", "recompute", "optimizer"]
Kind: TypeAlias = Literal["input", "parameter", "constant", "call", "output", "idle"]


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
class Hook:
    """A backward hook: its work belongs to a phase, and is done if a gradient comes to one of some results."""

    phase: Literal["dgrad", "wgrad"]
    triggers: tuple[Source, ...]
    gradients: frozenset[str] = frozenset()
    """of what a Function's own backward runs: for the gradients of which of its operands"""


@dataclass(frozen=True, slots=True)
class Op:
    """One node: a call, or where tensors come from and go to. ``call`` is what is called, or a parameter's own name.

    Of kind idle is a call in a backward hook that no gradient comes to, or one that another Op has the work of.

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
    reaches: tuple[Hashable, ...] = ()
    """the checkpointed regions that are run again if a gradient of it is computed"""
    runs_again: Mapping[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None] = field(default_factory=dict)
    """the regions with which it is computed again; and of one that keeps some of it, the operators that are"""
    hook: Hook | None = None
    """the backward hook, or the Function's own backward, that calls it, if one does"""
    own_code: str | None = None
    """of a call whose work is that of the Ops which it runs: why its backward could not run; empty if it could"""
    phase: StepPhase = ""
    """of a program that is a step: where it ran, if not forward"""
    weight_results: frozenset[int] = frozenset()
    """of a call in the backward pass of a step, those of its results that are gradients of weights"""
    goes_back: bool = False
    """whether it is no call, but autograd going back through one whose gradients its rule speaks of"""
    sums: bool = False
    """whether autograd only adds up in it, gradients that meet or what was broadcast"""
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


@dataclass(frozen=True, slots=True)
class Again:
    """One node that stands for all the Ops of a block: they are those named in ``ops``, under other names.

    ``sources`` says what it reads where those read something from outside of their block.
    """

    name: str
    ops: tuple[str, ...]
    likeness: Likeness
    sources: Mapping[Source, Source]
    results: Mapping[str, str]
    """those of ``ops`` with results that are read outside, in their order, and what they are called here"""

    def like(self, other: Again) -> Again:
        """The same, said of what ``other`` became when it was written out, which repeats the same Ops."""
        of_op = other.likeness.of_op
        return Again(
            self.name,
            tuple(map(of_op, self.ops)),
            other.likeness.then(self.likeness),
            {other.sources[source]: own for source, own in self.sources.items()},
            {of_op(name): own for name, own in self.results.items()},
        )


def build(trace: Trace) -> OpGraph:
    """The graph of Ops, frozen; each node's attribute ``op`` is its Op, edges run from maker to reader.

    A block that repeats another one is a node whose attribute ``again`` says which Ops it repeats.
    """
    graph: OpGraph = nx.DiGraph()
    from_inputs: set[str] = set()
    written_out: dict[Any, Again] = {}
    names: dict[int, tuple[str, ...]] = {}
    for node in trace.graph.nodes:
        if _is_part(node):
            continue  # Operands say which part of a result they read
        if "repeat" not in node.meta:
            _add(graph, _op(node, from_inputs), from_inputs)
            continue
        repeat = node.meta["repeat"]
        if id(repeat.body) not in names:
            names[id(repeat.body)] = tuple(name for name in map(_name, repeat.body.nodes) if name in graph)
        again = _again(node, names[id(repeat.body)])
        theirs = frozenset(like for like in again.sources if like[0] in from_inputs)
        mine = frozenset(like for like, own in again.sources.items() if own[0] in from_inputs)
        if mine == theirs:
            add_again(graph, again)
        elif (again.ops, mine) in written_out:
            again = again.like(written_out[again.ops, mine])
            add_again(graph, again)
        else:  # what is a weight in one is an activation in the other
            written_out[again.ops, mine] = again
            for op in renamed(graph, again):
                weights = tuple(replace(each, is_weight=each.source not in from_inputs) for each in op.operands)
                _add(graph, replace(op, operands=weights), from_inputs)
            continue
        from_inputs.update(own for name, own in again.results.items() if name in from_inputs)
    return nx.freeze(graph)


def _add(graph: OpGraph, op: Op, from_inputs: set[str]) -> None:
    if op.kind == "input" or any(operand.source in from_inputs for operand in op.operands):
        from_inputs.add(op.name)
    add_op(graph, op)


def add_op(graph: OpGraph, op: Op) -> None:
    """Add an Op, and an edge from whatever makes what it reads."""
    graph.add_node(op.name, op=op)
    made = graph.graph.setdefault("made", {})
    graph.add_edges_from((made.get(operand.source, operand.source), op.name) for operand in op.operands)


def add_again(graph: OpGraph, again: Again) -> None:
    """Add a block that repeats another one."""
    graph.add_node(again.name, again=again)
    made = graph.graph.setdefault("made", {})
    graph.add_edges_from((made.get(source, source), again.name) for source, _ in again.sources.values())
    made.update(dict.fromkeys(again.results.values(), again.name))


def renamed(graph: OpGraph, again: Again) -> Iterator[Op]:
    """The Ops of a block that repeats another one, one by one."""
    of_op, of_path = again.likeness.of_op, again.likeness.of_path
    own = set(again.ops)

    def moved(source: Source) -> Source:
        return (of_op(source[0]), source[1]) if source[0] in own else again.sources.get(source, source)

    def operand(each: Operand) -> Operand:
        source, index = moved((each.source, each.index))
        return replace(each, source=source, index=index)

    for op in [op_of(graph, name) for name in again.ops]:
        yield replace(
            op,
            name=of_op(op.name),
            call=of_path(op.call) if op.kind == "parameter" else op.call,
            owner=of_path(op.owner),
            operands=tuple(map(operand, op.operands)),
            reaches=tuple((again.name, region) for region in op.reaches),
            runs_again={(again.name, region): only for region, only in op.runs_again.items()},
            hook=op.hook and replace(op.hook, triggers=tuple(map(moved, op.hook.triggers))),
        )


def steps(graph: OpGraph) -> Iterator[Op | Again]:
    """Everything in the order in which it ran: Ops, and blocks that repeat some."""
    return (attributes.get("op") or attributes["again"] for _, attributes in graph.nodes(data=True))


def every_op(graph: OpGraph) -> Iterator[Op]:
    """The Ops in the order in which they ran, those of blocks that repeat others too."""
    for step in steps(graph):
        if isinstance(step, Again):
            yield from renamed(graph, step)
        else:
            yield step


def op_of(graph: OpGraph, name: str) -> Op:
    """The Op of a name."""
    op: Op = graph.nodes[name]["op"]
    return op


def ops(graph: OpGraph) -> Iterator[Op]:
    """The Ops in the order in which they ran, those of equal blocks once."""
    return (attributes["op"] for _, attributes in graph.nodes(data=True) if "op" in attributes)


def calls(graph: OpGraph) -> Iterator[Op]:
    """The Ops that call something: all but inputs, parameters, constants and the output."""
    return (op for op in ops(graph) if op.kind == "call")


def _op(node: fx.Node, from_inputs: Set[str]) -> Op:
    if node.op == "output":
        operands = tuple(_operands("output", node.args[0], node.meta["flows"], from_inputs))
        return Op(node.name, "output", None, "", "", operands, {}, (), requires_grad=False)
    made = node.meta.get("goes_back", node)
    value = made.meta["val"]
    kind: Kind = "idle" if node.meta.get("is_ruled") else "call"
    if node.op == "placeholder":
        kind = "input"
    elif node.op == "get_attr":
        kind = "parameter" if node.meta["parameter"] else "constant"
    offered = node.meta.get("offered", {})
    operands = tuple(
        operand
        for name, each in offered.items()
        if isinstance(each, _HOLDING)
        for operand in _operands(name, each, node.meta["flows"], from_inputs)
    )
    goes_back = made is not node
    return Op(
        name=_name(node),
        kind=kind,
        call=str(node.target) if kind == "parameter" else node.meta.get("call"),
        owner=node.meta["owner"],
        line=node.meta["line"],
        operands=operands,
        offered={name: _with_specs(each) for name, each in offered.items()} | dict(_masks(node)),
        out=_spec(made) if torch.is_tensor(value) else tuple(map(_spec_or_none, _several(value))),
        requires_grad="resolved" in node.meta
        or any(_has_gradient(each, kind) for each in _several(value) if torch.is_tensor(each)),
        reaches=node.meta["reaches"],
        runs_again=node.meta["runs_again"],
        hook=_hook(node),
        own_code=node.meta.get("own_code"),
        phase=_phase(node, from_inputs),
        weight_results=frozenset(_weight_results(node, from_inputs)),
        goes_back=goes_back,
        sums=node.meta.get("sums", False),
        node=node,
        needs_grad=frozenset(each.name for each in operands if each.requires_grad and goes_back),
        fan_in=_comes_back(value) if goes_back else {},
    )


def _comes_back(results: Any) -> dict[int | None, int]:
    """A gradient for each result that may have one."""
    if torch.is_tensor(results):
        return {None: 1}
    return {i: 1 for i, each in enumerate(_several(results)) if torch.is_tensor(each) and each.is_floating_point()}


def _phase(node: fx.Node, from_inputs: Set[str]) -> StepPhase:
    """Where a call of a step ran; backward, for gradients of activations or of weights alone."""
    phase: Any = node.meta.get("phase", "")
    if phase != "backward":
        return phase  # type: ignore[no-any-return]
    return "wgrad" if _is_of_weights(node, from_inputs) else "dgrad"


def _weight_results(node: fx.Node, from_inputs: Set[str]) -> Iterator[int]:
    if node.meta.get("phase") == "backward":
        for user in node.users:
            if _is_part(user) and isinstance(index := user.args[1], int) and _is_of_weights(user, from_inputs):
                yield index


def _is_of_weights(gradient: fx.Node, from_inputs: Set[str]) -> bool:
    """Whether what was computed is of use for gradients of weights alone."""
    tensors = [each for each in gradient.meta.get("gradients_of", ()) if each.meta]
    return bool(tensors) and all(_origin(each)[0] not in from_inputs for each in tensors)


def _has_gradient(tensor: torch.Tensor, kind: Kind) -> bool:
    """Whether a gradient comes to it, and of a result goes on: one that was made a leaf is where it ends."""
    try:
        return tensor.requires_grad and (kind != "call" or not tensor.is_leaf)
    except RuntimeError:  # a view whose base was written to in a way that PyTorch cannot follow
        return True


def _hook(node: fx.Node) -> Hook | None:
    hook = node.meta.get("hook")
    return None if hook is None else Hook(hook.phase, tuple(map(_origin, hook.triggers)), hook.gradients)


def _operands(name: str, value: Any, flows: Mapping[fx.Node, bool], from_inputs: Set[str]) -> Iterator[Operand]:
    """The tensors under one name; those of a list are called ``name.0``, ``name.1``, …"""
    alone = isinstance(value, fx.Node)
    for i, leaf in enumerate([value] if alone else tree_leaves(value)):
        if isinstance(leaf, fx.Node):
            source, index = _origin(leaf)
            yield Operand(
                name=name if alone else f"{name}.{i}",
                source=source,
                index=index,
                spec=_spec(leaf),
                requires_grad=flows[leaf],
                is_weight=source not in from_inputs,
            )


_HOLDING = (fx.Node, tuple, list, dict)


def _again(node: fx.Node, names: tuple[str, ...]) -> Again:
    repeat = node.meta["repeat"]
    sources = {}
    for like, own in zip(repeat.body.inputs, repeat.inputs, strict=True):
        if like is not None and own is not None:
            sources[_origin(like)] = _origin(own)
    read = [_origin(each)[0] for each in repeat.body.outputs if isinstance(each, fx.Node)]
    results = {name: repeat.likeness.of_op(name) for name in sorted(read, key=names.index)}
    return Again(node.name, names, repeat.likeness, sources, results)


def _name(node: fx.Node) -> str:
    """The name of an Op: of what a module holds, its path."""
    return str(node.meta.get("name", node.name))


def _is_part(node: fx.Node) -> bool:
    return "part_of" in node.meta or (node.target is operator.getitem and "call" not in node.meta)


def _origin(node: fx.Node) -> Source:
    """The name of the Op that made a value, and which of its results it is."""
    if "part_of" in node.meta:
        likeness, like = node.meta["part_of"]
        name, which = _origin(like)
        return likeness.of_op(name), which
    if not _is_part(node):
        return _name(node), None
    maker, index = node.args
    assert isinstance(maker, fx.Node)
    assert isinstance(index, int)
    return _name(maker), index


def _masks(node: fx.Node) -> Iterator[tuple[str, Spec]]:
    """The operands that are masks, with how much they let through."""
    for name, passing in node.meta.get("stored", {}).items():
        yield name, replace(_spec(node.meta["offered"][name]), stored=passing)


def _with_specs(value: Any) -> Any:
    """The same with the Spec of each node in its place."""
    to_spec: Any = _spec
    return map_arg(value, to_spec)


def _spec(node: fx.Node) -> Spec:
    """The Spec of a node with one result."""
    if "spec" not in node.meta:
        node.meta["spec"] = spec_of(node.meta["val"])
    spec: Spec = node.meta["spec"]
    return spec


def _spec_or_none(value: Any) -> Spec:
    return spec_of(value) if torch.is_tensor(value) else Spec((0,), "none")


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
