"""Finish a graph that is written: its checkpointed regions are known, and bookkeeping of autograd is dropped."""

from __future__ import annotations

import operator
from collections.abc import Set

import torch
from torch import fx

from graphflops.tracing.recording.record import record_of
from graphflops.tracing.recording.writer import OUTSIDE_REGIONS


def close_regions(graph: fx.Graph) -> None:
    """Set of each node, and those inside, which checkpointed regions it reaches, and with which it runs again."""
    for node in graph.nodes:
        record = record_of(node)
        place, record.place = record.place or OUTSIDE_REGIONS, None
        record.recomputes, record.recomputed_in = place.reaches(), place.runs_again()
        if record.inside is not None:
            close_regions(record.inside)


def drop_bookkeeping(graph: fx.Graph, read: Set[fx.Node]) -> None:
    """Drop the detached copies that autograd saves for itself, which have no reader."""
    for node in reversed(graph.nodes):
        if not node.users and node not in read and node.target in (operator.getitem, torch.ops.aten.detach.default):
            graph.erase_node(node)
            node.meta.clear()
