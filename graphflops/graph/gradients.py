"""Gradient flow: the operands whose gradients autograd computes, and the number of gradients summed at each result.

A tensor has a gradient if it requires grad *and* an output depends on it. The first is autograd's ``requires_grad`` of
the captured tensor, which knows frozen parameters, ``detach`` and ``no_grad``; the second is reachability in the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphflops.graph.flow import downstream, flow_of, inner_flow, through_everything, through_gradients, upstream
from graphflops.graph.op import BackwardHook, Op, Region, Source
from graphflops.graph.op_graph import OpGraph


class GradientFlow:
    """The results that have gradients, and the number of gradients that are summed at each.

    ``fan_in`` counts all readers; ``fan_in_from_outside`` the readers in other blocks than the result's.
    """

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.blocks: dict[str, object] = {}  # an Op that is repeated, or a result of a repeat → its block
        for repeat in graph.repeats():
            self.blocks.update(dict.fromkeys(repeat.ops, repeat.ops))
            self.blocks.update(dict.fromkeys(repeat.results.values(), repeat.name))
        outputs = [op.name for op in graph.ops() if op.kind == "output"]
        self.live = upstream(flow_of(graph, through_gradients), outputs).difference(outputs)
        self.fan_in: defaultdict[str, dict[int | None, int]] = defaultdict(dict)
        self.fan_in_from_outside: defaultdict[str, dict[int | None, int]] = defaultdict(dict)
        self.live_from_outside: set[str] = set()
        self._reads: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[Source, bool]]] = {}
        for step in graph.steps():
            if isinstance(step, Region):
                self._read_by_repeat(step)
            elif step.name in self.live or step.kind == "output":
                self._read_by_op(step)

    def _read_by_op(self, op: Op) -> None:
        for operand in op.operands:
            if operand.requires_grad:
                from_outside = self.blocks.get(operand.source) != self.blocks.get(op.name)
                self._count((operand.source, operand.index), from_outside=from_outside)
                if from_outside and through_gradients(op, operand):
                    self.live_from_outside.add(operand.source)

    def _read_by_repeat(self, repeat: Region) -> None:
        live = tuple(name for name, result in repeat.results.items() if result in self.live)
        if (repeat.ops, live) not in self._reads:
            self._reads[repeat.ops, live] = list(self._reads_from_outside(repeat, live))
        for read, is_propagated in self._reads[repeat.ops, live]:
            source = repeat.sources.get(read, read)
            self._count(source, from_outside=True)
            if is_propagated:
                self.live_from_outside.add(source[0])

    def _reads_from_outside(self, repeat: Region, live: Sequence[str]) -> Iterator[tuple[Source, bool]]:
        """Yield the tensors from outside whose gradients a block computes, if some of its results have gradients."""
        inner = inner_flow(self.graph, repeat, through_gradients)
        with_gradient = upstream(inner, live)
        for op in map(self.graph.op, repeat.ops):
            for operand in op.operands if op.name in with_gradient else ():
                if operand.requires_grad and operand.source not in inner:
                    yield (operand.source, operand.index), through_gradients(op, operand)

    def _count(self, source: Source, *, from_outside: bool) -> None:
        name, index = source
        for counts in (self.fan_in, self.fan_in_from_outside) if from_outside else (self.fan_in,):
            counts[name][index] = counts[name].get(index, 0) + 1


def activations(graph: OpGraph) -> set[str]:
    """Return the names of the inputs and of everything that depends on them."""
    inputs = [op.name for op in graph.ops() if op.kind == "input"]
    return downstream(flow_of(graph, through_everything), inputs)


def _may_have_gradients(op: Op) -> bool:
    """Return whether gradients of operands may be computed, or the call is made in a backward pass."""
    if op.hook is not None or op.is_rule_backward:
        return True
    return (op.requires_grad or op.kind == "output") and any(operand.requires_grad for operand in op.operands)


def mark_weights(graph: OpGraph) -> OpGraph:
    """Set ``is_weight`` of operands; in the backward pass of a step, the phase of calls and their ``weight_grads``.

    Ops without a gradient stay as they are.
    """
    ops = [op for op in graph.ops() if op.phase == "backward" or _may_have_gradients(op)]
    depends_on_input = activations(graph) if ops else set()
    for op in ops:
        if op.phase != "backward" and all(operand.source in depends_on_input for operand in op.operands):
            continue
        weight_grads = {
            index
            for index, sources in op.gradients_of.items()
            if all(name not in depends_on_input for name, _ in sources)
        }
        phase = ("wgrad" if None in weight_grads else "dgrad") if op.phase == "backward" else op.phase
        graph.nodes[op.name]["op"] = replace(
            op,
            operands=tuple(
                operand if operand.source in depends_on_input else replace(operand, is_weight=True)
                for operand in op.operands
            ),
            phase=phase,
            weight_grads=frozenset(index for index in weight_grads if index is not None),
        )
    return graph


def mark_gradients(graph: OpGraph) -> OpGraph:
    """Set ``needs_grad`` and ``fan_in`` of each Op; calls of a backward hook that does not run become idle."""
    if not any(map(_may_have_gradients, graph.ops())):
        return graph
    flow = GradientFlow(graph)
    for op in list(graph.ops()):
        if op.hook is not None:
            graph.nodes[op.name]["op"] = _with_hook(graph, flow, op, op.hook)
        elif op.name in flow.live:
            needs_grad = frozenset(operand.name for operand in op.operands if operand.requires_grad)
            graph.nodes[op.name]["op"] = replace(op, needs_grad=needs_grad, fan_in=dict(flow.fan_in[op.name]))
    return graph


def _with_hook(graph: OpGraph, flow: GradientFlow, op: Op, hook: BackwardHook) -> Op:
    if not any(index in flow.fan_in[name] for name, index in hook.triggers):
        return replace(op, kind="idle")
    function = graph.op(hook.triggers[0][0])
    only_weights = all(operand.is_weight for operand in function.operands if operand.name in hook.gradients)
    return replace(op, hook=replace(hook, phase="wgrad")) if hook.gradients and only_weights else op
