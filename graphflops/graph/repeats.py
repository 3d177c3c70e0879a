"""Repeats of blocks: expand those whose gradient flow differs from that of the block that they repeat."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

from graphflops.graph.gradients import GradientFlow, activations
from graphflops.graph.op import Op, Region
from graphflops.graph.op_graph import OpGraph


def split_repeats(graph: OpGraph) -> OpGraph:
    """Return the graph with the repeats expanded that differ at their border from the block that they repeat.

    A border says which inputs are activations, not weights, and how many gradients come to results from outside. It
    differs for the last layer of a model, whose result has one reader, and where a block reads a weight and the block
    that it repeats an activation. Of repeats with equal borders the first is expanded into Ops; the others repeat it.
    """
    while repeats := graph.repeats():
        border = _Border(graph)
        borders = {repeat.name: border.of(repeat) for repeat in repeats}
        different = {
            repeat.name: (repeat.ops, borders[repeat.name])
            for repeat in repeats
            if borders[repeat.name] != border.of_original(repeat)
        }
        if not different:
            break
        graph = _with_expanded(graph, different)
    return graph


class _Border:
    """The borders of blocks, as values that are equal where the gradient flow inside is."""

    def __init__(self, graph: OpGraph) -> None:
        self.activations = activations(graph)
        self.gradients = GradientFlow(graph)
        self._originals: dict[Hashable, Hashable] = {}

    def of(self, repeat: Region) -> Hashable:
        """Return the border of a repeat."""
        inputs = frozenset(source for source, (name, _) in repeat.sources.items() if name in self.activations)
        return inputs, self._gradients(repeat.results)

    def of_original(self, repeat: Region) -> Hashable:
        """Return the border of the block that a repeat repeats."""
        inputs = frozenset(source for source in repeat.sources if source[0] in self.activations)
        if repeat.ops not in self._originals:
            self._originals[repeat.ops] = self._gradients({name: name for name in repeat.ops})
        return inputs, self._originals[repeat.ops]

    def _gradients(self, names: Mapping[str, str]) -> Hashable:
        """Return which results have gradients from outside, and how many; ``names``: name in the block → own name."""
        flow = self.gradients
        return tuple(
            (block_name, name in flow.live_from_outside, tuple(flow.fan_in_from_outside.get(name, {}).items()))
            for block_name, name in names.items()
            if name in flow.fan_in_from_outside or name in flow.live_from_outside
        )


def _with_expanded(graph: OpGraph, different: Mapping[str, Hashable]) -> OpGraph:
    """Return the graph with the first repeat of each border expanded; the others repeat it."""
    first: dict[Hashable, Region] = {}
    expanded = OpGraph(trace=graph.trace)
    for step in graph.steps():
        if isinstance(step, Op):
            expanded.add_op(step)
        elif step.name not in different:
            expanded.add_repeat(step)
        elif different[step.name] in first:
            expanded.add_repeat(_repeat_of(step, first[different[step.name]]))
        else:
            first[different[step.name]] = step
            for op in graph.ops_of(step):
                expanded.add_op(op)
    return expanded


def _repeat_of(repeat: Region, original: Region) -> Region:
    """Return a repeat as the repeat of another one, which has the same Ops and was expanded."""
    renaming = original.renaming
    assert renaming is not None
    assert repeat.renaming is not None
    return replace(
        repeat,
        ops=tuple(map(renaming.op, repeat.ops)),
        renaming=repeat.renaming.rebased(renaming),
        sources={original.sources[source]: repeat_source for source, repeat_source in repeat.sources.items()},
        results={renaming.op(name): result for name, result in repeat.results.items()},
    )
