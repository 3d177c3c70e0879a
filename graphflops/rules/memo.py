"""Answers: a rule that is asked the same again gives the same, so that equal blocks are priced and explained once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from graphflops.core.sizes import Spec
from graphflops.rules.rule import Rule

Answer = TypeVar("Answer")

_PLAIN = (int, float, complex, str, bytes, Spec)
"""kinds of values that are what they look like; of anything else, such as a module, nothing is kept"""


class RuleCache(Generic[Answer]):
    """What rules said for the time of an analysis, by rule and by all that the rule asks for."""

    def __init__(self, ask: Callable[[Rule, Mapping[str, Any]], Answer]) -> None:
        self.ask = ask
        self._kept: dict[Hashable, Answer] = {}

    def of(self, rule: Rule, offered: Mapping[str, Any]) -> Answer:
        """The answer, asked for the first time or kept."""
        question = _question(rule, offered)
        if question is None:
            return self.ask(rule, offered)
        if question not in self._kept:
            self._kept[question] = self.ask(rule, offered)
        return self._kept[question]


def is_cacheable(rule: Rule, offered: Mapping[str, Any]) -> bool:
    """Whether all that a rule asks for is what it looks like, so that it may be asked later."""
    return _question(rule, offered) is not None


def _question(rule: Rule, offered: Mapping[str, Any]) -> Hashable | None:
    asked = [(name, _plain(offered[name])) for name in rule.signature.parameters if name in offered]
    return None if any(value is None for _, value in asked) else (id(rule), *asked)


def _plain(value: Any) -> Hashable | None:
    """A value with its kind, since 1, 1.0 and True are equal; None if it is not plain."""
    if isinstance(value, (tuple, list, frozenset)):
        parts = tuple(map(_plain, sorted(value) if isinstance(value, frozenset) else value))
        return None if None in parts else (type(value), parts)
    return (type(value), value) if value is None or isinstance(value, _PLAIN) else None
