"""The watchers of a trace: modules, autograd Functions, functions, operators. They leave nothing behind."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from graphflops.capture.constant_propagation import ConstantPropagation
from graphflops.capture.eager_only import eager_reference_mode
from graphflops.capture.foreach import foreach_loop
from graphflops.core.torch_compat import (
    DisableTorchFunction,
    FakeTensor,
    OpOverload,
    TorchDispatchMode,
)

_DEVICE = torch.ops.prim.device.default
_QUESTIONS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class CallHandler(Protocol):
    """Who is told what the watchers see; each answers with the result of the call."""

    recording: bool
    """whether what is seen is written down"""

    def watched(self, module: nn.Module) -> Callable[..., Any]:
        """What is called in the place of a module."""

    def on_module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A module is called; ``call`` is what calls it."""

    def on_autograd_function(self, apply: Callable[..., Any], cls: type, args: Any, kwargs: Any) -> Any:
        """A subclass of autograd.Function is applied; ``apply`` is what applies it."""

    def on_engine(self, call: Callable[..., Any], roots: Any, args: Any, kwargs: Any) -> Any:
        """Autograd's engine is run back from some tensors; ``call`` runs it."""

    def on_optimizer(self, call: Callable[..., Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """An optimizer steps; ``call`` is its step."""

    def on_function(self, function: Any, args: Any, kwargs: Any) -> tuple[bool, Any]:
        """A torch function or method is called; whether it is a leaf, and then its result."""

    def on_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """An operator that autograd differentiates runs."""

    def on_getattr(self, get: Callable[..., Any], module: nn.Module, name: str) -> Any:
        """An attribute is asked for that Python does not find by itself; ``get`` is how PyTorch finds it."""

    def on_setattr(self, put: Callable[..., Any], module: nn.Module, name: str, value: Any) -> None:
        """An attribute of a module is written."""

    def on_delattr(self, remove: Callable[..., Any], module: nn.Module, name: str) -> None:
        """An attribute of a module is deleted."""

    def drew(self, name: str) -> None:
        """A random number was drawn from the analysis's own generator in place of the one of this function."""

    def saved(self) -> None:
        """A program had something saved to a file, and nothing was."""

    def decide(self, truth: torch.Tensor) -> bool:
        """A program branches on a truth value."""


class _Here(threading.local):
    handler: CallHandler | None = None


_here = _Here()


def call_handler() -> CallHandler | None:
    """Who listens to the calls of this thread."""
    return _here.handler


@contextmanager
def intercept(handler: CallHandler, values: ConstantPropagation) -> Iterator[None]:
    """Pass to a handler every call in this thread while this is open."""
    before, _here.handler = _here.handler, handler
    try:
        with _Operators(handler), intercept_functions(handler, values):
            yield
    finally:
        _here.handler = before


@contextmanager
def intercept_functions(handler: CallHandler, values: ConstantPropagation) -> Iterator[None]:
    """Tell of functions alone: autograd runs a backward pass without the modes that see these."""
    with _Functions(handler), eager_reference_mode(values, handler.decide):
        yield


def wrap_engine(original: Any) -> Any:
    """What runs autograd's engine, reported to the handler of its thread."""

    @functools.wraps(original)
    def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
        handler = _here.handler
        return original(roots, *args, **kwargs) if handler is None else handler.on_engine(original, roots, args, kwargs)

    return run


def wrap_optimizer_init(original: Any) -> Any:
    """``Optimizer.__init__``, so that the steps of an optimizer that a program makes are told to its handler."""

    @functools.wraps(original)
    def initialize(optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        if _here.handler is not None:
            intercept_steps(optimizer)

    return initialize


def intercept_steps(optimizer: Any) -> None:
    """Have an optimizer that is no one's but a trace's report its steps to the handler of its thread."""
    attributes = vars(optimizer)
    own = attributes.get("step")
    step: Any = type(optimizer).step if own is None else own

    @functools.wraps(step)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = types.MethodType(step, self) if own is None else own
        handler = _here.handler
        return call(*args, **kwargs) if handler is None else handler.on_optimizer(call, self, args, kwargs)

    attributes["step"] = types.MethodType(watched, optimizer)


class ModuleCallDescriptor:
    """``nn.Module._compiled_call_impl``, which PyTorch calls in place of a module if it is there.

    It belongs to the class, so that a module that was copied by its attributes is called itself, and not the one that
    they are of.
    """

    def __init__(self, original: Any) -> None:
        self.original = original

    def __get__(self, module: nn.Module | None, cls: Any = None) -> Any:
        handler = _here.handler
        return self.original if handler is None or module is None else handler.watched(module)


def wrap_attribute_access(name: str, original: Any) -> Any:
    """``nn.Module.__getattr__``, or another one of its kind, that reports to the handler of its thread."""
    event = f"on{name.rstrip('_').replace('__', '_')}"  # on_getattr

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any) -> Any:
        handler = _here.handler
        return original(module, *args) if handler is None else getattr(handler, event)(original, module, *args)

    return call


class FunctionBodyMode(TorchFunctionMode):
    """A mode that also sees what torch functions call that are written in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: set[Any] = set()

    def run(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Call a function; one that is written in Python with its body under this mode.

        Such a function hands itself over as a whole. So the attention inside of F.multi_head_attention_forward is seen
        as attention.
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
    """Sees calls of torch functions and tensor methods."""

    def __init__(self, handler: CallHandler) -> None:
        super().__init__()
        self.handler = handler

    def __torch_function__(self, function: Any, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_leaf, result = self.handler.on_function(function, args, kwargs)
        return result if is_leaf else self.run(function, args, kwargs)


class _Operators(TorchDispatchMode):
    """Sees the operators that autograd differentiates, below everything composite."""

    def __init__(self, handler: CallHandler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.handler = handler

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing compiles here; saying so for each operator takes longer than most of them

    def __torch_dispatch__(self, op: OpOverload, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].device  # autograd asks for it several times an operator
        if self.handler.recording and (one := foreach_loop(op)) is not None:
            with self:  # where functions are not seen, as in a backward pass
                results = one(*args, **(kwargs or {}))
            return results if op._schema.returns else None
        return self.handler.on_operator(op, args, kwargs or {})


@contextmanager
def intercept_operators(handler: CallHandler) -> Iterator[None]:
    """Tell of operators alone: what is not written in Python calls no functions."""
    with _Operators(handler), DisableTorchFunction():
        yield


def is_interceptor(mode: Any) -> bool:
    """Whether a mode of operators is one of these watchers."""
    return isinstance(mode, _Operators)


def _body(function: types.FunctionType) -> types.FunctionType:
    """The same function, blind to modes at its own entrance: its body, with the question answered no."""
    blind = dict.fromkeys(_QUESTIONS, lambda *_: False)
    copy = types.FunctionType(
        function.__code__,
        function.__globals__ | blind,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
