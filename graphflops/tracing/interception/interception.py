"""Interception of the calls of a traced program: modules, torch functions, operators, autograd's engine, optimizers."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graphflops.core.torch_compat import (
    DisableTorchFunction,
    FakeTensor,
    OpOverload,
    TorchDispatchMode,
)
from graphflops.tracing.interception.eager_only import eager_reference_mode
from graphflops.tracing.interception.foreach import foreach_loop
from graphflops.tracing.session.handlers import CallHandler, call_handler, handled_by
from graphflops.tracing.values.constant_propagation import ConstantPropagation

_DEVICE = torch.ops.prim.device.default
_OVERRIDE_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@contextmanager
def intercept(handler: CallHandler, values: ConstantPropagation) -> Iterator[None]:
    """Pass every call of this thread to a handler while this is open."""
    with handled_by(handler), _Operators(handler), intercept_functions(handler, values):
        yield


@contextmanager
def intercept_functions(handler: CallHandler, values: ConstantPropagation) -> Iterator[None]:
    """Pass calls of functions alone: autograd runs a backward pass without the modes that intercept these."""
    with _Functions(handler), eager_reference_mode(values, handler.decide):
        yield


@contextmanager
def intercept_operators(handler: CallHandler) -> Iterator[None]:
    """Pass calls of operators alone: code that is not written in Python calls no functions."""
    with _Operators(handler), DisableTorchFunction():
        yield


def wrap_engine(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that runs autograd's engine: its calls are passed to the handler of the thread."""

    @functools.wraps(original)
    def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
        handler = call_handler()
        return original(roots, *args, **kwargs) if handler is None else handler.on_engine(original, roots, args, kwargs)

    return run


def wrap_optimizer_init(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Optimizer.__init__``: the steps of an optimizer that the program creates are passed to its handler."""

    @functools.wraps(original)
    def initialize(optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        if call_handler() is not None:
            intercept_steps(optimizer)

    return initialize


def intercept_steps(optimizer: Any) -> None:
    """Have an optimizer, which is the trace's own, pass its steps to the handler of its thread."""
    attributes = vars(optimizer)
    own = attributes.get("step")
    step: Any = type(optimizer).step if own is None else own

    @functools.wraps(step)
    def intercepted_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = types.MethodType(step, self) if own is None else own
        handler = call_handler()
        return call(*args, **kwargs) if handler is None else handler.on_optimizer(call, self, args, kwargs)

    attributes["step"] = types.MethodType(intercepted_step, optimizer)


class ModuleCallDescriptor:
    """``nn.Module._compiled_call_impl``, which PyTorch calls in place of a module if it is there.

    It is in the class, so that a module whose attributes were copied is called itself, and not the original of its
    attributes.
    """

    def __init__(self, original: Any) -> None:
        self.original = original

    def __get__(self, module: nn.Module | None, cls: Any = None) -> Any:
        handler = call_handler()
        return self.original if handler is None or module is None else handler.call_of(module)


def wrap_attribute_access(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``nn.Module.__getattr__``, ``__setattr__`` or ``__delattr__``: calls are passed to the handler."""
    event = f"on{name.rstrip('_').replace('__', '_')}"  # on_getattr

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any) -> Any:
        handler = call_handler()
        return original(module, *args) if handler is None else getattr(handler, event)(original, module, *args)

    return call


class FunctionBodyMode(TorchFunctionMode):
    """A mode that also intercepts the calls inside of torch functions that are written in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: set[Any] = set()

    def run(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function; if it is written in Python, with its body under this mode.

        A mode is passed such a function whole. This way the attention inside of F.multi_head_attention_forward is
        intercepted as attention.
        """
        if isinstance(function, types.FunctionType) and function not in self.inside:
            self.inside.add(function)
            try:
                with self:
                    return _body(function)(*args, **kwargs)
            finally:
                self.inside.discard(function)
        return function(*args, **kwargs)


class _Functions(FunctionBodyMode):
    """Intercepts calls of torch functions and tensor methods."""

    def __init__(self, handler: CallHandler) -> None:
        super().__init__()
        self.handler = handler

    def __torch_function__(self, function: Any, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_leaf, result = self.handler.on_function(function, args, kwargs)
        return result if is_leaf else self.run(function, args, kwargs)


class _Operators(TorchDispatchMode):
    """Intercepts the operators that autograd differentiates, below everything composite."""

    def __init__(self, handler: CallHandler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.handler = handler

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing compiles here; PyTorch's own answer takes longer than most operators

    def __torch_dispatch__(self, op: OpOverload, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].device  # autograd asks for it several times an operator
        if self.handler.recording and (loop := foreach_loop(op)) is not None:
            with self:  # where functions are not intercepted, as in a backward pass
                results = loop(*args, **(kwargs or {}))
            return results if op._schema.returns else None
        return self.handler.on_operator(op, args, kwargs or {})


def is_interceptor(mode: Any) -> bool:
    """Whether a dispatch mode is one of this file."""
    return isinstance(mode, _Operators)


def _body(function: types.FunctionType) -> types.FunctionType:
    """The same function without its check for modes at its entrance."""
    no_overrides = dict.fromkeys(_OVERRIDE_CHECKS, lambda *_: False)
    body = types.FunctionType(
        function.__code__,
        function.__globals__ | no_overrides,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body
