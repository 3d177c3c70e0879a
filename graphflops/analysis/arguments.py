"""The arguments of ``analyze`` and ``law``, looked at before any is used: what is wrong with one is said of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from graphflops.capture.faults import raised_by_user
from graphflops.core.errors import CaptureError, GraphflopsError, UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, format_value, location_of
from graphflops.core.torch_compat import tree_leaves
from graphflops.report.conventions import Convention

QUANTIZED = frozenset({torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4})

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def checked_model(model: Any) -> None:
    """Say of a model that it can be called, and that each of its modules was made as PyTorch makes them.

    Raises:
        UsageError: it cannot, or one was not.
    """
    if inspect.isclass(model):
        raise UsageError(f"the model is the class {model.__name__}: give an instance of it, {model.__name__}(…)")
    if not (callable(model) or isinstance(model, torch.export.ExportedProgram)):
        raise UsageError(f"the model is a {type(model).__name__}, neither a torch.nn.Module nor a function")
    if not issubclass(type(model), nn.Module):
        return
    waiting: list[tuple[str, Any]] = [("", model)]
    seen: set[int] = set()
    while waiting:
        path, module = waiting.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        try:
            module._parameters, module._buffers  # noqa: B018
            children = module._modules
        except USER_EXCEPTIONS as error:
            of = f" in {type(model).__name__}" if path else ""
            where = f"{path or 'the model itself'} ({type(module).__name__}){of}"
            if isinstance(error, AttributeError):
                raise UsageError(f"{where} is no whole module: its __init__ does not call super().__init__()") from None
            raise UsageError(
                f"{where} cannot be looked into: {format_error(error)}\n    {location_of(error)}"
            ) from error
        waiting += [(f"{path}.{name}" if path else name, child) for name, child in children.items()]


def checked_inputs(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The inputs of a call, as a tuple and a dict.

    Raises:
        UsageError: they are not given so, or a tensor among them is quantized.
    """
    if not isinstance(args, (tuple, list)):
        raise UsageError(
            f"args must be a tuple of inputs, as in analyze(model, args=(tokens,)), not {type(args).__name__}"
        )
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, Mapping):
        raise UsageError(f"kwargs must be a dict of inputs by their names in forward, not {type(kwargs).__name__}")
    if wrong := [name for name in kwargs if not isinstance(name, str)]:
        raise UsageError(
            f"kwargs must be a dict of inputs by their names in forward: {format_value(wrong[0])} is no name"
        )
    for each in tree_leaves((args, dict(kwargs))):
        if isinstance(each, torch.Tensor) and each.dtype in QUANTIZED:
            raise UsageError(
                f"an input is quantized, {str(each.dtype).removeprefix('torch.')}{tuple(each.shape)}: give the floats "
                "that it comes of, input.dequantize()"
            )
    return tuple(args), kwargs


def checked_options(**options: Any) -> None:
    """Say of each option, by its name, that it is of a kind that it may be.

    Raises:
        UsageError: it is not; the message says what it may be.
    """
    for name, value in options.items():
        may, what = _MAY_BE[name]
        if not may(value):
            raise UsageError(f"{name} must be {what}, not {format_value(value)}")


def checked_patterns(expand: Any) -> bool | list[str]:
    """The targets to expand: all, none, or those that patterns name.

    Raises:
        UsageError: it is none of these.
    """
    if expand is None or _is_flag(expand):
        return bool(expand)
    patterns: list[Any] = list(expand) if _is_listed(expand) and not isinstance(expand, Mapping) else [None]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(
            "expand must be True, False, or a list of patterns, as in "
            f"expand=['aten.softmax*'], not {format_value(expand)}"
        )
    return patterns


def in_words(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Have a model whose code exits, or raises where nobody asked it to compute, refused like any other that raises."""
    from functools import wraps

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        try:
            return function(*args, **kwargs)
        except GraphflopsError:
            raise
        except USER_EXCEPTIONS as error:
            if isinstance(error, Exception) and not raised_by_user(error):
                raise  # a fault of ours, which is told with all that is known of it
            raise CaptureError(
                f"the model's own code raised {format_error(error)}\n    {location_of(error)}"
            ) from error

    return run


def _is_optimizer(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_optimizer, value))
    return isinstance(value, str) or callable(value) or hasattr(value, "param_groups")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_listed(value: Any) -> bool:
    """Whether it is several, and not one text, path or rule."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Path))


_MAY_BE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (
        lambda value: value is None or (bool(value) and _is_optimizer(value)),
        "the name of an optimizer, such as 'adamw', a class or object of torch.optim, several of these, or None",
    ),
    "training": (_is_flag, "True or False"),
    "strict": (_is_flag, "True or False"),
    "fold": (_is_flag, "True or False"),
    "convention": (
        lambda value: isinstance(value, (str, Path, Convention)),
        "the name of a convention, such as 'standard', a .toml file, or a Convention",
    ),
    "rules": (
        lambda value: value is None or _is_listed(value),
        "a list of files, folders, modules or rules, as in rules=['my_rules.py']",
    ),
    "rates": (
        lambda value: (
            value is None or (isinstance(value, Mapping) and all(isinstance(pattern, str) for pattern in value))
        ),
        "a dict from patterns to rates, as {'blocks.3.*': 0.62}",
    ),
}
