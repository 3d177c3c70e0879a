"""What is known of an object, kept for as long as somebody else keeps the object."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Known = TypeVar("Known")


def weakly_cached(function: Callable[[Any], Known]) -> Callable[[Any], Known]:
    """As ``functools.cache`` of one argument, which is not kept alive: an operator of the user's goes with its library.

    The answer must not hold what it is of.
    """
    answers: WeakKeyDictionary[Any, Known] = WeakKeyDictionary()

    @wraps(function)
    def cached(of: Any) -> Known:
        try:
            return answers[of]
        except KeyError:
            return answers.setdefault(of, function(of))

    return cached
