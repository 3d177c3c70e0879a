"""Stage 3, annotate: which operands' gradients autograd will compute, and where gradients meet.

A gradient flows where something that requires grad lies upstream *and* an output lies downstream. Upstream is
autograd's own word (``requires_grad`` of each traced tensor knows of frozen parameters, ``detach`` and ``no_grad``);
downstream is reachability in the graph.

A block that repeats another one has the same gradients if those that come to it from outside are the same. Where they
are not, as in the last of a model's layers, it is written out, and blocks after it may repeat that one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import networkx as nx

from graphflops.graph.graph import Again, Hook, Op, OpGraph, Source, add_again, add_op, op_of, renamed, steps


def annotate(graph: OpGraph) -> OpGraph:
    """The same graph, each Op with ``needs_grad`` and ``fan_in``."""
    flow = _Flow(graph)
    while others := flow.others():
        flow = _Flow(_written_out(flow, others))
    annotated: OpGraph = nx.DiGraph()
    for step in flow.steps:
        if isinstance(step, Again):
            add_again(annotated, step)
        else:
            add_op(annotated, flow.annotated(step))
    return nx.freeze(annotated)


@dataclass(eq=False)
class _Inside:
    """What gradients do inside of a block, if they come to it at certain Ops."""

    reached: frozenset[str]
    """the Ops outside that they go on to"""
    sent: tuple[Source, ...]
    """the results outside that they are gradients of, one for each"""


class _Flow:
    """Where gradients flow in a graph, and from where they come into each block."""

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.steps = list(steps(graph))
        self.again = [step for step in self.steps if isinstance(step, Again)]
        self.blocks: dict[str, Hashable] = {}  # what is repeated, and what is read of a repeat → its block
        for step in self.again:
            if step.ops[0] not in self.blocks:
                self.blocks.update(dict.fromkeys(step.ops, step.ops))
            self.blocks.update(dict.fromkeys(step.results.values(), step.name))
        self.live: set[str] = set()
        self.live_from_outside: set[str] = set()
        self.meeting: defaultdict[str, dict[int | None, int]] = defaultdict(dict)
        self.meeting_from_outside: defaultdict[str, dict[int | None, int]] = defaultdict(dict)
        self._inside: dict[Hashable, _Inside] = {}
        self._reach()
        self._meet()

    def annotated(self, op: Op) -> Op:
        """An Op with the gradients that it needs."""
        if op.hook is not None:
            if not any(index in self.meeting[name] for name, index in op.hook.triggers):
                return replace(op, kind="idle")
            if op.hook.gradients and self._are_of_weights(op.hook):
                return replace(op, hook=replace(op.hook, phase="wgrad"))
        if op.name not in self.live:
            return op
        needs_grad = frozenset(each.name for each in op.operands if each.requires_grad)
        return replace(op, needs_grad=needs_grad, fan_in=dict(self.meeting[op.name]))

    def _are_of_weights(self, hook: Hook) -> bool:
        """Whether all gradients that a Function's backward calls something for are those of weights."""
        function = op_of(self.graph, hook.triggers[0][0])
        return all(each.is_weight for each in function.operands if each.name in hook.gradients)

    def others(self) -> list[Again]:
        """Repeats that gradients come to otherwise than to what they repeat."""
        contexts: dict[Hashable, Hashable] = {}
        found = []
        for step in self.again:
            if step.ops not in contexts:
                contexts[step.ops] = self._context({name: name for name in step.ops})
            if self.context_of(step) != contexts[step.ops]:
                found.append(step)
        return found

    def context_of(self, step: Again) -> Hashable:
        """How gradients come to a repeat."""
        return self._context(step.results)

    def _context(self, names: Mapping[str, str]) -> Hashable:
        return tuple(
            (like, name in self.live_from_outside, tuple(self.meeting_from_outside.get(name, {}).items()))
            for like, name in names.items()
            if name in self.meeting_from_outside or name in self.live_from_outside
        )

    def _reach(self) -> None:
        """The Ops that a gradient reaches, walking back from the outputs along what requires grad."""
        for step in reversed(self.steps):
            if isinstance(step, Again):
                reached = self._inside_of(step).reached
                sources = {like[0]: own[0] for like, own in step.sources.items()}
                found = {sources.get(name, name) for name in reached}
                self.live |= found
                self.live_from_outside |= found
            elif (step.name in self.live and step.requires_grad) or step.kind == "output":
                for each in step.operands:
                    if each.requires_grad:
                        self.live.add(each.source)
                        if self.blocks.get(each.source) != self.blocks.get(step.name):
                            self.live_from_outside.add(each.source)

    def _meet(self) -> None:
        """How many gradients meet at each result."""
        for step in self.steps:
            if isinstance(step, Again):
                for like in self._inside_of(step).sent:
                    self._count(step.sources.get(like, like), outside=True)
            elif step.name in self.live or step.kind == "output":
                for each in step.operands:
                    if each.requires_grad:
                        outside = self.blocks.get(each.source) != self.blocks.get(step.name)
                        self._count((each.source, each.index), outside=outside)

    def _count(self, source: Source, *, outside: bool) -> None:
        name, index = source
        for counts in (self.meeting, self.meeting_from_outside) if outside else (self.meeting,):
            counts[name][index] = counts[name].get(index, 0) + 1

    def _inside_of(self, step: Again) -> _Inside:
        reached = frozenset(name for name, own in step.results.items() if own in self.live)
        key = step.ops, reached
        if key not in self._inside:
            self._inside[key] = _inside([op_of(self.graph, name) for name in step.ops], reached)
        return self._inside[key]


def _inside(block: list[Op], reached: frozenset[str]) -> _Inside:
    own = {op.name for op in block}
    live = set(reached)
    for op in reversed(block):
        if op.name in live and op.requires_grad:
            live.update(each.source for each in op.operands if each.requires_grad)
    sent = [
        (each.source, each.index)
        for op in block
        if op.name in live
        for each in op.operands
        if each.requires_grad and each.source not in own
    ]
    return _Inside(frozenset(live - own), tuple(sent))


def _written_out(flow: _Flow, others: list[Again]) -> OpGraph:
    """The same graph, of those repeats the first of each kind written out; the others repeat it."""
    first: dict[Hashable, Again] = {}
    chosen = {step.name: (step.ops, flow.context_of(step)) for step in others}
    made: OpGraph = nx.DiGraph()
    for step in flow.steps:
        if not isinstance(step, Again):
            add_op(made, step)
        elif step.name not in chosen:
            add_again(made, step)
        elif chosen[step.name] in first:
            add_again(made, step.like(first[chosen[step.name]]))
        else:
            first[chosen[step.name]] = step
            for op in renamed(flow.graph, step):
                add_op(made, op)
    return made
