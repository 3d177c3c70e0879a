"""Repeats: blocks that repeat another one stay so only if the same crosses their border."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

from graphflops.graph.gradients import GradientFlow, activations
from graphflops.graph.op import Op, Region
from graphflops.graph.op_graph import OpGraph


def split_repeats(graph: OpGraph) -> OpGraph:
    """Return the graph with those repeats written out that differ at their border from the block that they repeat.

    Across a border go weights or activations, and gradients. They differ in the last of a model's layers, whose result
    has one reader, and where a block reads a weight that its like reads as an activation. The first block of each kind
    is written out as Ops; the others of this kind repeat it.
    """
    while repeats := graph.repeats():
        border = _Border(graph)
        different = {
            repeat.name: (repeat.ops, border.of(repeat))
            for repeat in repeats
            if border.of(repeat) != border.of_original(repeat)
        }
        if not different:
            break
        graph = _rewritten(graph, different)
    return graph


class _Border:
    """Everything that crosses the borders of blocks."""

    def __init__(self, graph: OpGraph) -> None:
        self.activations = activations(graph)
        self.gradients = GradientFlow(graph)
        self._originals: dict[Hashable, Hashable] = {}

    def of(self, repeat: Region) -> Hashable:
        inputs = frozenset(source for source, own in repeat.sources.items() if own[0] in self.activations)
        return inputs, self._gradients(repeat.results)

    def of_original(self, repeat: Region) -> Hashable:
        """The border of the block that a repeat repeats."""
        inputs = frozenset(source for source in repeat.sources if source[0] in self.activations)
        if repeat.ops not in self._originals:
            self._originals[repeat.ops] = self._gradients({name: name for name in repeat.ops})
        return inputs, self._originals[repeat.ops]

    def _gradients(self, names: Mapping[str, str]) -> Hashable:
        """The gradients that come to results from outside."""
        flow = self.gradients
        return tuple(
            (original, name in flow.live_from_outside, tuple(flow.fan_in_from_outside.get(name, {}).items()))
            for original, name in names.items()
            if name in flow.fan_in_from_outside or name in flow.live_from_outside
        )


def _rewritten(graph: OpGraph, different: Mapping[str, Hashable]) -> OpGraph:
    """Return the graph with the first repeat of each key written out; the others repeat it."""
    first: dict[Hashable, Region] = {}
    rewritten = OpGraph(trace=graph.trace)
    for step in graph.steps():
        if isinstance(step, Op):
            rewritten.add_op(step)
        elif step.name not in different:
            rewritten.add_repeat(step)
        elif different[step.name] in first:
            rewritten.add_repeat(_of(step, first[different[step.name]]))
        else:
            first[different[step.name]] = step
            for op in graph.ops_of(step):
                rewritten.add_op(op)
    return rewritten


def _of(repeat: Region, original: Region) -> Region:
    """Return a repeat as the repeat of another one, which was written out and repeats the same Ops."""
    renaming = original.renaming
    assert renaming is not None
    assert repeat.renaming is not None
    return replace(
        repeat,
        ops=tuple(map(renaming.op, repeat.ops)),
        renaming=repeat.renaming.rebased(renaming),
        sources={original.sources[source]: own for source, own in repeat.sources.items()},
        results={renaming.op(name): result for name, result in repeat.results.items()},
    )
