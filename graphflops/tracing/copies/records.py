"""Records of state for which no copy can stand in: its content before a program ran, restored where that wrote to it.

A record restores everything if no other thread could have written, and else what refers to a fake tensor or a copy.
"""

from __future__ import annotations

import array
import ctypes
import gc
import io
import operator
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import fx

from graphflops.tracing.copies.code_names import MISSING, cell_content
from graphflops.tracing.copies.object_state import is_a, object_slots
from graphflops.tracing.session.session import IsOwn

OPAQUE = (types.ModuleType, type, types.FunctionType, types.CodeType, types.FrameType, torch.Tensor, fx.Graph)
"""classes of objects that are not searched for fake tensors"""
ATOMS: frozenset[Any] = frozenset({int, float, complex, bool, str, bytes, type(None), types.ModuleType})
_MAX_SEARCHED = 100_000
"""objects that are searched for fake tensors"""


Content = tuple[Any, Any]
"""a holder of values, and its content before the program ran"""


class Kind:
    """How the content of holders of one kind is read, compared and restored."""

    def read(self, holder: Any) -> Any:
        """The content, as an object of its own."""
        return self._read(holder)

    def values(self, before: Any) -> Iterable[Any]:
        """The values in a content."""
        return self._values(before)

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        """The holders that have another content now."""
        return [(holder, before) for holder, before in contents if not _are_same(self._read(holder), before)]

    def restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        """Restore a content: all of it, or, if not ``alone``, where it refers to a fake tensor or a copy."""
        self._restore(holder, before, is_own, alone)

    def replace(self, holder: Any, value: Any, replacement: Any) -> None:
        """Replace a value wherever a holder has it."""
        self._replace(holder, value, replacement)

    def _read(self, holder: Any) -> Any:
        raise NotImplementedError

    def _values(self, before: Any) -> Iterable[Any]:
        return before  # type: ignore[no-any-return]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        raise NotImplementedError

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        pass


def _are_same(now: Any, before: Any) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


class _Dicts(Kind):
    """Dicts, and attributes of objects."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def _read(self, holder: Any) -> dict[Any, Any]:
        return dict(self.base.items(holder))

    def _values(self, before: Any) -> Iterable[Any]:
        return before.values()  # type: ignore[no-any-return]

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        keys, values, is_ = self.base.keys, self.base.values, operator.is_
        return [
            (holder, before)
            for holder, before in contents
            if len(now := values(holder)) != len(before)
            or not all(map(is_, now, before.values()))
            or not all(map(is_, keys(holder), before))
        ]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        base = self.base
        if alone:
            base.clear(holder)
            for key, value in before.items():
                base.__setitem__(holder, key, value)
            return
        for key, value in [*base.items(holder)]:
            previous = before.get(key, MISSING)
            if previous is value or not refers_to_own(value, is_own):
                continue
            if previous is MISSING:
                base.__delitem__(holder, key)
            else:
                base.__setitem__(holder, key, previous)

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        for key in [key for key, member in self.base.items(holder) if member is value]:
            self.base.__setitem__(holder, key, replacement)


class _OfThread(_Dicts):
    """The attributes that objects have in the thread of the analysis, where nobody else writes."""

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        super()._restore(holder, before, is_own, True)


class _Namespaces(Kind):
    """The globals of Python modules. Modules, functions and classes that these get meanwhile are imported, and stay."""

    def _read(self, holder: Any) -> dict[str, Any]:
        return dict(vars(holder))

    def _values(self, before: Any) -> Iterable[Any]:
        return before.values()  # type: ignore[no-any-return]

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        return [
            (holder, before)
            for holder, before in contents
            if len(vars(holder)) != len(before) or not all(map(operator.is_, vars(holder).values(), before.values()))
        ]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        now = self._read(holder)
        for name, value in now.items():
            previous = before.get(name, MISSING)
            if previous is value or (previous is MISSING and (name.startswith("__") or is_a(value, OPAQUE[:3]))):
                continue
            if alone or refers_to_own(value, is_own):
                self._set(holder, name, previous)
        if alone:
            for name in before.keys() - now.keys():
                self._set(holder, name, before[name])

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        for name in [name for name, member in vars(holder).items() if member is value]:
            self._set(holder, name, replacement)

    def _set(self, holder: Any, name: str, value: Any) -> None:
        if value is MISSING:
            del vars(holder)[name]
        else:
            vars(holder)[name] = value


class _Classes(_Namespaces):
    """The attributes of classes."""

    def _set(self, holder: Any, name: str, value: Any) -> None:
        if value is MISSING:
            type.__delattr__(holder, name)
        else:
            type.__setattr__(holder, name, value)


class _Lists(Kind):
    """Lists and deques."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def _read(self, holder: Any) -> list[Any]:
        return [*self.base.__iter__(holder)]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        now = self._read(holder)
        kept = before if alone else [value for value in now if not refers_to_own(value, is_own)]
        if alone or len(kept) < len(now):
            self.base.clear(holder)
            self.base.extend(holder, kept)

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        for index, member in enumerate(self._read(holder)):
            if member is value:
                self.base.__setitem__(holder, index, replacement)


