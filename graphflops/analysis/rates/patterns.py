"""Resolve rates: which modules and operators a pattern matches, and which number a rate is there."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, ClassVar, TypeAlias

from graphflops.analysis.rates.shorthand import AverageDepth, layers
from graphflops.core.components import components, match_modules, parents
from graphflops.core.entries import Entry
from graphflops.core.errors import UsageError
from graphflops.core.expressions import Compute, Expression, ExpressionError
from graphflops.core.messages import did_you_mean, first_of
from graphflops.core.rate import Rate, to_fraction

RateLike: TypeAlias = "Rate | AverageDepth | int | float | Fraction | str | tuple[Any, ...]"
"""A number, an expression, bounds, an average depth, or a Rate."""

Attributes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Module path → the module's attributes that are numbers, by name."""

AVERAGE_DEPTH_PREFIX = "avg_layers_executed="
EXPECTED = "expected 0.62, 5/8 or top_k/num_experts"


@dataclass(frozen=True)
class Rates:
    """Resolved rates: of modules, by path, and of operators, by the target of the call."""

    modules: Mapping[str, Rate]
    operators: Mapping[str, Rate]
    averaged: frozenset[str] = frozenset()
    """paths of the modules whose rate comes of an average depth; a rate of 0 does not mean that they never run"""


def resolve_rates(
    rates: Mapping[str, RateLike],
    modules: Mapping[str, str],
    called: Collection[str],
    entries: Sequence[Entry],
    attributes: Attributes,
) -> Rates:
    """The rates of the modules and operators that the patterns match.

    A pattern is matched against module paths, then components, then targets of calls and operators. ``blocks.3.*`` is
    the module ``blocks.3`` with everything in it; a list of modules, which does no work itself, stands for its members.
    Of two patterns that match the same module, the one with more letters wins, and the later of two with equally many.
    Names in expressions are attributes of modules.

    Raises:
        UsageError: a pattern matches nothing, or a rate is invalid.
    """
    if not isinstance(rates, Mapping) or not all(isinstance(pattern, str) for pattern in rates):
        raise UsageError(f"rates must be a dict from patterns to rates, as {{'blocks.3.*': 0.62}}, not {rates!r}")
    if not rates:
        return Rates({}, {})
    calls = [entry for entry in entries if entry.kind == "call"]
    tree = _ModuleTree(modules, {*called, *(call.path for call in calls)})
    operators = {call.target: call.operator for call in calls}
    module_rates: dict[str, tuple[int, Rate]] = {}
    operator_rates: dict[str, tuple[int, Rate]] = {}
    averaged: set[str] = set()
    for pattern, rate in rates.items():
        letters = sum(character not in "*?[]" for character in pattern)
        if matched := match_modules(pattern, modules):
            for module in matched:
                paths = list(tree.children_with_work(module))
                for index, path in enumerate(paths):
                    resolved = _to_rate(pattern, rate, path, attributes, index, len(paths))
                    if letters >= module_rates.get(path, (0, resolved))[0]:
                        module_rates[path] = letters, resolved
                        (averaged.add if _is_average_depth(rate) else averaged.discard)(path)
            continue
        targets = [
            target for target, name in operators.items() if fnmatchcase(target, pattern) or fnmatchcase(name, pattern)
        ]
        if not targets:
            raise UsageError(_no_match_message(pattern, modules, (*operators, *operators.values())))
        for target in targets:
            resolved = _to_rate(pattern, rate, "", attributes)
            if letters >= operator_rates.get(target, (0, resolved))[0]:
                operator_rates[target] = letters, resolved
    return Rates(
        {path: rate for path, (_, rate) in module_rates.items()},
        {target: rate for target, (_, rate) in operator_rates.items()},
        frozenset(averaged),
    )


class _ModuleTree:
    """The modules of a model, and those that do work."""

    def __init__(self, modules: Mapping[str, str], working: Collection[str]) -> None:
        self._working = working
        self._containing_work = {parent for path in working for parent in parents(path)} - {""}
        self._children: dict[str, list[str]] = {}
        for path in filter(None, modules):
            self._children.setdefault(path.rpartition(".")[0], []).append(path)

    def children_with_work(self, path: str) -> Iterator[str]:
        """The module itself; of a list of modules, its members, whether or not each of them ran."""
        remaining = [path]
        while remaining:
            path = remaining.pop()
            if path in self._working or path not in self._containing_work:
                yield path
            else:
                remaining += reversed(self._children.get(path, ()))


