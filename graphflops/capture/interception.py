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
from graphflops.capture.eager_only import plainly
from graphflops.capture.foreach import of_each
from graphflops.core.torch_compat import (
    DisableTorchFunction,
    FakeTensor,
    OpOverload,
    TorchDispatchMode,
)

_DEVICE = torch.ops.prim.device.default
_QUESTIONS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class Listener(Protocol):
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
    listener: Listener | None = None


_here = _Here()


def listener() -> Listener | None:
    """Who listens to the calls of this thread."""
    return _here.listener


@contextmanager
def watching(listener: Listener, values: ConstantPropagation) -> Iterator[None]:
    """Tell a listener of every call in this thread while this is open."""
    before, _here.listener = _here.listener, listener
    try:
        with _Operators(listener), watching_functions(listener, values):
            yield
    finally:
        _here.listener = before


@contextmanager
def watching_functions(listener: Listener, values: ConstantPropagation) -> Iterator[None]:
    """Tell of functions alone: autograd runs a backward pass without the modes that see these."""
    with _Functions(listener), plainly(values, listener.decide):
        yield


def engine_watched(original: Any) -> Any:
    """What runs autograd's engine, told to the listener of its thread."""

    @functools.wraps(original)
    def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
        here = _here.listener
        return original(roots, *args, **kwargs) if here is None else here.on_engine(original, roots, args, kwargs)

    return run


def made_watched(original: Any) -> Any:
    """``Optimizer.__init__``, so that the steps of an optimizer that a program makes are told to its listener."""

    @functools.wraps(original)
    def initialize(optimizer: Any, *args: Any, **kwargs: Any) -> None:
        original(optimizer, *args, **kwargs)
        if _here.listener is not None:
            watch_steps(optimizer)

    return initialize


def watch_steps(optimizer: Any) -> None:
    """Have an optimizer that is no one's but a trace's tell the listener of its thread of its steps."""
    attributes = vars(optimizer)
    own = attributes.get("step")
    step: Any = type(optimizer).step if own is None else own

    @functools.wraps(step)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = types.MethodType(step, self) if own is None else own
        here = _here.listener
        return call(*args, **kwargs) if here is None else here.on_optimizer(call, self, args, kwargs)

    attributes["step"] = types.MethodType(watched, optimizer)


class CallWatched:
    """``nn.Module._compiled_call_impl``, which PyTorch calls in place of a module if it is there.

    It belongs to the class, so that a module that was copied by its attributes is called itself, and not the one that
    they are of.
    """

    def __init__(self, original: Any) -> None:
        self.original = original

    def __get__(self, module: nn.Module | None, cls: Any = None) -> Any:
        here = _here.listener
        return self.original if here is None or module is None else here.watched(module)


def attribute_watched(name: str, original: Any) -> Any:
    """``nn.Module.__getattr__``, or another one of its kind, that tells the listener of its thread."""
    event = f"on{name.rstrip('_').replace('__', '_')}"  # on_getattr

    @functools.wraps(original)
    def call(module: nn.Module, *args: Any) -> Any:
        here = _here.listener
        return original(module, *args) if here is None else getattr(here, event)(original, module, *args)

    return call


class SeesBodies(TorchFunctionMode):
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


class _Functions(SeesBodies):
    """Sees calls of torch functions and tensor methods."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener

    def __torch_function__(self, function: Any, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_leaf, result = self.listener.on_function(function, args, kwargs)
        return result if is_leaf else self.run(function, args, kwargs)


class _Operators(TorchDispatchMode):
    """Sees the operators that autograd differentiates, below everything composite."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.listener = listener

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing compiles here; saying so for each operator takes longer than most of them

    def __torch_dispatch__(self, op: OpOverload, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].device  # autograd asks for it several times an operator
        if self.listener.recording and (one := of_each(op)) is not None:
            with self:  # where functions are not seen, as in a backward pass
                results = one(*args, **(kwargs or {}))
            return results if op._schema.returns else None
        return self.listener.on_operator(op, args, kwargs or {})


@contextmanager
def watching_operators(listener: Listener) -> Iterator[None]:
    """Tell of operators alone: what is not written in Python calls no functions."""
    with _Operators(listener), DisableTorchFunction():
        yield


def is_watching(mode: Any) -> bool:
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
