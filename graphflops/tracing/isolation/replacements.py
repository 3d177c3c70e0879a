"""The list of all attributes that are replaced while an analysis runs, by ``graphflops.tracing.isolation.patches``."""

from __future__ import annotations

import functools
import io
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from graphflops.core import torch_compat
from graphflops.core.torch_compat import FakeTensor
from graphflops.tracing.copies.copying import COMPILED_CALL
from graphflops.tracing.interception import eager_only, function_apply, interception
from graphflops.tracing.isolation.logs import wrap_log_handling
from graphflops.tracing.isolation.patches import Replacement, while_tracing
from graphflops.tracing.session.handlers import call_handler
from graphflops.tracing.session.random_numbers import drawing_functions, wrap_drawing
from graphflops.tracing.session.session import is_tracing, session


def replacements() -> Iterator[Replacement]:
    """Every replaced attribute: its owner, its name, and the function that wraps the original."""
    yield *torch_compat.function_apply(), function_apply.wrap_apply
    if not torch_compat.APPLY_IS_PYTHON:
        yield torch_compat.FunctionMeta, "__getattribute__", function_apply.wrap_attribute_lookup
    yield torch.autograd.function.FunctionCtx, "set_materialize_grads", function_apply.wrap_set_materialize_grads
    for name in ("__getattr__", "__setattr__", "__delattr__"):
        yield nn.Module, name, functools.partial(interception.wrap_attribute_access, name)
    yield *torch_compat.engine(), interception.wrap_engine
    yield torch.optim.Optimizer, "__init__", interception.wrap_optimizer_init
    yield nn.Module, COMPILED_CALL, interception.ModuleCallDescriptor
    yield nn.Module, "_apply", while_tracing(eager_only.convert_module)
    yield torch, "compile", while_tracing(eager_only.identity_compile)
    yield *torch_compat.inference_guard(), while_tracing(eager_only.InferenceModeAsNoGrad)
    yield torch, "is_inference_mode_enabled", while_tracing(eager_only.InferenceModeAsNoGrad.is_entered)
    yield torch.SymFloat, "__format__", while_tracing(lambda number, format_spec: str(number))
    if (compile_stance := torch_compat.stance()) is not None:
        yield *compile_stance, while_tracing(lambda callback: None)
    if (device_guard := torch_compat.device_guard()) is not None:
        yield *device_guard, while_tracing(lambda: None)
    if (device_check := torch_compat.flex_device_check()) is not None:
        yield *device_check, while_tracing(lambda *_: None)  # it refuses to be trained on a CPU
    for name, truth in (("isnan", False), ("isinf", False), ("isfinite", True)):
        yield math, name, functools.partial(_wrap_finite_check, truth)
    yield logging.Logger, "handle", wrap_log_handling
    for module in (torch, torch.random):
        yield module, "manual_seed", while_tracing(lambda *_: torch.default_generator)
        yield module, "seed", while_tracing(lambda: 0)
        yield module, "set_rng_state", while_tracing(lambda *_: torch.default_generator)
    for module in (torch, torch.serialization):
        yield module, "save", _wrap_save
    for name in _SETTINGS:
        yield torch, name, functools.partial(_wrap_setter, name)
    for module, name in drawing_functions():
        yield module, name, functools.partial(wrap_drawing, module, name)


def _wrap_finite_check(truth: bool, original: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Wrap ``math.isnan`` and the like: a number that data decides is taken as finite."""

    @functools.wraps(original)
    def call(number: Any) -> bool:
        is_unknown = isinstance(number, torch.SymFloat) or (isinstance(number, FakeTensor) and number.constant is None)
        return truth if is_unknown and is_tracing() else original(number)

    return call


def _wrap_save(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``torch.save``: a traced program saves to memory alone."""

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not is_tracing() or isinstance(f, io.BytesIO):
            original(obj, f, *args, **kwargs)
        elif (handler := call_handler()) is not None:
            handler.on_save()

    return save


_SETTINGS: dict[str, Callable[[], Any] | None] = {
    "set_default_dtype": torch.get_default_dtype,
    "set_num_threads": torch.get_num_threads,
    "set_float32_matmul_precision": torch.get_float32_matmul_precision,
    "set_flush_denormal": None,
}
"""setters of PyTorch, each with its getter; one without a getter sets nothing while a program is traced"""


def _wrap_setter(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a setter: the setting is restored when the program has run."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        running, getter = session(), _SETTINGS[name]
        if running is None or not is_tracing():
            return original(*args, **kwargs)
        if getter is None:
            return None
        before = getter()
        running.undo.append(lambda is_own, alone: original(before))
        return original(*args, **kwargs)

    return call