def unused_rates(rates: Rates, entries: Sequence[Entry]) -> tuple[str, ...]:
    """A warning about the modules with a rate that did not run when the model was traced, if there are any."""
    if not rates.modules:
        return ()
    ran = {path for entry in entries if entry.kind == "call" for path in (entry.path, *parents(entry.path))}
    unused = [path for path in rates.modules if path not in ran]
    if not unused:
        return ()
    return (
        f"rates without effect, as these modules did not run on these inputs: {first_of(unused)}. "
        "Experts in a loop all run if there are enough tokens",
    )


class RateExpression(Expression):
    """An expression of numbers and attributes of modules, ``top_k/num_experts``; its value is an exact fraction."""

    operators: ClassVar[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
        **Expression.operators,
        ast.Div: operator.truediv,
    }
    functions: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "min": lambda *numbers: min(numbers),
        "max": lambda *numbers: max(numbers),
    }

    def _number(self, value: Any) -> Fraction:
        return to_fraction(value)

    def _compile(self, node: ast.AST) -> Compute:
        match node:
            case ast.Constant(value=float()):  # read as it is written: 1e-999 would be 0
                return self._literal((ast.get_source_segment(self.text, node) or "").replace("_", ""))
            case ast.Attribute():
                name = ast.unparse(node)
                return lambda names: self._look_up(name, names)
        return super()._compile(node)

    def _look_up(self, name: str, names: Mapping[str, Any]) -> Fraction:
        return self._number(super()._look_up(name, names))


def _is_average_depth(rate: RateLike) -> bool:
    return isinstance(rate, AverageDepth) or (isinstance(rate, str) and rate.strip().startswith(AVERAGE_DEPTH_PREFIX))


def _to_rate(pattern: str, rate: RateLike, path: str, attributes: Attributes, index: int = 0, count: int = 1) -> Rate:
    """A rate as it was given, as a Rate; ``index`` and ``count`` are those of the module among all that are matched."""
    try:
        if isinstance(rate, str) and _is_average_depth(rate):
            rate = layers(*_to_numbers(rate.strip().removeprefix(AVERAGE_DEPTH_PREFIX), path, attributes))
        if isinstance(rate, AverageDepth):
            return rate.rate_of_layer(index, count)
        if isinstance(rate, Rate):
            return rate
        parts = rate if isinstance(rate, (tuple, list)) else (rate,)
        resolved = Rate(*(number for part in parts for number in _to_numbers(part, path, attributes)))
    except UsageError as error:
        raise UsageError(f"the rate of {pattern!r}: {error}") from error
    if resolved.upper > 1:
        raise UsageError(
            f"the rate of {pattern!r}: {resolved} is more than 1; for work that the data repeats, "
            f"give graphflops.rates.Rate({float(resolved.upper):g})"
        )
    return resolved


def _to_numbers(rate: Any, path: str, attributes: Attributes) -> list[Fraction]:
    """One number, or those of a text such as ``0.3..0.8``; names are attributes of the nearest module that has them."""
    if not isinstance(rate, str):
        return [to_fraction(rate)]
    names: dict[str, Any] = {}
    for owner in reversed((path, *parents(path))):
        names |= attributes.get(owner, {})
    try:
        return [RateExpression(part)(names) for part in rate.split("..")]
    except ExpressionError as error:
        location = f" of {path}" if path else ""
        raise UsageError(f"invalid rate{location}, {error}; {EXPECTED}") from error


def _no_match_message(pattern: str, modules: Mapping[str, str], operators: Iterable[str]) -> str:
    names = list(dict.fromkeys((*filter(None, modules), *components(modules).values(), *operators)))
    hint = did_you_mean(pattern, names) or f"there are: {', '.join(names[:8])}, …"
    return f"rate pattern {pattern!r} matches nothing: no module, component or operator has this name; {hint}"
