"""Growth of costs: orders, budgets, and the sizes at which two models cost the same; exact, from the polynomials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING

from graphflops.analysis.scaling.atoms import Atom, Log2
from graphflops.analysis.scaling.law_terms import LawPhase, LawTerms
from graphflops.analysis.scaling.notation import format_components, format_degree, format_polynomial
from graphflops.analysis.scaling.one_size import Signs, degree, leading_coefficient, period, sign_intervals
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity
from graphflops.core.errors import UsageError
from graphflops.core.retired import renamed

if TYPE_CHECKING:
    import sympy

MAX_PRINTED_TERMS = 6
"""dominant terms that are printed"""


# -- orders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DominantTerm:
    """An operation of a component whose cost grows with the highest power of a size."""

    component: str
    what: str
    polynomial: Polynomial
    """its part in this power"""
    text: str


@dataclass(frozen=True)
class Order:
    """The order of growth of a cost in a size."""

    size: str
    degree: int
    """the highest power, without logarithms"""
    coefficient: sympy.Expr
    """of the highest power, in the other sizes"""
    dominant_terms: tuple[DominantTerm, ...]
    text: str

    carriers = renamed("dominant_terms")

    def __str__(self) -> str:
        return self.text


def order(law: LawTerms, size: str, phase: LawPhase) -> Order:
    """The order of growth of a phase, and the operations with this order by component, the largest first.

    Raises:
        UsageError: there is no such size or phase.
    """
    law.check_sizes([size])
    polynomial = law.polynomial(phase)
    highest, leading = degree(polynomial, size), leading_coefficient(polynomial, size)
    names = tuple(law.sizes)
    power = Polynomial.monomial(*[Atom(size)] * highest.power, *[Log2(size)] * highest.logarithms)
    operations: dict[tuple[str, str], list[Quantity]] = {}
    for quantity in law.terms:
        operations.setdefault((quantity.component, quantity.what), []).append(quantity)
    dominant: dict[tuple[str, Polynomial], list[str]] = {}
    for (component, what), quantities in operations.items():
        part = law.sum_of(phase, quantities)
        if part and degree(part, size) == highest:
            dominant.setdefault((what, leading_coefficient(part, size) * power), []).append(component)
    base = law.all_sizes({})

    def cost(item: tuple[tuple[str, Polynomial], list[str]]) -> Fraction:
        (_, term), components = item
        return Fraction(term.evaluate(base)) * len(components)

    terms, texts = [], []
    for (what, term), components in sorted(dominant.items(), key=cost, reverse=True):
        per_component = " each" if len(components) > 1 else ""
        text = f"{format_components(components)}: {what}, {format_polynomial(term, names)}{per_component}"
        terms += [DominantTerm(component, what, term, text) for component in components]
        texts.append(text)
    printed = [
        f"{format_degree(highest, size)}: {format_polynomial(leading * power, names)}",
        *(f"    {line}" for line in texts[:MAX_PRINTED_TERMS]),
    ]
    if len(texts) > MAX_PRINTED_TERMS:
        printed.append(f"    and {len(texts) - MAX_PRINTED_TERMS} more")
    return Order(size, highest.power, leading.as_sympy(), tuple(terms), "\n".join(printed))


# -- budgets -----------------------------------------------------------------------------------------------------


def largest_within(law: LawTerms, size: str, budget: float, phase: LawPhase, sizes: Mapping[str, int]) -> int:
    """The largest value of a size at which a phase costs at most a budget.

    Raises:
        UsageError: there is no such size, no value is within the budget, or all are.
    """
    law.check_sizes([size])
    polynomial = _in_one_size(law, size, phase, sizes)
    allowed, unit = law.sizes[size], law.convention.unit
    try:
        limit = Fraction(budget)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the budget must be a number of {unit}s, not {budget!r}") from error
    step = allowed.multiple_of
    interval = period(polynomial, size, step)
    excess = polynomial - Polynomial({(): limit})
    largest = None
    for residue in range(step, interval + step, step):
        first = 0 if allowed.min is None else max(0, -(-(allowed.min - residue) // interval))
        last = None if allowed.max is None else (allowed.max - residue) // interval
        t = _last_not_positive(sign_intervals(excess, size, interval, residue, first), last)
        if t is None:
            raise UsageError(
                f"{law.model} costs at most {budget:,} {unit}s at any {size}: "
                f"its cost is {format_polynomial(polynomial, tuple(law.sizes))}"
            )
        if t >= 0:
            largest = max(largest or 0, interval * t + residue)
    if largest is None:
        raise UsageError(
            f"no {size} keeps {law.model} within {budget:,} {unit}s: "
            f"at {size} = {allowed.round_down(1):,} it costs {polynomial.evaluate({size: allowed.round_down(1)}):,}"
        )
    return largest


def _last_not_positive(intervals: Signs, last: int | None) -> int | None:
    """The largest t, up to ``last``, with a sign that is not positive: −1 if there is none, None if it is unbounded."""
    for (start, sign), following in reversed(list(zip(intervals, [*intervals[1:], None], strict=True))):
        if sign <= 0 and (last is None or start <= last):
            if following is None:
                return last
            return following[0] - 1 if last is None else min(following[0] - 1, last)
    return -1


def _in_one_size(law: LawTerms, size: str, phase: LawPhase, sizes: Mapping[str, int]) -> Polynomial:
    """A phase as a polynomial in one size, with numbers for the others."""
    if size in sizes:
        raise UsageError(f"{size} is the unknown: give values of the other sizes")
    fixed = {name: value for name, value in law.all_sizes(sizes).items() if name != size}
    return law.polynomial(phase).substitute(fixed)


# -- crossovers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """Values of a size, from ``first`` to ``last``, at which one of two models is cheaper."""

    first: int
    last: int | None
    """None if the interval is unbounded"""
    cheaper_model: str | None
    """None if both cost the same"""

    cheaper = renamed("cheaper_model")

    def __str__(self) -> str:
        return "both cost the same" if self.cheaper_model is None else f"{self.cheaper_model} costs less"


@dataclass(frozen=True)
class Crossover:
    """The intervals of a size in which each of two models is cheaper."""

    size: str
    intervals: tuple[Bounds, ...]
    text: str

    stretches = renamed("intervals")

    @property
    def at(self) -> tuple[int, ...]:
        """The values at which the cheaper model changes."""
        return tuple(interval.first for interval in self.intervals[1:])

    def __str__(self) -> str:
        return self.text


def crossover(first: LawTerms, second: LawTerms, size: str, phase: LawPhase, sizes: Mapping[str, int]) -> Crossover:
    """The intervals between the roots of the difference of two laws, a polynomial in one size.

    Raises:
        UsageError: a law has no such size, or the conventions differ.
    """
    first.check_sizes([size])
    second.check_sizes([size])
    if first.convention != second.convention:
        raise UsageError(
            f"the conventions differ, {first.convention.name} and {second.convention.name}: "
            "compare law.with_convention(…) of one convention"
        )
    for name in sizes:
        if name not in first.sizes and name not in second.sizes:
            raise UsageError(f"neither has a size {name!r}; they have: {', '.join({**first.sizes, **second.sizes})}")
    first_sizes = {name: value for name, value in sizes.items() if name in first.sizes}
    common = {name: value for name, value in first.all_sizes(first_sizes).items() if name in second.sizes}
    del common[size]
    second_sizes = {**common, **{name: value for name, value in sizes.items() if name in second.sizes}}
    difference = _in_one_size(first, size, phase, first_sizes) - _in_one_size(second, size, phase, second_sizes)
    step = period(difference, size, lcm(first.sizes[size].multiple_of, second.sizes[size].multiple_of))
    names = _display_names(first.model, second.model)
    cheaper = {-1: names[0], 1: names[1], 0: None}
    starts = sign_intervals(difference, size, step, first=1)
    ends = [start - 1 for start, _ in starts[1:]]
    intervals = tuple(
        Bounds(start * step, None if last is None else last * step, cheaper[sign])
        for (start, sign), last in zip(starts, [*ends, None], strict=True)
    )
    return Crossover(size, intervals, _summary(size, intervals, step))


def _display_names(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first != second else (f"{first} (the first)", f"{second} (the second)")


def _summary(size: str, intervals: Sequence[Bounds], step: int) -> str:
    lines = []
    for interval in intervals:
        if interval.last == interval.first:
            values = f"at {size} = {interval.first:,}"
        elif interval.last is None:
            values = f"from {size} = {interval.first:,} on"
        else:
            values = f"from {size} = {interval.first:,} to {interval.last:,}"
        lines.append(f"{values} {interval}")
    return "\n".join(lines) + (f"\n({size} in multiples of {step})" if step > 1 else "")
