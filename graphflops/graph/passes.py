"""The passes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import networkx as nx

from graphflops.graph.gradients import mark_gradients, mark_weights
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.repeats import split_repeats

Pass: TypeAlias = Callable[[OpGraph], OpGraph]
"""a function that returns the graph with more attributes, or another graph"""

PASSES: tuple[Pass, ...] = (split_repeats, mark_weights, mark_gradients)


def run_passes(graph: OpGraph, passes: Iterable[Pass] = PASSES) -> OpGraph:
    """Return the graph after all passes, frozen: nodes and edges cannot be added later."""
    for transform in passes:
        graph = transform(graph)
    frozen: OpGraph = nx.freeze(graph)
    return frozen
