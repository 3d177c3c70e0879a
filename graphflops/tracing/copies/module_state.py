"""State outside of a model, in Python modules and classes: restored where the traced program wrote to it.

A program looks up global names and class attributes by itself, so that no copy can stand in for them. Therefore a
snapshot of the files of a model is taken before the trace. Afterwards the places that the trace wrote to are restored:
those that refer to a fake tensor or a copy always, all others if no other thread could have written to them.
"""

from __future__ import annotations

import functools
import gc
import operator
import sys
from collections import deque
from collections.abc import Collection
from types import CellType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import fx, nn

from graphflops.core.messages import try_getattr
from graphflops.tracing.copies.bound_functions import LRU_CACHE, replace_bound_functions
from graphflops.tracing.copies.code_names import MISSING, cell_content
from graphflops.tracing.copies.object_state import is_a, is_plain, object_dict
from graphflops.tracing.session.session import IsOwn, Restore

_CONTAINERS = (dict, list, set, deque)
_OPAQUE = (ModuleType, type, FunctionType, CodeType, FrameType, torch.Tensor, fx.Graph)
_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), ModuleType, property})
_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "graphflops"} - {"__main__"})
"""packages that hold no state of a model"""
_MAX_PLACES = 100_000
"""places of module-level state in a snapshot, and objects that are searched for fake tensors"""


def snapshot_state(root: nn.Module, classes: Collection[type]) -> Restore:
    """Take a snapshot of the state in the files of a model, and give its cached functions new caches."""
    names = _files_of(root, classes)
    places = _find_places(names, classes)
    restores = replace_bound_functions(names)

    def restore(is_own: IsOwn, alone: bool) -> None:
        for restore_binding in reversed(restores):
            restore_binding()
        for place in places:
            place.restore(is_own, alone)

    return restore


# -- files ---------------------------------------------------------------------------------------------------------


def _files_of(root: nn.Module, classes: Collection[type]) -> set[str]:
    """The Python modules of a model's classes and functions, and those that these import from."""
    names = {base.__module__ for cls in classes for base in cls.__mro__}
    function = object_dict(root).get("forward")
    while function is not None:
        names.add(try_getattr(function, "__module__"))
        names.add(type(try_getattr(function, "__self__")).__module__)
        function = try_getattr(function, "func") or try_getattr(function, "__func__")
    names = set(filter(_is_users, names))
    return names.union(*(_imported_from(name, len(vars(sys.modules[name]))) for name in names))


@functools.lru_cache(maxsize=1024)
def _imported_from(name: str, size: int) -> frozenset[str]:
    """The users' modules that a module has functions and classes of; computed again when the module has grown."""
    origins = (
        try_getattr(value, "__module__")
        for value in [*vars(sys.modules[name]).values()]
        if is_a(value, (FunctionType, type, LRU_CACHE))
    )
    return frozenset(filter(_is_users, origins))


def _is_users(name: Any) -> bool:
    """Whether a module's name is that of a user's file; models of graphflops are such files too."""
    if not is_a(name, str) or not is_a(sys.modules.get(name), ModuleType):
        return False
    return name.partition(".")[0] not in _LIBRARIES or name.startswith("graphflops.models")


# -- places of state -----------------------------------------------------------------------------------------------


class _Place:
    """A dict, list, set or deque, a variable of a closure, or the attributes of a class, and its content."""

    __slots__ = ("content", "holder", "is_namespace")

    def __init__(self, holder: Any, is_namespace: bool) -> None:
        self.holder = holder
        self.is_namespace = is_namespace
        self.content: Any
        if is_a(holder, CellType):
            self.content = (cell_content(holder),)
        else:
            self.content = dict(vars(holder)) if is_a(holder, type) else _members_of(holder)

    def restore(self, is_own: IsOwn, alone: bool) -> None:
        """Restore the content: all of it, or, if not ``alone``, where it refers to a fake tensor or a copy."""
        if is_a(self.holder, CellType):
            current, before = cell_content(self.holder), self.content[0]
            if current is not before and (alone or _refers_to_own(current, is_own)):
                self.holder.cell_contents = before
        elif is_a(self.content, dict):
            current = dict(vars(self.holder)) if is_a(self.holder, type) else self.holder
            self._restore_items(current, is_own, alone)
        elif is_a(self.content, set):
            for value in _members_of(self.holder) - self.content:
                if alone or _refers_to_own(value, is_own):
                    set.discard(self.holder, value)
            if alone and not self.content <= _members_of(self.holder):
                set.update(self.holder, self.content)
        elif not _are_same(current := _members_of(self.holder), self.content):
            base: Any = list if is_a(self.holder, list) else deque
            kept = self.content if alone else [value for value in current if not _refers_to_own(value, is_own)]
            if alone or len(kept) < len(current):
                base.clear(self.holder)
                base.extend(self.holder, kept)

    def _restore_items(self, current: Any, is_own: IsOwn, alone: bool) -> None:
        before = self.content
        if dict.__len__(current) == len(before) and all(map(operator.is_, dict.values(current), before.values())):
            return
        for key in [key for key, value in dict.items(current) if before.get(key, MISSING) is not value]:
            value = dict.__getitem__(current, key)
            if self.is_namespace and (is_a(value, _OPAQUE[:3]) or (is_a(key, str) and key.startswith("__"))):
                continue  # imported or defined meanwhile
            if alone or _refers_to_own(value, is_own):
                self._set_item(key, before.get(key, MISSING))
        if alone and not self.is_namespace:
            for key, value in before.items():
                if not dict.__contains__(current, key):
                    self._set_item(key, value)

    def _set_item(self, key: Any, value: Any) -> None:
        if is_a(self.holder, type):
            type.__delattr__(self.holder, key) if value is MISSING else type.__setattr__(self.holder, key, value)
        elif value is MISSING:
            dict.__delitem__(self.holder, key)
        else:
            dict.__setitem__(self.holder, key, value)


