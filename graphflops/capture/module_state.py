"""State outside of a model: what Python modules and classes hold, put back where the traced program wrote to it.

A copy cannot stand in for a global name or a class attribute, which a program finds by itself. So what the files of a
model hold is noted before a trace, and each place that the trace wrote to gets back what it held: each that came to
hold a fake tensor or a copy, and all others as well if no other thread could have written to them.

Functions that remember their results (``functools.lru_cache``) remember, in the thread of the analysis, those of the
analysis alone: a tensor that was remembered before would not be counted when it is made.
"""

from __future__ import annotations

import functools
import gc
import operator
import sys
from collections import deque
from collections.abc import Callable, Collection
from types import CellType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import fx, nn

from graphflops.capture.code_names import MISSING, cell_content
from graphflops.capture.object_state import is_a, is_plain, object_dict
from graphflops.capture.random_numbers import with_own_generator
from graphflops.capture.session import IsOwn, Restore, in_analysis
from graphflops.core.messages import try_getattr

_Memo = functools._lru_cache_wrapper
_CONTAINERS = (dict, list, set, deque)
_OPAQUE = (ModuleType, type, FunctionType, CodeType, FrameType, torch.Tensor, fx.Graph)
_OTHERS = frozenset({*sys.stdlib_module_names, "torch", "numpy", "graphflops"} - {"__main__"})
"""packages that hold nothing of a model"""
_MOST = 100_000
"""containers of module-level state that are noted"""


def snapshot_state(root: nn.Module, classes: Collection[type]) -> Restore:
    """Note what the files of a model hold, and have its functions remember apart; what undoes what is written after."""
    names = _files_near(root, classes)
    noted = _noted(names, classes)
    bound = _remember_apart(names)

    def undo(is_own: IsOwn, alone: bool) -> None:
        for put_back in reversed(bound):
            put_back()
        for place in noted:
            place.put_back(is_own, alone)

    return undo


# -- which files ---------------------------------------------------------------------------------------------------


def _files_near(root: nn.Module, classes: Collection[type]) -> set[str]:
    """The Python modules that a model's classes and functions stand in, and those that these import from."""
    near = {each.__module__ for cls in classes for each in cls.__mro__}
    function = object_dict(root).get("forward")
    while function is not None:
        near.add(try_getattr(function, "__module__"))
        near.add(type(try_getattr(function, "__self__")).__module__)
        function = try_getattr(function, "func") or try_getattr(function, "__func__")
    near = set(filter(_is_users, near))
    return near.union(*(_imported_from(name, len(vars(sys.modules[name]))) for name in near))


@functools.lru_cache(maxsize=1024)
def _imported_from(name: str, size: int) -> frozenset[str]:
    """The modules of users that a module has functions and classes of; anew if it has grown."""
    origins = (
        try_getattr(value, "__module__")
        for value in [*vars(sys.modules[name]).values()]
        if is_a(value, (FunctionType, type, _Memo))
    )
    return frozenset(filter(_is_users, origins))


def _is_users(name: Any) -> bool:
    """Whether a module's name is that of a file of users, models of graphflops included."""
    if not is_a(name, str) or not is_a(sys.modules.get(name), ModuleType):
        return False
    return name.partition(".")[0] not in _OTHERS or name.startswith("graphflops.models")


# -- what is remembered --------------------------------------------------------------------------------------------


