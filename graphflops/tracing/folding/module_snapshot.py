"""Snapshots of everything that a block may write to, taken before it runs as a template, which leaves it unmodified.

That is the attributes of its modules and of their classes, and the globals of the files of these classes; the contents
of dicts, lists and sets among them; and the attributes of plain objects among them.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeAlias

from torch import nn

from graphflops.tracing.copies.code_names import is_of_libraries
from graphflops.tracing.copies.object_state import is_a, is_plain, object_dict, object_slots

_CONTAINERS = (dict, list, set)

Snapshot: TypeAlias = "Sequence[tuple[Any, Any]]"
"""pairs of an object and its contents"""


def snapshot(modules: Iterable[nn.Module]) -> Snapshot:
    """Return the contents of everything that may be written to by the forward of modules."""
    return [(holder, _contents(holder)) for holder in _holders([*modules])]


def is_unmodified(before: Snapshot) -> bool:
    """Whether everything in a snapshot still contains the same objects, containers in the same order."""
    return all(_contains(holder, contents) for holder, contents in before)


def _holders(modules: Sequence[nn.Module]) -> Iterator[Any]:
    """Yield modules, their classes and files, and the containers and plain objects that are attributes of these."""
    classes = {base: None for cls in dict.fromkeys(map(type, modules)) for base in cls.__mro__}
    own_classes = [cls for cls in classes if not is_of_libraries(cls.__module__)]
    files = dict.fromkeys(cls.__module__ for cls in own_classes)
    namespaces = [*modules, *own_classes, *(sys.modules[name] for name in files if name in sys.modules)]
    yield from namespaces
    visited: set[int] = set()
    for namespace in namespaces:
        for value in _contents(namespace).values():
            if id(value) in visited:
                continue
            visited.add(id(value))
            if is_a(value, _CONTAINERS):
                yield value
            elif not is_a(value, nn.Module) and is_plain(type(value)):
                yield value
                yield from (member for member in _contents(value).values() if is_a(member, _CONTAINERS))


def _contents(holder: Any) -> Any:
    """Return a copy of the items of a container, or of the attributes of an object."""
    if is_a(holder, dict):
        return dict(dict.items(holder))
    if is_a(holder, list):
        return list(list.__iter__(holder))
    if is_a(holder, set):
        return set(set.__iter__(holder))
    if is_a(holder, (type, ModuleType)):  # others are Python's own, such as the registry of warnings
        return {name: value for name, value in vars(holder).items() if not name.startswith("__")}
    return {**object_dict(holder), **dict(object_slots(holder))}


def _contains(holder: Any, before: Any) -> bool:
    """Whether an object contains what it contained before."""
    now = _contents(holder)
    if is_a(holder, set):
        return bool(now == before)
    if is_a(holder, list):
        return len(now) == len(before) and all(map(operator.is_, now, before))
    has_same_keys = list(now) == list(before) if is_a(holder, dict) else now.keys() == before.keys()
    return has_same_keys and all(now[key] is value for key, value in before.items())
