"""Storages: which results share one, as connected components."""

from __future__ import annotations

import networkx as nx

from graphflops.graph.op import Source, StorageGroup
from graphflops.graph.op_graph import OpGraph


def mark_storages(graph: OpGraph) -> OpGraph:
    """Set ``graph.storages``: the results of all Ops by the storage that they share; those of repeats are written out.

    A result shares the storage of an operand if the call returned a view of it, or wrote to it in place. The storages
    are those of the fake tensors when the call ran, and for parameters, buffers and inputs those of the user's own
    tensors. A result that a rule describes without running the call has a storage of its own.
    """
    sharing: nx.Graph[Source] = nx.Graph()
    nbytes: dict[Source, int] = {}
    for op in graph.every_op():
        for index, storage in enumerate(op.storages):
            if storage is not None:
                tensor = op.name, index if isinstance(op.out, tuple) else None
                nbytes[tensor] = storage.nbytes
                sharing.add_node(tensor)
                if storage.shared_with is not None:
                    sharing.add_edge(storage.shared_with, tensor)
    order = {tensor: i for i, tensor in enumerate(nbytes)}
    components = [sorted(component, key=order.__getitem__) for component in nx.connected_components(sharing)]
    components.sort(key=lambda tensors: order[tensors[0]])
    graph.graph["storages"] = tuple(StorageGroup(tuple(tensors), nbytes[tensors[0]]) for tensors in components)
    return graph
