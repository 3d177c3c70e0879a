"""Interception of ``autograd.Function.apply``, also of an ``apply`` that a program looked up before the analysis began.

Where ``apply`` is written in Python, one that was looked up earlier calls the function that is replaced here. Since
PyTorch 2.15 it is a C++ function, which reads attributes of its Function and calls its ``forward``. There the first
read shows that an ``apply`` has begun that was not intercepted, and the ``forward`` that it gets passes the call to the
handler, which applies the Function as any other. The outer ``apply`` returns the results of the inner one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch

from graphflops.core.torch_compat import APPLY_IS_PYTHON, BACKWARD, SingleLevelFunction, function_apply
from graphflops.tracing.session.handlers import call_handler

_MATERIALIZES = "_graphflops_materializes_grads"


class _ThreadState(threading.local):
    intercepted: Any = None
    """the Function whose intercepted ``apply`` is about to begin"""
    begun: tuple[Any, bool] | None = None
    """the Function whose ``apply`` has begun without interception, and whether grad was enabled"""
    pending_marks: tuple[Any, Callable[[Any], None]] | None = None
    """a Function whose context is still to be marked with properties of its results, and the function that marks it"""


class _Context(Protocol):
    def mark_dirty(self, *tensors: torch.Tensor) -> None: ...

    def mark_non_differentiable(self, *tensors: torch.Tensor) -> None: ...


_thread = _ThreadState()


def wrap_apply(original: Any) -> Any:
    """Wrap ``autograd.Function.apply``: calls are passed to the handler of the thread."""
    owner: Any = function_apply()[0]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        call = super(owner, cls).apply
        handler = call_handler()
        if handler is None:
            return call(*args, **kwargs)
        return handler.on_autograd_function(call if APPLY_IS_PYTHON else _intercepted(cls, call), cls, args, kwargs)

    return classmethod(apply)


def _intercepted(cls: type, call: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*args: Any, **kwargs: Any) -> Any:
        before, _thread.intercepted = _thread.intercepted, cls
        try:
            return call(*args, **kwargs)
        finally:
            _thread.intercepted = before

    return apply


def wrap_attribute_lookup(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``__getattribute__`` of the class of Functions, which shows an ``apply`` that was not intercepted."""

    def get(cls: Any, name: str) -> Any:
        value = original(cls, name)
        if name == BACKWARD and call_handler() is not None and issubclass(cls, torch.autograd.Function):
            if _thread.intercepted is cls:
                _thread.intercepted = None
            else:
                _thread.begun = cls, torch.is_grad_enabled()
        elif (
            name == "forward" and _thread.begun is not None and _thread.begun[0] is cls and not torch.is_grad_enabled()
        ):
            grad, _thread.begun = _thread.begun[1], None
            return _forward(cls, grad)
        elif name == "setup_context" and _thread.pending_marks is not None and _thread.pending_marks[0] is cls:
            mark, _thread.pending_marks = _thread.pending_marks[1], None
            return lambda ctx, inputs, output: mark(ctx)
        return value

    return get


def _forward(cls: Any, grad: bool) -> Callable[..., Any]:
    """A ``forward`` that has the handler apply the Function, and marks the context with properties of the results."""
    takes_context = cls.setup_context is torch.autograd.Function.setup_context

    def forward(*context_and_args: Any) -> Any:
        handler = call_handler()
        assert handler is not None, "a Function is applied while an analysis runs"
        args = context_and_args[1:] if takes_context else context_and_args
        apply = _intercepted(cls, super(SingleLevelFunction, cls).apply)
        with torch.set_grad_enabled(grad):
            result = handler.on_autograd_function(apply, cls, args, {})

        def mark(ctx: _Context) -> None:
            results = result if isinstance(result, tuple) else (result,)
            tensors = [tensor for tensor in results if torch.is_tensor(tensor)]
            ctx.mark_dirty(*(tensor for tensor in tensors if any(tensor is arg for arg in args)))
            ctx.mark_non_differentiable(*(tensor for tensor in tensors if not tensor.requires_grad))

        if takes_context:
            mark(context_and_args[0])
        else:
            _thread.pending_marks = cls, mark
        return result

    return forward


def wrap_set_materialize_grads(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``FunctionCtx.set_materialize_grads``: the setting can be read, which PyTorch's own cannot."""

    def set_materialize_grads(ctx: Any, value: bool) -> None:
        original(ctx, value)
        vars(ctx)[_MATERIALIZES] = bool(value)

    return set_materialize_grads


def materializes_grads(ctx: Any) -> bool:
    """Whether the backward of a Function gets zeros, and not None, for a result that no gradient comes to."""
    return bool(vars(ctx).get(_MATERIALIZES, True))