class _Sets(Kind):
    def _read(self, holder: Any) -> set[Any]:
        return set(set.__iter__(holder))

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        return [(holder, before) for holder, before in contents if self._read(holder) != before]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        for value in self._read(holder) - before:
            if alone or refers_to_own(value, is_own):
                set.discard(holder, value)
        if alone:
            set.update(holder, before)


class _Cells(Kind):
    """Variables of closures."""

    def _read(self, holder: Any) -> Any:
        return (cell_content(holder),)

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        if alone or refers_to_own(cell_content(holder), is_own):
            if before[0] is MISSING:
                del holder.cell_contents
            else:
                holder.cell_contents = before[0]

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        if cell_content(holder) is value:
            holder.cell_contents = replacement


class _Slots(Kind):
    """Slots of objects."""

    def _read(self, holder: Any) -> dict[str, Any]:
        return dict(object_slots(holder))

    def _values(self, before: Any) -> Iterable[Any]:
        return before.values()  # type: ignore[no-any-return]

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        return [
            (holder, before)
            for holder, before in contents
            if not _are_same([*self._read(holder).values()], before.values())
        ]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        now = self._read(holder)
        for name in {**before, **now}:
            value, previous = now.get(name, MISSING), before.get(name, MISSING)
            if value is previous or not (alone or refers_to_own(value, is_own)):
                continue
            if previous is MISSING:
                object.__delattr__(holder, name)
            else:
                object.__setattr__(holder, name, previous)

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        for name, member in object_slots(holder):
            if member is value:
                object.__setattr__(holder, name, replacement)


class _Functions(Kind):
    """The defaults and the code of functions, and that they have no attributes."""

    def _read(self, holder: Any) -> tuple[Any, ...]:
        return holder.__defaults__, holder.__kwdefaults__, holder.__code__, not holder.__dict__

    def _values(self, before: Any) -> Iterable[Any]:
        return before[:2]  # type: ignore[no-any-return]

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        return [
            (function, before)
            for function, before in contents
            if function.__defaults__ is not before[0]
            or function.__kwdefaults__ is not before[1]
            or function.__code__ is not before[2]
            or (before[3] and function.__dict__)
        ]

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        if alone or refers_to_own((self._read(holder), holder.__dict__), is_own):
            holder.__defaults__, holder.__kwdefaults__, holder.__code__ = before[:3]
            if before[3]:
                holder.__dict__.clear()

    def _replace(self, holder: Any, value: Any, replacement: Any) -> None:
        if holder.__defaults__ is value:
            holder.__defaults__ = replacement


DICTS, ORDERED_DICTS, OF_THREAD = _Dicts(dict), _Dicts(OrderedDict), _OfThread(dict)
LISTS, DEQUES, SETS = _Lists(list), _Lists(deque), _Sets()
NAMESPACES, CLASSES = _Namespaces(), _Classes()
CELLS, SLOTS, FUNCTIONS = _Cells(), _Slots(), _Functions()


