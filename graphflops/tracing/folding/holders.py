"""Containers, objects, functions, globals and attributes of classes, to which code may write, and their contents."""

from __future__ import annotations

import collections
import operator
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from graphflops.tracing.copies.code_names import MISSING, cell_content
from graphflops.tracing.copies.object_state import is_a, object_dict, object_slots
from graphflops.tracing.folding.shared_objects import WATCHING


class Holder(NamedTuple):
    """Something that may be written to, how its contents are read, and what they were."""

    contents: Callable[[Any], Sequence[Any]]
    value: Any
    before: Sequence[Any]

    @property
    def is_unmodified(self) -> bool:
        """Whether it still contains the same objects in the same order."""
        now = self.contents(self.value)
        return len(now) == len(self.before) and all(map(operator.is_, now, self.before))


class Namespace:
    """The globals of a file, or the attributes of a class, and the values of the names in it that code may look up."""

    __slots__ = ("count", "is_open", "known", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.count = _count(values)
        self.known: dict[str, Any] = {}
        self.is_open = False
        """whether the names in all code count, and not only in that which runs on these globals"""

    @property
    def is_unmodified(self) -> bool:
        """Whether the names still have the same values, and there are no others."""
        values = self.values
        return _count(values) == self.count and all(map(operator.is_, map(values.get, self.known), self.known.values()))


def _count(values: Mapping[str, Any]) -> int:
    """Return how many names there are, without those that Python and `watch` add meanwhile."""
    return len(values) - len(ADDED & values.keys())


ADDED = frozenset({"__warningregistry__", *WATCHING})
"""names that somebody else adds to a namespace meanwhile"""


# -- contents ----------------------------------------------------------------------------------------------------------


def _number(number: int) -> str:
    """Return a number as an object that is identical with that of an equal one."""
    return sys.intern(str(number))


def items(value: Any) -> list[Any]:
    """Return the keys and values of a dict."""
    return [*dict.keys(value), *dict.values(value)]


def list_members(value: Any) -> list[Any]:
    """Return the members of a list."""
    return [*list.__iter__(value)]


def deque_members(value: Any) -> list[Any]:
    """Return the members of a deque."""
    return [*collections.deque.__iter__(value)]


def set_members(value: Any) -> list[Any]:
    """Return the members of a set."""
    return [*(set if is_a(value, set) else frozenset).__iter__(value)]


def attributes_of(value: Any) -> list[Any]:
    """Return the names and values of the attributes of an object."""
    attributes = object_dict(value)
    return [*attributes, *attributes.values()]


def attributes_and_slots(value: Any) -> list[Any]:
    """Return the attributes of an object, and the values of its slots."""
    return [*attributes_of(value), *(content for _, content in object_slots(value))]


def function_contents(function: Any) -> list[Any]:
    """Return the code, the defaults and the attributes of a function."""
    return [function.__code__, function.__defaults__, function.__kwdefaults__, *items(vars(function))]


def cell_contents(cell: Any) -> list[Any]:
    """Return the value of a variable of a closure."""
    return [cell_content(cell)]


def variable_contents(variable: Any) -> list[Any]:
    """Return the value of a context variable in this thread."""
    return [variable.get(MISSING)]


def cache_size(function: Any) -> list[Any]:
    """Return how many values a cached function has computed."""
    return [_number(function.cache_info().misses)]


def thread_contents(local: Any) -> list[Any]:
    """Return the attributes that an object has in this thread."""
    return items(threading.local.__getattribute__(local, "__dict__"))


def bytes_of(array: Any) -> list[Any]:
    """Return the shape, dtype and elements of a numpy array."""
    return [sys.intern(f"{array.shape} {array.dtype} {array.tobytes().hex()}")]
