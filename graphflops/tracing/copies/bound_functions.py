"""Functions that users' files hold references to, replaced during an analysis: cached ones, and ones that draw.

A function with ``functools.lru_cache`` has a new cache in the thread of the analysis: a tensor that was cached before
would not be counted when it is computed. A function of ``random`` or ``numpy.random`` draws from a generator of the
analysis.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Collection
from types import FunctionType, MethodType
from typing import Any

from graphflops.tracing.copies.code_names import cell_content
from graphflops.tracing.copies.object_state import is_a, object_dict
from graphflops.tracing.session.random_numbers import with_own_generator
from graphflops.tracing.session.session import in_analysis

LRU_CACHE = functools._lru_cache_wrapper


class CachedPerAnalysis:
    """A cached function that uses its own cache outside of an analysis, and a new one in the thread of an analysis."""

    _graphflops_shares_it = True

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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current(), name)

    def _current(self) -> Any:
        attributes = object_dict(self)
        return attributes["_own"] if in_analysis() else attributes["_original"]


def replace_bound_functions(modules: Collection[str]) -> list[Callable[[], None]]:
    """Replace such functions wherever the code of some Python modules refers to them; return what restores them."""
    return _Bindings(modules).restores


class _Bindings:
    """Names, defaults and closures that refer to functions which are replaced."""

    def __init__(self, modules: Collection[str]) -> None:
        self.restores: list[Callable[[], None]] = []
        self._caches: dict[int, CachedPerAnalysis] = {}
        for module_name in modules:
            module = sys.modules[module_name]
            for name, value in [*vars(module).items()]:
                if (replacement := self._replacement(value)) is not None:
                    self._bind(functools.partial(vars(module).__setitem__, name), value, replacement)
                elif is_a(value, FunctionType):
                    self._replace_in_function(value)
                elif is_a(value, type) and value.__module__ == module_name:
                    self._replace_in_class(value)

    def _replacement(self, value: Any) -> Any:
        if is_a(value, LRU_CACHE):
            return self._caches.setdefault(id(value), CachedPerAnalysis(value))
        return with_own_generator(value)

    def _bind(self, bind: Callable[[Any], None], original: Any, replacement: Any) -> None:
        bind(replacement)
        self.restores.append(functools.partial(bind, original))

    def _replace_in_class(self, cls: type) -> None:
        for name, value in [*vars(cls).items()]:
            function = value.__func__ if is_a(value, (classmethod, staticmethod)) else value
            if is_a(function, FunctionType):
                self._replace_in_function(function)
            elif is_a(function, LRU_CACHE):
                cached = self._replacement(function)
                replacement = cached if function is value else type(value)(cached)
                self._bind(functools.partial(type.__setattr__, cls, name), value, replacement)

    def _replace_in_function(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            content = cell_content(cell)
            if (replacement := self._replacement(content)) is not None:
                self._bind(functools.partial(setattr, cell, "cell_contents"), content, replacement)
        keyword_defaults = function.__kwdefaults__ or {}
        for name, value in [*keyword_defaults.items()]:
            if (replacement := self._replacement(value)) is not None:
                self._bind(functools.partial(keyword_defaults.__setitem__, name), value, replacement)
        defaults = function.__defaults__ or ()
        replacements = tuple(
            value if (replacement := self._replacement(value)) is None else replacement for value in defaults
        )
        if any(map(operator.is_not, replacements, defaults)):
            self._bind(functools.partial(setattr, function, "__defaults__"), defaults, replacements)