class Apart:
    """A function that remembers, and in the thread of an analysis remembers nothing of what was before."""

    _graphflops_shares_it = True

    def __init__(self, memo: Any) -> None:
        parameters = memo.cache_parameters()
        self._memo = memo
        self._own = functools.lru_cache(parameters["maxsize"], parameters["typed"])(memo.__wrapped__)
        functools.update_wrapper(self, memo)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result, remembered or new."""
        return self._now()(*args, **kwargs)

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        return self if owner is None else MethodType(self, owner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now(), name)

    def _now(self) -> Any:
        attributes = object_dict(self)
        return attributes["_own"] if in_analysis() else attributes["_memo"]


def _remember_apart(names: Collection[str]) -> list[Callable[[], None]]:
    """Put what remembers apart in the place of functions that remember; what puts these back."""
    apart: dict[int, Apart] = {}
    back: list[Callable[[], None]] = []

    def other(value: Any) -> Any:
        if is_a(value, _Memo):
            return apart.setdefault(id(value), Apart(value))
        return with_own_generator(value)

    def replace(put: Callable[[Any], None], value: Any, by: Any) -> None:
        put(by)
        back.append(functools.partial(put, value))

    def replace_within(function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            if (apart_one := other(held := cell_content(cell))) is not None:
                replace(functools.partial(setattr, cell, "cell_contents"), held, apart_one)
        named = function.__kwdefaults__ or {}
        for name, value in [*named.items()]:
            if (apart_one := other(value)) is not None:
                replace(functools.partial(named.__setitem__, name), value, apart_one)
        defaults = function.__defaults__ or ()
        others = tuple(value if (apart_one := other(value)) is None else apart_one for value in defaults)
        if any(map(operator.is_not, others, defaults)):
            replace(functools.partial(setattr, function, "__defaults__"), defaults, others)

    for name in names:
        module = sys.modules[name]
        for key, value in [*vars(module).items()]:
            if (apart_one := other(value)) is not None:
                replace(functools.partial(vars(module).__setitem__, key), value, apart_one)
            elif is_a(value, FunctionType):
                replace_within(value)
            elif is_a(value, type) and value.__module__ == name:
                for attribute_name, held in [*vars(value).items()]:
                    inner = held.__func__ if is_a(held, (classmethod, staticmethod)) else held
                    if is_a(inner, FunctionType):
                        replace_within(inner)
                    elif is_a(inner, _Memo):
                        memo = other(inner) if inner is held else type(held)(other(inner))
                        replace(functools.partial(type.__setattr__, value, attribute_name), held, memo)
    return back


# -- what is held --------------------------------------------------------------------------------------------------


class _Place:
    """A dict, list, set or deque, a variable of a closure, or the attributes of a class, and what it held."""

    __slots__ = ("content", "holder", "is_named")

    def __init__(self, holder: Any, is_named: bool) -> None:
        self.holder = holder
        self.is_named = is_named
        self.content: Any
        if is_a(holder, CellType):
            self.content = (cell_content(holder),)
        else:
            self.content = dict(vars(holder)) if is_a(holder, type) else _held_in(holder)

    def put_back(self, is_own: IsOwn, alone: bool) -> None:
        """Give what was written to what it held: all of it, or where it came to hold something of the analysis."""
        if is_a(self.holder, CellType):
            now, then = cell_content(self.holder), self.content[0]
            if now is not then and (alone or _reaches(now, is_own)):
                self.holder.cell_contents = then
        elif is_a(self.content, dict):
            now = dict(vars(self.holder)) if is_a(self.holder, type) else self.holder
            self._put_back_keys(now, is_own, alone)
        elif is_a(self.content, set):
            for value in _held_in(self.holder) - self.content:
                if alone or _reaches(value, is_own):
                    set.discard(self.holder, value)
            if alone and not self.content <= _held_in(self.holder):
                set.update(self.holder, self.content)
        elif not _same(now := _held_in(self.holder), self.content):
            base: Any = list if is_a(self.holder, list) else deque
            kept = self.content if alone else [each for each in now if not _reaches(each, is_own)]
            if alone or len(kept) < len(now):
                base.clear(self.holder)
                base.extend(self.holder, kept)

    def _put_back_keys(self, now: Any, is_own: IsOwn, alone: bool) -> None:
        before = self.content
        if dict.__len__(now) == len(before) and all(map(operator.is_, dict.values(now), before.values())):
            return
        for key in [key for key, value in dict.items(now) if before.get(key, MISSING) is not value]:
            value = dict.__getitem__(now, key)
            if self.is_named and (is_a(value, _OPAQUE[:3]) or (is_a(key, str) and key.startswith("__"))):
                continue  # what was imported or defined meanwhile
            if alone or _reaches(value, is_own):
                self._put(key, before.get(key, MISSING))
        if alone and not self.is_named:
            for key, value in before.items():
                if not dict.__contains__(now, key):
                    self._put(key, value)

    def _put(self, key: Any, value: Any) -> None:
        if is_a(self.holder, type):
            type.__delattr__(self.holder, key) if value is MISSING else type.__setattr__(self.holder, key, value)
        elif value is MISSING:
            dict.__delitem__(self.holder, key)
        else:
            dict.__setitem__(self.holder, key, value)


def _same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _held_in(holder: Any) -> Any:
    """All that a container holds, whatever its class makes of it: some make something new for whoever asks."""
    if is_a(holder, dict):
        return dict(dict.items(holder))
    if is_a(holder, set):
        return set(set.__iter__(holder))
    return [*(list if is_a(holder, list) else deque).__iter__(holder)]


def _noted(names: Collection[str], classes: Collection[type]) -> list[_Place]:
    """All that Python modules hold which a program may write to: names, containers, objects, attributes of classes.

    Of an object of a class from elsewhere, what it holds itself; not of others that it holds in turn, which lead to
    everything that its library knows.
    """
    places: list[_Place] = []
    seen: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(base, False) for cls in classes for base in cls.__mro__]

    def note(holder: Any, is_named: bool, is_foreign: bool) -> None:
        if id(holder) not in seen and len(places) < _MOST:
            seen.add(id(holder))
            place = _Place(holder, is_named)
            places.append(place)
            content = place.content
            waiting.extend((each, is_foreign) for each in (content.values() if is_a(content, dict) else content))

    for name in names:
        note(vars(sys.modules[name]), True, False)
    while waiting:
        value, is_foreign = waiting.pop()
        cls = type(value)
        if cls in _SIMPLE:
            continue
        if is_a(value, _CONTAINERS):
            note(value, False, is_foreign)
        if is_a(value, (classmethod, staticmethod)):
            value = value.__func__
        if is_a(value, tuple):
            waiting.extend((each, is_foreign) for each in value)
        elif is_a(value, FunctionType):
            if value.__closure__ and value.__module__ in names:
                for cell in value.__closure__:
                    note(cell, False, is_foreign)
        elif is_a(value, type):
            if value.__module__ in names:
                note(value, True, False)
        elif is_a(value, nn.Module) or (not is_a(value, _OPAQUE) and is_plain(cls)):
            from_elsewhere = cls.__module__ not in names and not is_a(value, nn.Module)
            if not (is_foreign and from_elsewhere) and (attributes := object_dict(value)):
                note(attributes, False, from_elsewhere)
    return places


_SIMPLE = frozenset({int, float, complex, bool, str, bytes, type(None), ModuleType, property})


def _reaches(value: Any, is_own: IsOwn) -> bool:
    """Whether something of the analysis is held by a value, however deep."""
    waiting, seen = [value], {id(value)}
    while waiting and len(seen) < _MOST:
        each = waiting.pop()
        if is_own(each):
            return True
        if is_a(each, _OPAQUE) or type(each) in _SIMPLE:
            continue
        for held in gc.get_referents(each):
            if id(held) not in seen:
                seen.add(id(held))
                waiting.append(held)
    return False
