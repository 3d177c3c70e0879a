"""Objects of users' files that are replaced during an analysis: cached functions, functions that draw, iterators.

A function with ``functools.lru_cache`` has a new cache in the thread of the analysis: a tensor that was cached before
would not be counted when it is computed. A function of ``random`` or ``numpy.random`` draws from a generator of the
analysis. An iterator is copied; one that cannot be copied, such as a generator, is not advanced.
"""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any

from graphflops.core.errors import CaptureError
from graphflops.tracing.copies.object_state import is_a, object_dict
from graphflops.tracing.copies.records import Content, Kind
from graphflops.tracing.session.leaks import describe_holders
from graphflops.tracing.session.session import in_analysis

LRU_CACHE = functools._lru_cache_wrapper
BUILTIN_METHODS = (types.BuiltinMethodType, types.MethodWrapperType)


class _PerAnalysis:
    """An object that is the original outside of an analysis, and another one in the thread of an analysis."""

    _graphflops_shares_it = True

    def _current(self) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current(), name)


class CachedPerAnalysis(_PerAnalysis):
    """A cached function that uses its own cache outside of an analysis, and a new one in the thread of an analysis."""

    def __init__(self, cached: Any) -> None:
        parameters = cached.cache_parameters()
        self._original = cached
        self._own = functools.lru_cache(parameters["maxsize"], parameters["typed"])(cached.__wrapped__)
        functools.update_wrapper(self, cached)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result, cached or computed."""
        return self._current()(*args, **kwargs)

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        return self if owner is None else MethodType(self, owner)

    def _current(self) -> Any:
        attributes = object_dict(self)
        return attributes["_own"] if in_analysis() else attributes["_original"]


class IteratorPerAnalysis(_PerAnalysis):
    """An iterator that is advanced outside of an analysis only; in its thread, a copy is advanced."""

    def __init__(self, original: Any, copy: Callable[[Any], Any]) -> None:
        self._original, self._copy = original, copy

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        current = self._current()
        if isinstance(current, UncopyableIterator):
            current.stands_in = self
        return next(current)

    def __repr__(self) -> str:
        return repr(self._current())

    def _current(self) -> Any:
        attributes = object_dict(self)
        original = attributes["_original"]
        return attributes["_copy"](original) if in_analysis() else original


class UncopyableIterator:
    """The copy of an iterator that Python cannot copy: it is not advanced.

    Raises:
        CaptureError: the program advances it.
    """

    _graphflops_shares_it = True

    def __init__(self, original: Any) -> None:
        self._original = original
        self.stands_in: Any = self
        """the object that users' files refer to meanwhile"""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.send()

    def send(self, *_: Any) -> Any:
        """Refuse to advance it, as ``throw`` and ``close`` do."""
        original = self._original
        holders = describe_holders((original, self.stands_in))
        raise CaptureError(
            f"the model's code advances {_describe_iterator(original)}, which "
            f"{f'is held by {holders[0]} and ' if holders else ''}was created before the analysis: Python cannot copy "
            "it, and advancing it would change the program.\n"
            "Create it in the code that is analyzed, or pass the values that it yields as inputs."
        )

    throw = close = send

    def __getattr__(self, name: str) -> Any:
        return getattr(object_dict(self)["_original"], name)


def _describe_iterator(iterator: Any) -> str:
    cls = type(iterator)
    if isinstance(iterator, types.GeneratorType):
        return f"the generator {iterator.__qualname__} ({iterator.gi_code.co_filename})"
    return f"a {cls.__module__}.{cls.__qualname__}".replace("builtins.", "")


# -- replacements --------------------------------------------------------------------------------------------------


def replace_everywhere(
    replacements: dict[int, tuple[Any, Any]], compounds: Sequence[Any], recorded: Mapping[Kind, Sequence[Content]]
) -> list[Callable[[], None]]:
    """Replace values in the holders that were recorded; return what restores them.

    ``replacements`` has each value and its replacement, by the id of the value; ``compounds`` are immutable objects
    that may contain such values, the outer ones first: they are replaced by new ones.
    """
    if not replacements:
        return []
    for compound in reversed(compounds):
        if (rebuilt := _rebuilt(compound, replacements)) is not None:
            replacements[id(compound)] = compound, rebuilt
    restores: list[Callable[[], None]] = []
    for kind, contents in recorded.items():
        values, has_none = kind.values, replacements.keys().isdisjoint
        for holder, before in contents:
            if has_none(map(id, values(before))):  # as nearly all
                continue
            for key in replacements.keys() & map(id, values(before)):
                original, replacement = replacements[key]
                kind.replace(holder, original, replacement)
                restores.append(functools.partial(kind.replace, holder, replacement, original))
    return restores


def _rebuilt(compound: Any, replacements: dict[int, tuple[Any, Any]]) -> Any:
    """An immutable object with its contents replaced; None, if it contains nothing that is."""

    def new(value: Any) -> Any:
        return replacements[id(value)][1] if id(value) in replacements else value

    if is_a(compound, tuple):
        members = [*map(new, tuple.__iter__(compound))]
        return tuple.__new__(type(compound), members) if any(map(operator.is_not, members, compound)) else None
    if is_a(compound, (staticmethod, classmethod)):
        function = new(compound.__func__)
        return None if function is compound.__func__ else type(compound)(function)
    if is_a(compound, functools.partial):
        function, args = new(compound.func), tuple(map(new, compound.args))
        if function is compound.func and all(map(operator.is_, args, compound.args)):
            return None  # its keywords are a dict, in which values are replaced
        rebuilt = functools.partial.__new__(type(compound), function)
        rebuilt.__setstate__((function, args, compound.keywords, object_dict(compound)))
        return rebuilt
    owner = new(compound.__self__)
    return None if owner is compound.__self__ else getattr(owner, compound.__name__)
