"""The state of Python objects: attributes and slots as Python stores them, and which classes have state to copy."""

from __future__ import annotations

import argparse
import collections
import copyreg
import io
import logging
import queue
import random
import sys
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

COPIED_OF_PYTHON: tuple[type, ...] = (
    *(SimpleNamespace, argparse.Namespace, queue.Queue, random.Random),
    *(collections.ChainMap, threading.Event, threading.Semaphore),
)
"""classes of the standard library whose instances are copied; instances of its other classes are shared"""
DICT_VIEWS: tuple[type, ...] = (
    *map(type, ({}.keys(), {}.values(), {}.items())),
    *map(type, ((empty := collections.OrderedDict[str, str]()).keys(), empty.values(), empty.items())),
)
"""the classes of the views of a dict"""
_SHARED_OF_TORCH = tuple(f"torch.{name}" for name in ("_", "fx", "export", "distributed", "library", "cuda", "jit"))
"""modules of torch whose classes have shared instances: compilers, graphs, handles of processes"""
_SHARED_BASES: tuple[type, ...] = (logging.Logger, logging.Handler, threading.Thread, threading.local, io.IOBase)


def is_a(value: Any, classes: Any) -> bool:
    """Whether a value is an instance, without ``isinstance``: placeholders of lazy imports answer that with errors."""
    return issubclass(type(value), classes)


def object_dict(value: Any) -> dict[str, Any]:
    """The attributes of an object as Python stores them, whatever its class returns for ``__dict__``."""
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return attributes if isinstance(attributes, dict) else {}


def object_slots(value: Any) -> list[tuple[str, Any]]:
    """The names and values of the slots of an object that are set."""
    slots = []
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        with suppress(AttributeError):
            slots.append((name, object.__getattribute__(value, name)))
    return slots


def has_slots(cls: type) -> bool:
    """Whether instances of a class have slots."""
    return bool(copyreg._slotnames(cls))  # type: ignore[attr-defined]


def is_iterator(cls: type) -> bool:
    """Whether instances of a class are iterators that keep their state to themselves: in C, or in other processes."""
    if not any("__next__" in vars(base) for base in cls.__mro__) or issubclass(cls, io.IOBase):
        return False
    return not is_plain(cls) or cls.__module__ == "torch.utils.data.dataloader"


def is_shared_class(cls: type) -> bool:
    """Whether a class says of itself that its instances are shared."""
    return getattr(cls, "_graphflops_shares_it", False) is True


def is_plain(cls: type) -> bool:
    """Whether the state of an instance is all in Python, and its own, so that it can be copied."""
    if is_shared_class(cls):
        return False
    module = cls.__module__ or ""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names and package != "__main__":
        return issubclass(cls, (*COPIED_OF_PYTHON, collections.UserDict, collections.UserList))
    if package == "torch" and module.startswith(_SHARED_OF_TORCH):
        return False
    if package == "sympy":  # equal expressions are one object
        return False
    if any(issubclass(cls, base) for base in _SHARED_BASES) or cls.__itemsize__:
        return False
    if issubclass(cls, random.Random):
        return True
    python_size = object.__basicsize__ + 8 * (
        (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0) + len(copyreg._slotnames(cls))  # type: ignore[attr-defined]
    )
    return cls.__basicsize__ <= python_size
