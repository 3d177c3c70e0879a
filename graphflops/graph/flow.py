"""Flow: which tensors depend on which, as a networkx graph that passes walk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import networkx as nx

from graphflops.graph.op import Op, Operand, Region, Source
from graphflops.graph.op_graph import OpGraph

Flow: TypeAlias = "nx.DiGraph[Any]"

Follows: TypeAlias = Callable[[Op, Operand], bool]
"""whether a flow goes through an operand of an Op"""


def through_everything(op: Op, operand: Operand) -> bool:
    """Follow every operand."""
    return True


def through_gradients(op: Op, operand: Operand) -> bool:
    """Follow the operands that a gradient comes back through."""
    return operand.requires_grad and (op.requires_grad or op.kind == "output")


def flow_of(graph: OpGraph, follows: Follows) -> Flow:
    """Return a graph of names: an edge from the maker of each tensor to its reader.

    A repeat has an edge from each tensor that it reads to each of its results that depends on it.
    """
    flow: Flow = nx.DiGraph()
    inner: dict[tuple[str, ...], Flow] = {}
    sources: dict[tuple[tuple[str, ...], str], set[Source]] = {}
    for step in graph.steps():
        if isinstance(step, Op):
            flow.add_node(step.name)
            flow.add_edges_from((operand.source, step.name) for operand in step.operands if follows(step, operand))
            continue
        for name, result in step.results.items():
            if step.ops not in inner:
                inner[step.ops] = inner_flow(graph, step, follows)
            if (step.ops, name) not in sources:
                sources[step.ops, name] = from_outside(inner[step.ops], [name])
            flow.add_node(result)
            flow.add_edges_from((step.sources.get(source, source)[0], result) for source in sources[step.ops, name])
    return flow


def inner_flow(graph: OpGraph, region: Region, follows: Follows) -> Flow:
    """Return the flow inside of a block; a tensor that comes from outside is a node by its Source."""
    flow: Flow = nx.DiGraph()
    inside = {*region.ops}
    flow.add_nodes_from(region.ops)
    for op in map(graph.op, region.ops):
        flow.add_edges_from(
            (operand.source if operand.source in inside else (operand.source, operand.index), op.name)
            for operand in op.operands
            if follows(op, operand)
        )
    return flow


def from_outside(inner: Flow, names: Iterable[str]) -> set[Source]:
    """Return the tensors from outside of a block that lead to some of its Ops."""
    return {node for node in upstream(inner, names) if isinstance(node, tuple)}


def upstream(flow: Flow, names: Iterable[str]) -> set[Any]:
    """Return everything that leads to one of some nodes."""
    flow.add_edges_from((name, _SINK) for name in names if name in flow)
    found = nx.ancestors(flow, _SINK) if _SINK in flow else set()
    flow.remove_nodes_from([_SINK])
    return found


def downstream(flow: Flow, names: Iterable[str]) -> set[Any]:
    """Return some nodes and everything that they lead to."""
    flow.add_edges_from((_ORIGIN, name) for name in names)
    found = nx.descendants(flow, _ORIGIN) if _ORIGIN in flow else set()
    flow.remove_nodes_from([_ORIGIN])
    return found


_SINK, _ORIGIN = "reader of several", "maker of several"
