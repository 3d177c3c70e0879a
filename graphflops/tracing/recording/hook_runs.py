"""Run hooks after the forward pass as a backward pass would, so that their work is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from graphflops.core.torch_compat import DisableTorchFunction
from graphflops.tracing.recording.backward_hooks import merge_multi_grad_hooks, tensor_hooks
from graphflops.tracing.recording.record import Hook, NodeRecord, record_of
from graphflops.tracing.recording.writer import GraphWriter


def run_in_backward_pass(writer: GraphWriter, run: Callable[[], None]) -> None:
    """Run something as autograd runs hooks: without grad, in a backward pass, whose number some hooks read."""

    def on_gradient(_: torch.Tensor) -> None:
        writer.recording = True
        try:
            run()
        finally:
            writer.recording = False

    with writer.paused(), DisableTorchFunction():
        start = writer.fakes.make((), None, torch.float32).requires_grad_()
        end = start.clone()
        start.register_hook(on_gradient)  # type: ignore[no-untyped-call]
    with writer.paused():
        torch.autograd.backward((end,), (writer.gradient_like(end),))


def run_backward_hooks(writer: GraphWriter, hooks: Iterable[Hook]) -> None:
    """Run the hooks of modules, and those of all tensors in the graph."""
    values = ((record_of(node).value, node) for node in writer.graph.nodes)
    tensors = {id(value): (value, node) for value, node in values if torch.is_tensor(value)}
    every_hook = list(hooks)
    for tensor, node in tensors.values():
        every_hook += tensor_hooks(tensor, node, writer.gradient_like)
    for hook in merge_multi_grad_hooks(every_hook, writer.gradient_like):
        writer.hook = hook
        writer.module_paths.append(hook.owner)
        try:
            with torch.no_grad():
                hook.run()
        except Exception:  # it needs something that only a real backward pass has: it is unknown
            _record_unknown(writer, hook)
        finally:
            writer.module_paths.pop()
    writer.hook = None


def _record_unknown(writer: GraphWriter, hook: Hook) -> None:
    """Record a hook that did not run, as a call without a rule."""
    trigger = hook.triggers[0]
    node = writer.create_node("call_function", hook.function, (trigger,), {}, "backward_hook")
    node.meta["record"] = NodeRecord(
        value=record_of(trigger).value,
        call=hook.function,
        operands={"gradient": trigger},
        module_path=hook.owner,
        line=hook.line,
        requires_grad={trigger: False},
        hook=hook,
    )
