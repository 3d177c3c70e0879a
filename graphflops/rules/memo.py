"""A cache of rule results for the time of one analysis: identical blocks of a model are costed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from graphflops.core.sizes import Spec
from graphflops.rules.rule import Rule

Result = TypeVar("Result")

_HASHABLE = (int, float, complex, str, bytes, Spec)
"""types whose values are equal if they compare equal; nothing is cached for others, such as modules"""


class RuleCache(Generic[Result]):
    """Results of a function of rule and arguments, by the rule and the arguments that it requests."""

    def __init__(self, compute: Callable[[Rule, Mapping[str, Any]], Result]) -> None:
        self.compute = compute
        self._results: dict[Hashable, Result] = {}

    def get(self, rule: Rule, arguments: Mapping[str, Any]) -> Result:
        """The result, computed if it is not cached."""
        key = _key(rule, arguments)
        if key is None:
            return self.compute(rule, arguments)
        if key not in self._results:
            self._results[key] = self.compute(rule, arguments)
        return self._results[key]


def is_cacheable(rule: Rule, arguments: Mapping[str, Any]) -> bool:
    """Whether every argument that a rule requests is hashable by value, so that it may be evaluated later."""
    return _key(rule, arguments) is not None


def _key(rule: Rule, arguments: Mapping[str, Any]) -> Hashable | None:
    values = [(name, _hashable(arguments[name])) for name in rule.signature.parameters if name in arguments]
    return None if any(value is None for _, value in values) else (id(rule), *values)


def _hashable(value: Any) -> Hashable | None:
    """A value with its type, since 1, 1.0 and True are equal; None if it is not hashable by value."""
    if isinstance(value, (tuple, list, frozenset)):
        parts = tuple(map(_hashable, sorted(value) if isinstance(value, frozenset) else value))
        return None if None in parts else (type(value), parts)
    return (type(value), value) if value is None or isinstance(value, _HASHABLE) else None
