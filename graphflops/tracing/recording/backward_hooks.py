"""Hooks of the backward pass, on tensors, parameters and modules, and how each is run on fake gradients.

Autograd runs a hook when a gradient reaches the tensor that it is on, which never happens in a trace. So after the
forward pass each hook is called with a fake gradient, and the operators that it runs are recorded as its work. A hook
that cannot be run so is an op without a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.torch_compat import hooks_of_all_modules
from graphflops.tracing.recording.record import Hook, record_of

GradientLike = Callable[[torch.Tensor], torch.Tensor]
"""returns a new tensor of the same shape and dtype"""


def has_hooks(tensor: Any) -> bool:
    """Whether a value is a tensor with hooks."""
    return torch.is_tensor(tensor) and any(_hooks_on(tensor))


def _hooks_on(tensor: torch.Tensor) -> tuple[Any, Any]:
    return tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None)


def has_global_module_hooks() -> bool:
    """Whether there are hooks that are called for any module."""
    return bool(any(hooks_of_all_modules()))


def tensor_hooks(tensor: torch.Tensor, node: fx.Node, gradient_like: GradientLike) -> Iterator[Hook]:
    """The hooks of a tensor."""
    is_parameter, module_path = record_of(node).is_parameter, record_of(node).module_path or ""
    hooks, post_accumulate_hooks = _hooks_on(tensor)
    for function in (*(hooks or {}).values(), *(post_accumulate_hooks or {}).values()):
        is_post_accumulate = post_accumulate_hooks is not None and function in post_accumulate_hooks.values()
        prepare = _run_after_accumulation if is_post_accumulate else _run_on_gradient
        run = prepare(function, tensor, gradient_like)
        yield Hook(function, run, (node,), "wgrad" if is_parameter else "dgrad", module_path, tensor)


def merge_multi_grad_hooks(hooks: Iterable[Hook], gradient_like: GradientLike) -> Iterator[Hook]:
    """The same hooks, with the parts of each multi-grad hook merged into one.

    ``torch.autograd.graph.register_multi_grad_hook`` puts a hook on each of the tensors. Together they count how many
    of the tensors the engine will reach.
    """
    parts: dict[int, tuple[Any, list[Hook]]] = {}
    for hook in hooks:
        is_part = getattr(hook.function, "__qualname__", "").endswith("get_inner_hook.<locals>.inner_hook")
        variables = _closure_variables(hook.function) if is_part else {}
        if hook.tensor is None or not {"buffer", "fn", "idx", "len_tensors"} <= variables.keys():
            yield hook
        else:
            parts.setdefault(id(variables["buffer"]), (variables["fn"], []))[1].append(hook)
    for function, merged in parts.values():
        merged.sort(key=lambda hook: _closure_variables(hook.function)["idx"])
        yield _multi_grad_hook(function, merged, gradient_like)


def _multi_grad_hook(function: Callable[..., Any], hooks: Sequence[Hook], gradient_like: GradientLike) -> Hook:
    def run() -> None:
        function([gradient_like(hook.tensor) for hook in hooks if hook.tensor is not None])

    triggers = tuple(trigger for hook in hooks for trigger in hook.triggers)
    return Hook(function, run, triggers, hooks[0].phase, hooks[0].owner)


def _closure_variables(function: Any) -> dict[str, Any]:
    cells = getattr(function, "__closure__", None) or ()
    return dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells), strict=True))


def _run_on_gradient(
    function: Callable[..., Any], tensor: torch.Tensor, gradient_like: GradientLike
) -> Callable[[], Any]:
    return lambda: function(gradient_like(tensor))


def _run_after_accumulation(
    function: Callable[..., Any], tensor: torch.Tensor, gradient_like: GradientLike
) -> Callable[[], Any]:
    def run() -> None:
        original, tensor.grad = tensor.grad, gradient_like(tensor)
        try:
            function(tensor)
        finally:
            tensor.grad = original

    return run


def module_hooks(
    module: nn.Module,
    path: str,
    inputs: Sequence[Any],
    result: Any,
    node_of: Callable[[torch.Tensor], fx.Node],
    gradient_like: GradientLike,
) -> Iterator[Hook]:
    """The backward hooks of a module for one of its calls; they run in order, each on the result of the one before."""
    full_hooks, non_full_hooks = module._get_backward_hooks()  # type: ignore[no-untyped-call]
    pre_hooks = module._get_backward_pre_hooks()  # type: ignore[no-untyped-call]
    if not (full_hooks or non_full_hooks or pre_hooks):
        return
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    triggers = tuple(node_of(output) for output in outputs if torch.is_tensor(output) and output.requires_grad)
    if not triggers:
        return
    gradients: dict[str, Any] = {}

    def grad_outputs() -> Any:
        return gradients.setdefault("outputs", _gradients(outputs, gradient_like))

    def grad_inputs() -> Any:
        return gradients.setdefault("inputs", _gradients(inputs, gradient_like))

    def run_pre_hook(function: Callable[..., Any]) -> None:
        if (changed := function(module, grad_outputs())) is not None:
            gradients["outputs"] = changed if isinstance(changed, tuple) else (changed,)

    def run_full_hook(function: Callable[..., Any]) -> None:
        if (changed := function(module, grad_inputs(), grad_outputs())) is not None:
            gradients["inputs"] = changed if isinstance(changed, tuple) else (changed,)

    for function in pre_hooks:
        yield Hook(function, partial(run_pre_hook, function), triggers, "dgrad", path)
    for function in full_hooks:
        yield Hook(function, partial(run_full_hook, function), triggers, "dgrad", path)
    for function in non_full_hooks:
        run = partial(function, module, _UnknownGradients(), _UnknownGradients())
        yield Hook(function, run, triggers, "dgrad", path)


class _UnknownGradients:
    """The gradients that a non-full backward hook is called with; it may ignore them, and do work of its own."""

    def _refuse(self, *_: Any) -> Any:
        raise NotImplementedError("a non-full backward hook gets the gradients of the last operator in its module")

    __getattr__ = __getitem__ = __iter__ = __len__ = __bool__ = __eq__ = __hash__ = _refuse


def _gradients(tensors: Iterable[Any], gradient_like: GradientLike) -> tuple[Any, ...]:
    """A gradient for each tensor that requires grad, and None for any other value."""
    return tuple(
        gradient_like(tensor) if torch.is_tensor(tensor) and tensor.requires_grad else None for tensor in tensors
    )
