"""Check the arguments of ``analyze`` and ``capture`` before any of them is used."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from graphflops.analysis.inputs import Inputs, InputsLike, Sizes, read_inputs
from graphflops.core.errors import CaptureError, GraphflopsError, UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, format_value, location_of
from graphflops.core.torch_compat import tree_leaves
from graphflops.report.conventions import Convention
from graphflops.tracing.values.faults import raised_by_user

QUANTIZED = frozenset({torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4})

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def model_and_inputs(
    model: Any, args: InputsLike, kwargs: Mapping[str, Any] | None, input_size: Sizes | None = None
) -> tuple[Callable[..., Any], Inputs]:
    """Return a model, an instance if it was a class, and the inputs that the arguments describe; both checked.

    Raises:
        UsageError: one of them cannot be used; the message says what to write.
    """
    model, notes = built(model)
    check_model(model)
    inputs = read_inputs(model, args, kwargs, input_size)
    check_inputs(inputs.args, inputs.kwargs)
    return model, inputs._replace(notes=(*notes, *inputs.notes))


def built(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a model, and a note if it was a class: its instance on the meta device, if it needs no arguments.

    Raises:
        UsageError: it is another class; the message says how to make an instance.
    """
    if not inspect.isclass(model):
        return model, ()
    name = model.__name__
    advice = f"the model is a class; pass an instance, {name}({', '.join(_required(model)) or '…'})"
    if not issubclass(model, nn.Module) or _required(model):
        raise UsageError(advice)
    try:
        with torch.device("meta"):
            return model(), (f"the model is {name}(), built on the meta device",)
    except USER_EXCEPTIONS as error:
        raise UsageError(
            f"{advice}: on the meta device, {name}() raised {format_error(error)}\n    {location_of(error)}"
        ) from error


def check_model(model: Any) -> None:
    """Check that a model can be called, and that each of its modules was initialized.

    Raises:
        UsageError: it cannot be called, or a module was not initialized.
    """
    if not (callable(model) or isinstance(model, torch.export.ExportedProgram)):
        hint = ""
        if isinstance(model, str):
            hint = ": graphflops.load makes a model of a name or a file"
        elif isinstance(model, Mapping) and any(isinstance(value, torch.Tensor) for value in model.values()):
            hint = ": a state_dict has weights alone; pass the module that loads it"
        raise UsageError(f"the model is a {type(model).__name__}, not a torch.nn.Module or a function{hint}")
    if not issubclass(type(model), nn.Module):
        return
    modules: list[tuple[str, Any]] = [("", model)]
    visited: set[int] = set()
    while modules:
        path, module = modules.pop()
        if module is None or id(module) in visited:
            continue
        visited.add(id(module))
        try:
            module._parameters, module._buffers  # noqa: B018
            children = module._modules
        except USER_EXCEPTIONS as error:
            root = f" in {type(model).__name__}" if path else ""
            name = f"{path or 'the model itself'} ({type(module).__name__}){root}"
            if isinstance(error, AttributeError):
                raise UsageError(f"{name} is not initialized: its __init__ does not call super().__init__()") from None
            raise UsageError(
                f"the submodules of {name} cannot be read: {format_error(error)}\n    {location_of(error)}"
            ) from error
        modules += [(f"{path}.{name}" if path else name, child) for name, child in children.items()]


def check_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check the inputs of a call.

    Raises:
        UsageError: a key of ``kwargs`` is no name, or a tensor is quantized.
    """
    if wrong_keys := [key for key in kwargs if not isinstance(key, str)]:
        raise UsageError(
            "kwargs must be a dict from argument names of forward to inputs: "
            f"{format_value(wrong_keys[0])} is not a name"
        )
    for value in tree_leaves((args, dict(kwargs))):
        if isinstance(value, torch.Tensor) and value.dtype in QUANTIZED:
            raise UsageError(
                f"an input is quantized, {str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}: pass "
                "input.dequantize()"
            )


def check_options(**options: Any) -> None:
    """Check that each option, given by its name, has a value that it accepts.

    Raises:
        UsageError: it has another one; the message says which values are accepted.
    """
    for name, value in options.items():
        is_accepted, accepted = _ACCEPTED[name]
        if not is_accepted(value):
            raise UsageError(f"{name} must be {accepted}, not {format_value(value)}")


def expand_patterns(expand: Any) -> bool | list[str]:
    """Return the option ``expand`` as True for all Ops, False for none, or a list of patterns of targets.

    Raises:
        UsageError: it is none of these.
    """
    if expand is None or _is_flag(expand):
        return bool(expand)
    patterns: list[Any] = list(expand) if _is_collection(expand) and not isinstance(expand, Mapping) else [None]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(
            "expand must be True, False, or a list of patterns, as in "
            f"expand=['aten.softmax*'], not {format_value(expand)}"
        )
    return patterns


def report_model_errors(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorate a function so that what the model's code raises, or its exit, becomes a ``CaptureError``."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except GraphflopsError:
            raise
        except USER_EXCEPTIONS as error:
            if isinstance(error, Exception) and not raised_by_user(error):
                raise  # an error of graphflops, with its whole traceback
            raise CaptureError(
                f"the model's own code raised {format_error(error)}\n    {location_of(error)}"
            ) from error

    return run


def _required(cls: type) -> list[str]:
    """The names of the arguments that a class needs."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _is_optimizer(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_optimizer, value))
    return isinstance(value, str) or callable(value) or hasattr(value, "param_groups")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_collection(value: Any) -> bool:
    """Return whether a value is a collection, and not a single string or path."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Path))


_ACCEPTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (
        lambda value: value is None or (bool(value) and _is_optimizer(value)),
        "the name of an optimizer, such as 'adamw', a class or object of torch.optim, several of these, or None",
    ),
    "training": (_is_flag, "True or False"),
    "strict": (_is_flag, "True or False"),
    "fold": (_is_flag, "True or False"),
    "attention": (lambda value: isinstance(value, str) and value in ("flash", "math"), "'flash' or 'math'"),
    "convention": (
        lambda value: isinstance(value, (str, Path, Convention)),
        "the name of a convention, such as 'standard', a .toml file, or a Convention",
    ),
    "rules": (
        lambda value: value is None or _is_collection(value),
        "a list of files, folders, modules or rules, as in rules=['my_rules.py']",
    ),
    "rates": (
        lambda value: (
            value is None or (isinstance(value, Mapping) and all(isinstance(pattern, str) for pattern in value))
        ),
        "a dict from patterns to rates, as {'blocks.3.*': 0.62}",
    ),
}
"""option → whether it accepts a value, and which values it accepts"""
