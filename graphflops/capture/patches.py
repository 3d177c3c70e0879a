"""All that is replaced for the whole process while an analysis runs; it looks at the thread, and acts there alone.

PyTorch has no hook of its own for these, and Python none for its random numbers. Everybody else's calls go where they
went before, and after the last analysis everything is the object that it was.
"""

from __future__ import annotations

import functools
import importlib.machinery
import io
import logging
import math
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from graphflops.capture.copying import HOOK
from graphflops.capture.isolation import in_analysis, is_tracing, session
from graphflops.core.torch_compat import (
    APPLY_IS_PYTHON,
    FAKE_TENSOR_LOG,
    DisableTorchFunction,
    FakeTensor,
    FunctionMeta,
    device_guard,
    engine,
    export_module,
    flex_device_check,
    function_apply,
    inference_guard,
    no_dispatch_modes,
    stance,
)

Wrap = Callable[[Any], Any]
"""makes of a function what is put in its place"""

_LOG = logging.getLogger(FAKE_TENSOR_LOG)
"""where PyTorch logs an operator that fails on fake tensors with its traceback, which is in the error that is raised"""
_gate = threading.Lock()
_installed: list[_Replaced] = []
_users = 0


@contextmanager
def installed() -> Iterator[None]:
    """Everything is replaced while this is open, by whomever it was opened first."""
    global _users
    with _gate:
        if not _users:
            _installed.append(_Replaced())
        _users += 1
    try:
        yield
    finally:
        with _gate:
            _users -= 1
            if not _users:
                _installed.pop().close()


class _Replaced:
    """All that is replaced; nothing of it, if something cannot be."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []
        self._finder = _Outside()
        sys.meta_path.insert(0, self._finder)
        try:
            for owner, name, wrap in _replacements():
                value = wrap(getattr(owner, name))
                self._before.append((owner, name, vars(owner).get(name, _INHERITED)))
                setattr(owner, name, value)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Put back what was there."""
        while self._before:
            owner, name, before = self._before.pop()
            delattr(owner, name) if before is _INHERITED else setattr(owner, name, before)
        sys.meta_path.remove(self._finder)


_INHERITED = object()


def _replacements() -> Iterator[tuple[Any, str, Wrap]]:
    from graphflops.capture import custom_functions, eager_only, interception
    from graphflops.capture import function_apply as applied

    yield *function_apply(), applied.wrap_apply
    if not APPLY_IS_PYTHON:
        yield FunctionMeta, "__getattribute__", applied.wrap_attribute_lookup
    yield torch.autograd.function.FunctionCtx, "set_materialize_grads", custom_functions.wrap_set_materialize_grads
    for name in ("__getattr__", "__setattr__", "__delattr__"):
        yield nn.Module, name, functools.partial(interception.wrap_attribute_access, name)
    yield *engine(), interception.wrap_engine
    yield torch.optim.Optimizer, "__init__", interception.wrap_optimizer_init
    yield nn.Module, HOOK, interception.ModuleCallDescriptor
    yield nn.Module, "_apply", _in_a_trace(eager_only.converted)
    yield torch, "compile", _in_a_trace(eager_only.uncompiled)
    yield *inference_guard(), _in_a_trace(eager_only.WithoutGrad)
    yield torch, "is_inference_mode_enabled", _in_a_trace(eager_only.WithoutGrad.is_entered)
    yield torch.SymFloat, "__format__", _in_a_trace(lambda number, how: str(number))  # however it is to be rounded
    if (compiles := stance()) is not None:
        yield *compiles, _in_a_trace(lambda callback: None)
    if (guard := device_guard()) is not None:
        yield *guard, _in_a_trace(lambda: None)
    if (flex := flex_device_check()) is not None:
        yield *flex, _in_a_trace(lambda *_: None)  # it refuses to be trained on a CPU
    for name, truth in (("isnan", False), ("isinf", False), ("isfinite", True)):
        yield math, name, functools.partial(_of_any_number, truth)
    yield logging.Logger, "handle", _unless_quiet
    for module, name in _SEEDS:
        yield module, name, _in_a_trace(_no_seed if name == "seed" else lambda *_: torch.default_generator)
    for module in (torch, torch.serialization):
        yield module, "save", _not_saved
    for name in _SETTINGS:
        yield torch, name, functools.partial(_put_back_later, name)
    for module, name, _ in _drawing():
        yield module, name, functools.partial(_wrap_drawing, module, name)


def _in_a_trace(other: Callable[..., Any]) -> Wrap:
    """While a program is traced in this thread, another function instead."""

    def wrap(original: Any) -> Any:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (other if is_tracing() else original)(*args, **kwargs)

        return call

    return wrap