def _are_same(first: Any, second: Any) -> bool:
    return len(first) == len(second) and all(map(operator.is_, first, second))


def _members_of(container: Any) -> Any:
    """The members of a container as Python stores them: some classes return a new object at each access."""
    if is_a(container, dict):
        return dict(dict.items(container))
    if is_a(container, set):
        return set(set.__iter__(container))
    return [*(list if is_a(container, list) else deque).__iter__(container)]


def _find_places(names: Collection[str], classes: Collection[type]) -> list[_Place]:
    """The state of Python modules that a program may write to: globals, containers, objects, attributes of classes.

    Of an object whose class is defined elsewhere, its own attributes are included, but not those of further such
    objects that it refers to: these lead to all that its library knows.
    """
    places: list[_Place] = []
    visited: set[int] = set()
    kinds: dict[type, tuple[bool, type | None]] = {}
    pending: list[tuple[Any, bool]] = [(base, False) for cls in classes for base in cls.__mro__]

    def add(holder: Any, is_namespace: bool, is_foreign: bool) -> None:
        if id(holder) not in visited and len(places) < _MAX_PLACES:
            visited.add(id(holder))
            place = _Place(holder, is_namespace)
            places.append(place)
            content = place.content
            members = content.values() if is_a(content, dict) else content
            pending.extend([(member, is_foreign) for member in members if type(member) not in _ATOMS])

    for name in names:
        add(vars(sys.modules[name]), True, False)
    while pending:
        value, is_foreign = pending.pop()
        cls = type(value)
        if (kind := kinds.get(cls)) is None:  # there are many values, and few classes
            kind = kinds[cls] = issubclass(cls, _CONTAINERS), _base_of(cls)
        is_a_container, base = kind
        if is_a_container:
            add(value, False, is_foreign)
        if base is None:
            continue
        if base is tuple:
            pending.extend([(member, is_foreign) for member in value if type(member) not in _ATOMS])
        elif base is classmethod:
            pending.append((value.__func__, is_foreign))
        elif base is FunctionType:
            if value.__closure__ and value.__module__ in names:
                for cell in value.__closure__:
                    add(cell, False, is_foreign)
        elif base is type:
            if value.__module__ in names:
                add(value, True, False)
        else:
            is_defined_elsewhere = cls.__module__ not in names and base is not nn.Module
            if not (is_foreign and is_defined_elsewhere) and (attributes := object_dict(value)):
                add(attributes, False, is_defined_elsewhere)
    return places


def _base_of(cls: type) -> type | None:
    """The base that says where state is in an instance: ``object`` for its attributes, None for nowhere."""
    if cls in _ATOMS:
        return None
    if issubclass(cls, (classmethod, staticmethod)):
        return classmethod
    for base in (tuple, FunctionType, type, nn.Module):
        if issubclass(cls, base):
            return base
    return object if not issubclass(cls, _OPAQUE) and is_plain(cls) else None


def _refers_to_own(value: Any, is_own: IsOwn) -> bool:
    """Whether a value refers to a fake tensor or a copy of the analysis, however deep."""
    pending, visited = [value], {id(value)}
    while pending and len(visited) < _MAX_PLACES:
        referrer = pending.pop()
        if is_own(referrer):
            return True
        if is_a(referrer, _OPAQUE) or type(referrer) in _ATOMS:
            continue
        for referent in gc.get_referents(referrer):
            if id(referent) not in visited:
                visited.add(id(referent))
                pending.append(referent)
    return False
