"""The passes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

import networkx as nx

from graphflops.core.errors import GraphflopsError, UsageError
from graphflops.graph.critical_path import mark_span
from graphflops.graph.cut_points import mark_cut_points
from graphflops.graph.gradients import mark_gradients, mark_weights
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.repeats import split_repeats
from graphflops.graph.storages import mark_storages

Pass: TypeAlias = Callable[[OpGraph], OpGraph]
"""a function that returns the graph with more attributes, or another graph"""

PASSES: tuple[Pass, ...] = (split_repeats, mark_weights, mark_gradients)
"""of every analysis"""

CAPTURE_PASSES: tuple[Pass, ...] = (mark_storages, mark_cut_points, mark_span)
"""of ``capture`` only, after those of every analysis and after the FLOPs of the nodes; then the user's own run"""


def run_passes(graph: OpGraph, passes: Iterable[Pass] = PASSES) -> OpGraph:
    """Return the graph after all passes, frozen: nodes and edges cannot be added later.

    Raises:
        UsageError: a pass raised, or did not return a graph.
    """
    passes = tuple(passes)
    for transform in passes:
        name = getattr(transform, "__name__", repr(transform))
        try:
            graph = transform(graph)
        except GraphflopsError:
            raise
        except Exception as error:
            raise UsageError(f"the pass {name} raised {type(error).__name__}: {error}") from error
        if not isinstance(graph, OpGraph):
            raise UsageError(f"the pass {name} returned {type(graph).__name__}: a pass returns the graph")
    graph.graph["run_passes"] = partial(run_passes, passes=passes)  # for the level below
    frozen: OpGraph = nx.freeze(graph)
    return frozen
