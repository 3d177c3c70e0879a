"""Outputs of a model: the tensors in whatever it returns, each once, in order.

Containers are searched, attributes and ``__slots__`` of objects, closures and defaults of functions, and generators,
which are run to their end. Modules, classes, optimizers and Python modules are not searched.
"""

from __future__ import annotations

import functools
import itertools
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MappingView, Sequence, Set
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from torch import nn

from graphflops.core.errors import CaptureError

MAX_ITEMS = 100_000
"""items that a generator may yield"""

_NOT_SEARCHED = (
    *(str, bytes, bytearray, memoryview, range, int, float, complex, type, types.ModuleType, types.CodeType),
    *(types.FrameType, weakref.ReferenceType, nn.Module, torch.optim.Optimizer, torch.Size, torch.dtype),
    *(itertools.count, itertools.repeat, itertools.cycle),
)


def tensors_in(result: Any) -> list[torch.Tensor]:
    """The tensors in the result of a model; generators in it are run.

    Raises:
        CaptureError: a generator in it does not end.
    """
    tensors: list[torch.Tensor] = []
    visited: dict[int, Any] = {}  # keeps the values, so that an id stays unique
    pending: list[Iterator[Any]] = [iter((result,))]
    while pending:
        value = next(pending[-1], _END)
        if value is _END:
            pending.pop()
        elif value is not None and id(value) not in visited:
            visited[id(value)] = value
            if isinstance(value, torch.Tensor):
                tensors.append(value)
            elif not isinstance(value, _NOT_SEARCHED):
                pending.append(_parts(value))
    return tensors


_END = object()


def _parts(value: Any) -> Iterator[Any]:
    """The items and attributes of a value, and the closure, defaults and bound arguments of a function."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield item
    elif isinstance(value, (Sequence, Set, deque, MappingView)) and isinstance(value, Iterable):
        yield from value
    elif _is_iterator(value):
        yield from _run_to_end(value)
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # it is empty
                yield cell.cell_contents
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
    elif isinstance(value, types.MethodType):
        yield value.__self__
        yield value.__func__
    elif isinstance(value, functools.partial):
        yield value.func
        yield from value.args
        yield from value.keywords.values()
    yield from _attributes(value)


def _attributes(value: Any) -> Iterator[Any]:
    """The attributes of an object, without its properties, which would run its code."""
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield from tuple(attributes.values())
    for cls in type(value).__mro__:
        if cls.__module__ == "builtins":
            continue
        for slot in vars(cls).values():
            if isinstance(slot, types.MemberDescriptorType):
                with suppress(AttributeError):  # it is not set
                    yield slot.__get__(value)


def _is_iterator(value: Any) -> bool:
    """Whether a value is a generator or one of Python's own iterators; not a file, nor a DataLoader."""
    is_builtin = type(value).__module__ in ("builtins", "itertools")
    return isinstance(value, types.GeneratorType) or (is_builtin and isinstance(value, Iterator))


def _run_to_end(items: Iterable[Any]) -> Iterator[Any]:
    yield from islice(items, MAX_ITEMS)
    if next(iter(items), _END) is not _END:
        raise CaptureError(
            f"forward returned a {type(items).__name__} that has not ended after {MAX_ITEMS:,} items: "
            "return a list or a tensor instead"
        )


def refuse_model(name: str, result: Any) -> None:
    """Check that a function did not build a model and return it, instead of the tensors of one.

    Raises:
        CaptureError: it did.
    """
    if isinstance(result, nn.Module):
        raise CaptureError(
            f"{name} returned a {type(result).__name__}, a model and no tensors: pass what it returns, {name}(…)"
        )


def no_gradient_warning(result: Any) -> str:
    """The warning that backward is 0, since no output requires grad."""
    name = type(result).__name__
    problem = "forward returned None" if result is None else f"nothing that forward returned requires grad ({_a(name)})"
    return f"{problem}: backward is 0, and so is the optimizer"


def not_counted_warning(pack: Any) -> str:
    """The warning that the work of the user's hooks on saved tensors may not be counted."""
    code = getattr(pack, "__code__", None)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(pack)
    return f"hooks on saved tensors ({where}): work that they do when tensors are saved and unpacked may not be counted"


def _a(name: str) -> str:
    return f"{'an' if name[0].upper() in 'AEIOU' else 'a'} {name}"
