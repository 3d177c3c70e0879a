"""Calls of ``autograd.Function.apply``, also of an ``apply`` that a program took before the analysis began.

Where ``apply`` is written in Python, one that was taken earlier calls what is replaced here. Since PyTorch 2.15 it is a
C++ function, which reads its Function's attributes and calls its ``forward``: there the first of these reads tells that
an ``apply`` has begun that nobody announced, and the ``forward`` that it gets tells the call handler, which applies the
Function as any other. What the outer ``apply`` makes of the results is what the inner one made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch

from graphflops.capture.interception import call_handler
from graphflops.core.torch_compat import APPLY_IS_PYTHON, BACKWARD, SingleLevelFunction, function_apply


class _Here(threading.local):
    announced: Any = None
    """the Function that is about to be applied, as the handler knows"""
    begun: tuple[Any, bool] | None = None
    """the Function whose ``apply`` has begun by itself, and whether grad was enabled"""
    marks: tuple[Any, Callable[[Any], None]] | None = None
    """a Function whose context is still to be told of its results, and how"""


class _Context(Protocol):
    def mark_dirty(self, *tensors: torch.Tensor) -> None: ...

    def mark_non_differentiable(self, *tensors: torch.Tensor) -> None: ...


_here = _Here()


def wrap_apply(original: Any) -> Any:
    """``autograd.Function.apply`` that reports to the call handler of its thread."""
    owner: Any = function_apply()[0]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        call = super(owner, cls).apply
        handler = call_handler()
        if handler is None:
            return call(*args, **kwargs)
        return handler.on_autograd_function(call if APPLY_IS_PYTHON else _announced(cls, call), cls, args, kwargs)

    return classmethod(apply)


def _announced(cls: type, call: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*args: Any, **kwargs: Any) -> Any:
        before, _here.announced = _here.announced, cls
        try:
            return call(*args, **kwargs)
        finally:
            _here.announced = before

    return apply


def wrap_attribute_lookup(original: Any) -> Any:
    """``__getattribute__`` of the class of Functions, by which an ``apply`` is seen that nobody announced."""

    def get(cls: Any, name: str) -> Any:
        value = original(cls, name)
        if name == BACKWARD and call_handler() is not None and issubclass(cls, torch.autograd.Function):
            if _here.announced is cls:
                _here.announced = None
            else:
                _here.begun = cls, torch.is_grad_enabled()
        elif name == "forward" and _here.begun is not None and _here.begun[0] is cls and not torch.is_grad_enabled():
            grad, _here.begun = _here.begun[1], None
            return _forward(cls, grad)
        elif name == "setup_context" and _here.marks is not None and _here.marks[0] is cls:
            mark, _here.marks = _here.marks[1], None
            return lambda ctx, inputs, output: mark(ctx)
        return value

    return get


def _forward(cls: Any, grad: bool) -> Callable[..., Any]:
    """A ``forward`` that applies its Function, as the handler has it, and tells the context of the results."""
    takes_context = cls.setup_context is torch.autograd.Function.setup_context

    def forward(*given: Any) -> Any:
        handler = call_handler()
        assert handler is not None, "a Function is applied while an analysis runs"
        args = given[1:] if takes_context else given
        apply = _announced(cls, super(SingleLevelFunction, cls).apply)
        with torch.set_grad_enabled(grad):
            result = handler.on_autograd_function(apply, cls, args, {})

        def mark(ctx: _Context) -> None:
            results = [each for each in (result if isinstance(result, tuple) else (result,)) if torch.is_tensor(each)]
            ctx.mark_dirty(*(each for each in results if any(each is one for one in args)))
            ctx.mark_non_differentiable(*(each for each in results if not each.requires_grad))

        if takes_context:
            mark(given[0])
        else:
            _here.marks = cls, mark
        return result

    return forward
