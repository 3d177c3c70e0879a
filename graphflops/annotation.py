"""Stage 3, annotate: which operands' gradients autograd will compute, and where gradients meet.

A gradient flows where something that requires grad lies upstream *and* an output lies downstream. Upstream is
autograd's own word (``requires_grad`` of each traced tensor knows of frozen parameters, ``detach`` and ``no_grad``);
downstream is reachability in the graph.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from dataclasses import replace

import networkx as nx

from graphflops.graph import Op, OpGraph, ops


def annotate(graph: OpGraph) -> OpGraph:
    """The same graph, each Op with ``needs_grad`` and ``fan_in``."""
    live = reached_by_gradients(graph)
    meeting: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for op in ops(graph):
        if op.name in live or op.kind == "output":
            for operand in op.operands:
                if operand.requires_grad:
                    meeting[operand.source][operand.index] += 1
    annotated: OpGraph = nx.DiGraph()
    for op in ops(graph):
        annotated.add_node(op.name, op=_annotated(op, live, meeting))
    annotated.add_edges_from(graph.edges)
    return nx.freeze(annotated)


def reached_by_gradients(graph: OpGraph) -> frozenset[str]:
    """The Ops that a gradient reaches, walking back from the outputs along what requires grad."""
    flow: OpGraph = nx.DiGraph()
    flow.add_nodes_from(graph)
    for op in ops(graph):
        if op.requires_grad or op.kind == "output":
            flow.add_edges_from((each.source, op.name) for each in op.operands if each.requires_grad)
    outputs = [op.name for op in ops(graph) if op.kind == "output"]
    return frozenset().union(*(nx.ancestors(flow, name) for name in outputs))


def _annotated(op: Op, live: Set[str], meeting: Mapping[str, Counter[int | None]]) -> Op:
    if op.name not in live:
        return op
    needs_grad = frozenset(each.name for each in op.operands if each.requires_grad)
    return replace(op, needs_grad=needs_grad, fan_in=dict(meeting[op.name]))