def _of_any_number(truth: bool, original: Any) -> Any:
    """The answer for a number that data decides: it is one, neither infinite nor NaN."""

    @functools.wraps(original)
    def call(number: Any) -> bool:
        unknown = isinstance(number, torch.SymFloat) or (isinstance(number, FakeTensor) and number.constant is None)
        return truth if unknown and is_tracing() else original(number)

    return call


# -- settings ------------------------------------------------------------------------------------------------------

_SEEDS = [(torch, "manual_seed"), (torch.random, "manual_seed"), (torch, "seed"), (torch.random, "seed")]
_SEEDS += [(torch, "set_rng_state"), (torch.random, "set_rng_state")]
_SETTINGS = {
    "set_default_dtype": torch.get_default_dtype,
    "set_num_threads": torch.get_num_threads,
    "set_float32_matmul_precision": torch.get_float32_matmul_precision,
    "set_flush_denormal": None,
}


def _no_seed() -> int:
    """A seed that nobody draws by: the generator of all threads keeps its own."""
    return 0


def _put_back_later(name: str, original: Any) -> Any:
    """A setter: what it sets while a program is traced is put back when the analysis ends."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        here, get = session(), _SETTINGS[name]
        if here is None or not is_tracing():
            return original(*args, **kwargs)
        if get is None:
            return None
        before = get()
        here.undo.append(lambda is_own, alone: original(before))
        return original(*args, **kwargs)

    return call


def _not_saved(original: Any) -> Any:
    """``torch.save``: while a program is traced, to memory alone."""

    @functools.wraps(original)
    def call(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        from graphflops.capture.interception import call_handler

        if not is_tracing() or isinstance(f, io.BytesIO):
            return original(obj, f, *args, **kwargs)
        if (handler := call_handler()) is not None:
            handler.saved()
        return None

    return call


# -- random numbers ------------------------------------------------------------------------------------------------


def _drawing() -> Iterator[tuple[ModuleType, str, Any]]:
    """The functions of Python's and numpy's that draw from, or write to, the generator that all threads share."""
    for name, value in vars(random).items():
        if getattr(value, "__self__", None) is random._inst:
            yield random, name, value
    if (numpy := sys.modules.get("numpy.random")) is not None and hasattr(numpy, "mtrand"):
        for name, value in vars(numpy).items():
            if getattr(value, "__self__", None) is numpy.mtrand._rand or name in ("seed", "ranf", "sample"):
                yield numpy, name, value


def _wrap_drawing(module: ModuleType, name: str, original: Any) -> Any:
    """While a program is traced, drawn from a generator of the analysis's own."""
    if id(original) in _APART:
        return _APART[id(original)][1]

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        here = session()
        if here is None or not is_tracing():
            return original(*args, **kwargs)
        if name != "getstate" and name != "get_state":
            from graphflops.capture.interception import call_handler

            here.draws += 1
            if (handler := call_handler()) is not None:
                handler.drew(f"{module.__name__}.{name}")
        return getattr(here.generator_for(module), name)(*args, **kwargs)

    _APART[id(original)] = original, call
    return call


_APART: dict[int, tuple[Any, Any]] = {}


def with_own_generator(function: Any) -> Any:
    """What stands in the place of a function that draws random numbers; None if it is none."""
    original, call = _APART.get(id(function), (None, None))
    return call if original is function and function is not None else None


# -- imports and logs ----------------------------------------------------------------------------------------------


_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "graphflops"})


class _Outside:
    """What a program imports while it is traced is imported as outside: constants of a package are no fake tensors."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that others find, with a loader that runs the module without modes."""
        if not is_tracing() or name.partition(".")[0] in _LIBRARIES:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if finder is not self and find is not None else None
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader:
    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        with outside():
            self.loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


@contextmanager
def outside() -> Iterator[None]:
    """As if nothing were traced, in this thread."""
    from graphflops.capture.isolation import not_tracing

    with not_tracing(), no_dispatch_modes(), DisableTorchFunction(), torch.enable_grad():
        yield


class _Thread(threading.local):
    is_quiet: bool = False


_thread = _Thread()


@contextmanager
def silence_export() -> Iterator[None]:
    """What torch.export logs and prints of a program that it gives up, in this thread, is not heard.

    It calls ``print``, which its module has from here on a name of its own for: that of Python for everybody else.
    """
    vars(export_module()).setdefault("print", _print)
    before, _thread.is_quiet = _thread.is_quiet, True
    try:
        yield
    finally:
        _thread.is_quiet = before


def _print(*values: Any, **options: Any) -> None:
    if not _thread.is_quiet:
        print(*values, **options)


def _unless_quiet(original: Any) -> Any:
    @functools.wraps(original)
    def handle(logger: logging.Logger, record: logging.LogRecord) -> None:
        if not (_thread.is_quiet or (logger is _LOG and in_analysis())):
            original(logger, record)

    return handle
