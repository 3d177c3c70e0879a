"""Cut points: the single tensors where a checkpoint can cut a model into stages, as articulation points."""

from __future__ import annotations

from typing import Any

import networkx as nx

from graphflops.core.torch_compat import OpOverload
from graphflops.graph.flow import downstream, upstream
from graphflops.graph.op import Op, Source
from graphflops.graph.op_graph import OpGraph
from graphflops.tracing.values.signatures import signature_of


def mark_cut_points(graph: OpGraph) -> OpGraph:
    """Set ``graph.cut_points``: the tensors that alone connect what ran before them with what runs after.

    Only activations count: what depends on an input and on a parameter, or on an input if the model has no parameters.
    Parameters, inputs, and what is made of one of them alone, such as a mask or a table of positions, are there in
    every stage. A tensor that is returned and read as well, such as a key of a cache, does not connect its block with
    the end. A tensor that a later call writes to is no cut point, and neither is a final result.
    """
    ops = [op for op in graph.every_op() if op.is_forward]
    live = _activations(ops)
    readers: nx.Graph[Any] = nx.Graph()
    is_read: set[Source] = set()
    for op in live.values():
        operands = [(operand.source, operand.index) for operand in op.operands if operand.source in live]
        is_read.update(operands)
        readers.add_edges_from((source, op.name) for source in operands or [_BEGINNING])
        readers.add_edges_from((source[0], source) for source in operands)
    results = [(operand.source, operand.index) for op in ops if op.kind == "output" for operand in op.operands]
    for source in results:
        if source[0] in live and source not in is_read:
            readers.add_edges_from([(source[0], source), (source, _END)])
    points = is_read.intersection(nx.articulation_points(readers)) - _overwritten(graph, ops)
    order = {name: i for i, name in enumerate(live)}
    graph.graph["cut_points"] = tuple(sorted(points, key=lambda source: (order[source[0]], source[1] or 0)))
    return graph


_BEGINNING, _END = ("", -1), ("", -2)


def _activations(ops: list[Op]) -> dict[str, Op]:
    """Return the activations that a result of the model depends on, in order."""
    flow: nx.DiGraph[str] = nx.DiGraph()
    flow.add_nodes_from(op.name for op in ops)
    flow.add_edges_from((operand.source, op.name) for op in ops for operand in op.operands if operand.source in flow)
    of_kind = {kind: [op.name for op in ops if op.kind == kind] for kind in ("input", "parameter", "output")}
    of_inputs = downstream(flow, of_kind["input"])
    activations = of_inputs & downstream(flow, of_kind["parameter"]) or of_inputs
    live = activations & upstream(flow, of_kind["output"])
    return {op.name: op for op in ops if op.name in live and op.kind == "call"}


def _overwritten(graph: OpGraph, ops: list[Op]) -> set[Source]:
    """Return the tensors whose storage a later call writes to."""
    groups = {tensor: group.tensors for group in graph.storages for tensor in group.tensors}
    order = {op.name: i for i, op in enumerate(ops)}
    overwritten: set[Source] = set()
    for op in ops:
        written = signature_of(op.call).written if isinstance(op.call, OpOverload) else ()
        for operand in op.operands if written else ():
            if operand.name.partition(".")[0] in written:
                source = operand.source, operand.index
                earlier = (tensor for tensor in groups.get(source, (source,)) if tensor[0] in order)
                overwritten.update(tensor for tensor in earlier if order[tensor[0]] < order[op.name])
    return overwritten
