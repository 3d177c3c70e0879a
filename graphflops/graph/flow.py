"""Flow graphs: which Ops depend on which, for reachability with networkx."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeAlias

import networkx as nx

from graphflops.graph.op import Op, Operand, Region, Source
from graphflops.graph.op_graph import OpGraph

Flow: TypeAlias = "nx.DiGraph[Any]"

Follows: TypeAlias = Callable[[Op, Operand], bool]
"""whether the results of an Op depend on an operand, in the sense of the flow"""


def through_everything(op: Op, operand: Operand) -> bool:
    """Return True: results depend on every operand."""
    return True


def through_gradients(op: Op, operand: Operand) -> bool:
    """Return whether a gradient of the Op's results is propagated to an operand."""
    return operand.requires_grad and (op.requires_grad or op.kind == "output")


def flow_of(graph: OpGraph, follows: Follows) -> Flow:
    """Return a graph of names of Ops, with an edge from the maker of each tensor to its reader.

    For a repeat it has edges from the tensors that the repeat reads to those of its results that depend on them.
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
    """Return the flow graph of a block; a tensor from outside is a node by its Source."""
    flow: Flow = nx.DiGraph()
    flow.add_nodes_from(region.ops)
    names = {*region.ops}
    for op in map(graph.op, region.ops):
        flow.add_edges_from(
            (operand.source if operand.source in names else (operand.source, operand.index), op.name)
            for operand in op.operands
            if follows(op, operand)
        )
    return flow


def from_outside(inner: Flow, names: Iterable[str]) -> set[Source]:
    """Return the tensors from outside of a block that some of its Ops depend on."""
    return {node for node in upstream(inner, names) if isinstance(node, tuple)}


def upstream(flow: Flow, names: Iterable[str]) -> set[Any]:
    """Return the given nodes and all their ancestors."""
    return downstream(nx.reverse_view(flow), names)


def downstream(flow: Flow, names: Iterable[str]) -> set[Any]:
    """Return the given nodes and all their descendants."""
    return set(chain.from_iterable(nx.bfs_layers(flow, [name for name in names if name in flow])))
