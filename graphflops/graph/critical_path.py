"""The span and the critical path of the forward pass, as longest paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import networkx as nx

from graphflops.core.costs import Cost
from graphflops.graph.op import Op, Region, Span
from graphflops.graph.op_graph import OpGraph


def span_of(cost: Cost) -> Span:
    """Return the span of a call's forward pass.

    It is that of the rule. If the rule gives none, it is one operation at least, and at most all of them in sequence: a
    multiply-add is two.
    """
    if cost.span is not None:
        return Span(int(cost.span), int(cost.span))
    operations = int(cost.forward.macs) + sum(map(int, cost.forward.counts()))
    return Span(min(operations, 1), operations)


def mark_span(graph: OpGraph) -> OpGraph:
    """Set ``graph.span``, and ``graph.critical_path``: the chain of dependent calls with the most forward FLOPs.

    Both are of the forward pass alone, and read the attributes ``span`` and ``flops`` of the nodes, without which an
    Op's span is unknown and its FLOPs are none.
    """
    calls = [op.name for op in graph.calls() if op.is_forward]
    spans = dict.fromkeys(graph, Span(0, 0))
    spans.update((name, graph.nodes[name].get("span", Span(0, None))) for name in calls)
    lower = nx.dag_longest_path_length(_weighted(graph, lambda name, _: spans[name].lower))
    uppers = {name: span.upper for name, span in spans.items() if span.upper is not None}
    is_known = len(uppers) == len(spans)
    upper = nx.dag_longest_path_length(_weighted(graph, lambda name, _: uppers[name])) if is_known else None
    graph.graph["span"] = Span(lower, upper)
    path = nx.dag_longest_path(_weighted(graph, lambda name, node: node.get("flops", {}).get("forward", 0)))
    graph.graph["critical_path"] = tuple(path[1:])  # without the beginning
    return graph


def _weighted(graph: OpGraph, weight: Callable[[str, Mapping[str, Any]], int]) -> nx.DiGraph[str]:
    """Return the flow of the forward calls, each with its weight on the edges that come to it, from one beginning."""
    flow: nx.DiGraph[str] = nx.DiGraph()
    flow.add_node("")
    for op, name in _every_op(graph):
        if op.is_forward and op.kind in ("call", "idle"):
            makers = {operand.source for operand in op.operands}.intersection(flow)
            flow.add_edges_from(((maker, op.name) for maker in makers or [""]), weight=weight(name, graph.nodes[name]))
    return flow


def _every_op(graph: OpGraph) -> Iterator[tuple[Op, str]]:
    """Yield all Ops with the names of the nodes that have their attributes: those of a repeat with the originals'."""
    for step in graph.steps():
        if isinstance(step, Region):
            yield from zip(graph.ops_of(step), step.ops, strict=True)
        else:
            yield step, step.name
