"""Hooks of the backward pass: on tensors, parameters and modules. Each is run once, on a stand-in of its gradient.

A hook works when a gradient comes to what it is on, which never happens in a trace. So after the forward pass each is
called with a tensor of the gradient's shape, and what it runs is written down as its work. One that cannot be run so
is an Op without a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from graphflops.capture.record import Hook, record_of
from graphflops.core.torch_compat import hooks_of_all_modules

Like = Callable[[torch.Tensor], torch.Tensor]
"""a new tensor of the same shape and dtype"""


def has_hooks(tensor: Any) -> bool:
    """Whether a tensor has hooks of its own."""
    return torch.is_tensor(tensor) and any(_hooks_of(tensor))


def _hooks_of(tensor: torch.Tensor) -> tuple[Any, Any]:
    return tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None)


def are_on_all_modules() -> bool:
    """Whether there are hooks that are called for any module."""
    return bool(any(hooks_of_all_modules()))


def of_tensor(tensor: torch.Tensor, node: fx.Node, like: Like) -> Iterator[Hook]:
    """The hooks of a tensor."""
    is_parameter, owner = record_of(node).is_parameter, record_of(node).module_path or ""
    before, after = _hooks_of(tensor)
    for function in (*(before or {}).values(), *(after or {}).values()):
        is_after = after is not None and function in after.values()
        run = _after_accumulation(function, tensor, like) if is_after else _on_gradient(function, tensor, like)
        yield Hook(function, run, (node,), "wgrad" if is_parameter else "dgrad", owner, tensor)


def together(hooks: Iterable[Hook], like: Like) -> Iterator[Hook]:
    """The same hooks, one that waits for the gradients of several tensors as the one that it is.

    ``torch.autograd.graph.register_multi_grad_hook`` puts one of its own on each of the tensors, and these count how
    many of them the engine will come to.
    """
    waiting: dict[int, tuple[Any, list[Hook]]] = {}
    for hook in hooks:
        own = (
            _closed_over(hook.function)
            if getattr(hook.function, "__qualname__", "").endswith("get_inner_hook.<locals>.inner_hook")
            else {}
        )
        if hook.tensor is None or not {"buffer", "fn", "idx", "len_tensors"} <= own.keys():
            yield hook
        else:
            waiting.setdefault(id(own["buffer"]), (own["fn"], []))[1].append(hook)
    for function, several in waiting.values():
        yield _of_several(function, sorted(several, key=lambda hook: _closed_over(hook.function)["idx"]), like)


def _of_several(function: Callable[..., Any], hooks: Sequence[Hook], like: Like) -> Hook:
    def run() -> None:
        function([like(hook.tensor) for hook in hooks if hook.tensor is not None])

    triggers = tuple(trigger for hook in hooks for trigger in hook.triggers)
    return Hook(function, run, triggers, hooks[0].phase, hooks[0].owner)


def _closed_over(function: Any) -> dict[str, Any]:
    cells = getattr(function, "__closure__", None) or ()
    return dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells), strict=True))


def _on_gradient(function: Callable[..., Any], tensor: torch.Tensor, like: Like) -> Callable[[], Any]:
    return lambda: function(like(tensor))


def _after_accumulation(function: Callable[..., Any], tensor: torch.Tensor, like: Like) -> Callable[[], Any]:
    def run() -> None:
        before, tensor.grad = tensor.grad, like(tensor)
        try:
            function(tensor)
        finally:
            tensor.grad = before

    return run


def of_module(
    module: nn.Module,
    path: str,
    inputs: Sequence[Any],
    result: Any,
    node_of: Callable[[torch.Tensor], fx.Node],
    like: Like,
) -> Iterator[Hook]:
    """The hooks of a module for one of its calls; they are run in order, each on what the one before it returned."""
    full, others = module._get_backward_hooks()  # type: ignore[no-untyped-call]
    before = module._get_backward_pre_hooks()  # type: ignore[no-untyped-call]
    if not (full or others or before):
        return
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    triggers = tuple(node_of(each) for each in outputs if torch.is_tensor(each) and each.requires_grad)
    if not triggers:
        return
    gradients: dict[str, Any] = {}

    def of_outputs() -> Any:
        return gradients.setdefault("outputs", _gradients(outputs, like))

    def of_inputs() -> Any:
        return gradients.setdefault("inputs", _gradients(inputs, like))

    def on_outputs(function: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> None:
            if (changed := function(module, of_outputs())) is not None:
                gradients["outputs"] = changed if isinstance(changed, tuple) else (changed,)

        return run

    def on_inputs(function: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> None:
            if (changed := function(module, of_inputs(), of_outputs())) is not None:
                gradients["inputs"] = changed if isinstance(changed, tuple) else (changed,)

        return run

    for function in before:
        yield Hook(function, on_outputs(function), triggers, "dgrad", path)
    for function in full:
        yield Hook(function, on_inputs(function), triggers, "dgrad", path)
    for function in others:
        yield Hook(function, partial(function, module, _Unsaid(), _Unsaid()), triggers, "dgrad", path)


class _Unsaid:
    """The gradients that a hook is given that is not a full one; it may ignore them, and do its own work."""

    def _refuse(self, *_: Any) -> Any:
        raise NotImplementedError("a hook that is not a full one is given gradients of whatever ran last in its module")

    __getattr__ = __getitem__ = __iter__ = __len__ = __bool__ = __eq__ = __hash__ = _refuse


def _gradients(tensors: Iterable[Any], like: Like) -> tuple[Any, ...]:
    """Gradients of those that have one, None for the others."""
    return tuple(like(each) if torch.is_tensor(each) and each.requires_grad else None for each in tensors)
