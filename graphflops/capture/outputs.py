"""The outputs of a model: the tensors in whatever it returns, each once, in order.

Containers are searched, and so are objects by their attributes and ``__slots__``, functions by what they close over,
and generators by running them to their end. Modules, classes, optimizers and Python modules hold no outputs.
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

MOST_ITEMS = 100_000
"""items of a generator that is run to its end"""

_NOT_SEARCHED = (
    *(str, bytes, bytearray, memoryview, range, int, float, complex, type, types.ModuleType, types.CodeType),
    *(types.FrameType, weakref.ReferenceType, nn.Module, torch.optim.Optimizer, torch.Size, torch.dtype),
    *(itertools.count, itertools.repeat, itertools.cycle),
)


def tensors_in(result: Any) -> list[torch.Tensor]:
    """The tensors in what a model returned; generators in it are run.

    Raises:
        CaptureError: a generator in it does not end.
    """
    tensors: list[torch.Tensor] = []
    met: dict[int, Any] = {}  # with the values, so that an id stays its own
    waiting: list[Iterator[Any]] = [iter((result,))]
    while waiting:
        value = next(waiting[-1], _END)
        if value is _END:
            waiting.pop()
        elif value is not None and id(value) not in met:
            met[id(value)] = value
            if isinstance(value, torch.Tensor):
                tensors.append(value)
            elif not isinstance(value, _NOT_SEARCHED):
                waiting.append(_parts(value))
    return tensors


_END = object()


def _parts(value: Any) -> Iterator[Any]:
    """Where a tensor may be in a value: its items, its attributes, and what a function takes along."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield item
    elif isinstance(value, (Sequence, Set, deque, MappingView)) and isinstance(value, Iterable):
        yield from value
    elif _is_iterator(value):
        yield from _run_to_its_end(value)
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
    """What an object holds; properties, which would run code of its own, are not asked."""
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict):
        yield from tuple(held.values())
    for cls in type(value).__mro__:
        if cls.__module__ == "builtins":
            continue
        for slot in vars(cls).values():
            if isinstance(slot, types.MemberDescriptorType):
                with suppress(AttributeError):  # it is not set
                    yield slot.__get__(value)


def _is_iterator(value: Any) -> bool:
    """Whether it is a generator or an iterator of Python's own over something; not a file, nor a loader of data."""
    own = type(value).__module__ in ("builtins", "itertools")
    return isinstance(value, types.GeneratorType) or (own and isinstance(value, Iterator))


def _run_to_its_end(items: Iterable[Any]) -> Iterator[Any]:
    yield from islice(items, MOST_ITEMS)
    if next(iter(items), _END) is not _END:
        raise CaptureError(
            f"forward returned a {type(items).__name__} that has not ended after {MOST_ITEMS:,} items: "
            "return what is to be trained on as a list or a tensor"
        )


def no_gradient_warning(result: Any) -> str:
    """The warning that backward is 0, since no output requires grad."""
    name = type(result).__name__
    what = "forward returned None" if result is None else f"nothing that forward returned requires grad ({_a(name)})"
    return f"{what}: backward is 0, and so is the optimizer"


def _a(name: str) -> str:
    return f"{'an' if name[0].upper() in 'AEIOU' else 'a'} {name}"