# -- state that is no Python object --------------------------------------------------------------------------------


class _Contents(Kind):
    """State that a class keeps to itself, and returns and takes as a value: buffers, random numbers."""

    def __init__(self, get: Callable[[Any], Any], set_: Callable[[Any, Any], Any]) -> None:
        self.get, self.set = get, set_

    def _read(self, holder: Any) -> Any:
        return self.get(holder)

    def _values(self, before: Any) -> Iterable[Any]:
        return ()

    def modified(self, contents: Sequence[Content]) -> list[Content]:
        return [*contents]  # setting the same state modifies nothing

    def _restore(self, holder: Any, before: Any, is_own: IsOwn, alone: bool) -> None:
        if alone:
            self.set(holder, before)


def _file_content(file: Any) -> tuple[Any, int]:
    return file.getvalue(), file.tell()


def _set_file_content(file: Any, content: tuple[Any, int]) -> None:
    file.seek(0)
    file.write(content[0])
    file.truncate()
    file.seek(content[1])


def _set_all(buffer: Any, content: Any) -> None:
    if buffer != content:
        buffer[:] = content


def _set_bytes(value: Any, content: bytes) -> None:
    ctypes.memmove(ctypes.addressof(value), content, len(content))


def _set_array(values: Any, content: Any) -> None:
    values[...] = content


def _set_bit_generator(generator: Any, state: Any) -> None:
    generator.bit_generator.state = state


_SIMPLE_CONTENTS: tuple[tuple[type, Callable[[Any], Any], Callable[[Any, Any], Any]], ...] = (
    (random.Random, random.Random.getstate, random.Random.setstate),
    (torch.Generator, lambda generator: generator.get_state().clone(), torch.Generator.set_state),
    (bytearray, bytearray, _set_all),
    (array.array, lambda values: values[:], _set_all),
    (io.BytesIO, _file_content, _set_file_content),
    (io.StringIO, _file_content, _set_file_content),
    (ctypes.Array, bytes, _set_bytes),
    (ctypes.Structure, bytes, _set_bytes),
    (ctypes.c_int.__mro__[1], bytes, _set_bytes),
)


def is_array(value: Any) -> bool:
    """Whether a value is a numpy array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and is_a(value, numpy.ndarray)


def kind_of_content(cls: type) -> Kind | None:
    """The kind of instances whose class keeps their state to itself, and returns and takes it; None of others."""
    if issubclass(cls, random.SystemRandom):
        return None
    for base, get, set_ in _SIMPLE_CONTENTS:
        if issubclass(cls, base):
            return _Contents(get, set_)
    if (numpy := sys.modules.get("numpy")) is not None and issubclass(cls, numpy.ndarray):
        return _Contents(lambda values: values.copy(), _set_array)
    if (random_of_numpy := sys.modules.get("numpy.random")) is not None:
        if issubclass(cls, random_of_numpy.Generator):
            return _Contents(operator.attrgetter("bit_generator.state"), _set_bit_generator)
        if issubclass(cls, random_of_numpy.RandomState):
            return _Contents(operator.methodcaller("get_state", legacy=False), cls.set_state)  # type: ignore[attr-defined]
        if issubclass(cls, random_of_numpy.BitGenerator):
            return _Contents(operator.attrgetter("state"), lambda generator, state: setattr(generator, "state", state))
    return None


def refers_to_own(value: Any, is_own: IsOwn) -> bool:
    """Whether a value refers to a fake tensor or a copy of the analysis, however deep."""
    pending, visited = [value], {id(value)}
    while pending and len(visited) < _MAX_SEARCHED:
        referrer = pending.pop()
        if is_own(referrer):
            return True
        if is_a(referrer, OPAQUE) or type(referrer) in ATOMS:
            continue
        for referent in gc.get_referents(referrer):
            if id(referent) not in visited:
                visited.add(id(referent))
                pending.append(referent)
    return False
