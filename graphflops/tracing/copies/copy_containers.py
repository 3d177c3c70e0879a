"""Copies of containers: created empty, filled later with copies of their members, by methods of their base class."""

from __future__ import annotations

import ast
import collections
import gc
import itertools
import types
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from graphflops.tracing.copies.copier_base import CopierBase
from graphflops.tracing.copies.object_state import is_a, object_dict, object_slots
from graphflops.tracing.copies.per_analysis import UncopyableIterator

_DICTS: tuple[type, ...] = (collections.OrderedDict, collections.defaultdict, dict)
_SHARING: tuple[type, ...] = (*map(type, itertools.tee(())), itertools.groupby, itertools.pairwise)
"""classes of iterators whose copies would advance the iterator that they read from"""


class ContainerCopier(CopierBase):
    """Copies containers."""

    def _dict(self, original: dict[Any, Any]) -> Any:
        cls = type(original)
        base: Any = next(base for base in _DICTS if issubclass(cls, base))
        copied: Any = base() if cls is base else base.__new__(cls)
        self._keep(original, copied)
        if base is collections.defaultdict:
            copied.default_factory = self._copy(original.default_factory)  # type: ignore[attr-defined]
        if original or cls is not base:
            put, items = base.__setitem__, base.items

            def fill() -> None:
                for key, value in items(original):
                    put(copied, key if type(key) is str else self._hashable(key), self._copy(value))
                self._fill_attributes(original, copied)

            self._pending.append(fill)
        return copied

    def _list(self, original: list[Any]) -> Any:
        return self._members(original, list.__new__(type(original)), list, list.extend)

    def _deque(self, original: collections.deque[Any]) -> Any:
        copied = collections.deque.__new__(type(original))
        collections.deque.__init__(copied, (), original.maxlen)
        return self._members(original, copied, collections.deque, collections.deque.extend)

    def _set(self, original: set[Any]) -> Any:
        return self._members(original, set.__new__(type(original)), set, set.update, self._hashable)

    def _members(
        self,
        original: Any,
        copied: Any,
        base: Any,
        put: Callable[..., None],
        copy_member: Callable[[Any], Any] | None = None,
    ) -> Any:
        copy = copy_member or self._copy
        self._keep(original, copied)

        def fill() -> None:
            self._fill_attributes(original, copied)
            put(copied, map(copy, base.__iter__(original)))

        if original or type(original) is not base:
            self._pending.append(fill)
        return copied

    def _hashable(self, key: Any) -> Any:
        """The copy of a key, filled at once if its hash may depend on its state."""
        pending = len(self._pending)
        copied = self._copy(key)
        hash_function: Any = type(key).__hash__
        if copied is not key and hash_function is not object.__hash__:
            while len(self._pending) > pending:
                self._pending.pop()()
        return copied

    def _tuple(self, original: tuple[Any, ...]) -> Any:
        cls = type(original)
        members = [self._copy(member) for member in tuple.__iter__(original)]
        if all(copied is member for copied, member in zip(members, original, strict=True)):
            return original
        if cls is tuple:
            return self._keep(original, tuple(members))
        copied = tuple.__new__(cls, members)
        self._fill_attributes(original, copied)
        return self._keep(original, copied)

    def _frozenset(self, original: frozenset[Any]) -> Any:
        members = [self._hashable(member) for member in original]
        if all(any(copied is member for member in original) for copied in members):
            return original
        return self._keep(original, frozenset.__new__(type(original), members))

    def _iterator(self, original: Any) -> Any:
        """The copy of an iterator; it is not advanced if Python cannot copy it."""
        if isinstance(original, types.GeneratorType) and original.gi_frame is None:
            return original  # it has ended
        copied: Any = UncopyableIterator(original)
        with suppress(Exception):
            copied = self._copied_iterator(original)
        return self._keep(original, copied)

    def _copied_iterator(self, original: Any) -> Any:
        if type(original) is itertools.count:  # whose __reduce__ is deprecated
            return itertools.count(*ast.literal_eval(f"({repr(original).partition('(')[2][:-1]},)"))
        if type(original).__module__ not in ("builtins", "itertools") or type(original) in _SHARING:
            raise TypeError("an iterator of a class that is not known")
        function, args, *state = original.__reduce__()
        copied = function(*map(self._copy, args))
        if state and state[0] is not None:
            copied.__setstate__(self._copy(state[0]))
        return copied

    def _mapping_proxy(self, original: Any) -> Any:
        mapping = gc.get_referents(original)[0]
        if is_a(mapping, dict) and "__module__" in mapping:  # the namespace of a class
            return original
        copied = self._copy(mapping)
        return original if copied is mapping else self._keep(original, types.MappingProxyType(copied))

    def _dict_view(self, original: Any) -> Any:
        copied = self._copy(gc.get_referents(original)[0])
        name = type(original).__name__.partition("_")[2]  # dict_keys is the class of keys()
        return self._keep(original, getattr(type(copied), name)(copied))

    def _memory_view(self, original: memoryview) -> Any:
        if original.readonly or original.nbytes != memoryview(original.obj).nbytes:
            return self._keep(original, memoryview(bytearray(original)).cast(original.format))  # type: ignore[call-overload]
        whole = memoryview(self._copy(original.obj))
        return self._keep(original, whole if whole.format == original.format else whole.cast(original.format))  # type: ignore[call-overload]

    def _memory_file(self, original: Any) -> Any:
        copied = type(original)(original.getvalue())
        copied.seek(original.tell())
        return self._keep(original, copied)

    def _weak_reference(self, reference: Any) -> Any:
        target = reference()
        if target is None or (copied := self._copy(target)) is target:
            return self._keep(reference, reference)
        return self._keep(reference, weakref.ref(copied))

    def _weak_key_dict(self, original: Any) -> Any:
        copied = self._keep(original, type(original)())

        def fill() -> None:
            copied.update({self._copy(key): self._copy(value) for key, value in original.items()})

        self._pending.append(fill)
        return copied

    def _weak_value_dict(self, original: Any) -> Any:
        copied = self._keep(original, type(original)())
        self._pending.append(lambda: copied.update({key: self._copy(value) for key, value in original.items()}))
        return copied

    def _weak_set(self, original: Any) -> Any:
        copied = self._keep(original, type(original)())
        self._pending.append(lambda: copied.update(map(self._copy, original)))
        return copied

    def _fill_attributes(self, original: Any, copied: Any) -> None:
        state = object_dict(original)
        if state:
            object_dict(copied).update({name: self._copy(value) for name, value in state.items()})
        for name, value in object_slots(original):
            with suppress(AttributeError):  # a property that has the name of a slot
                object.__setattr__(copied, name, self._copy(value))
