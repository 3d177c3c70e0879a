"""A cache that does not keep its keys alive."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Result = TypeVar("Result")


def weakly_cached(function: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """``functools.cache`` for one argument that is held by a weak reference.

    A result must not refer to its argument.
    """
    results: WeakKeyDictionary[Any, Result] = WeakKeyDictionary()

    @wraps(function)
    def cached(argument: Any) -> Result:
        try:
            return results[argument]
        except KeyError:
            return results.setdefault(argument, function(argument))

    return cached
