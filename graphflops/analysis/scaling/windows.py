"""Two pieces as one expression: of a window, N·min(N, 512) instead of N² below 513 and 512·N from there on."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product as choices

from graphflops.analysis.scaling.atoms import AtLeast, Atom
from graphflops.analysis.scaling.extrema import maximum, minimum
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial

MAX_CHOICES = 256
"""ways to write some powers of a size as those of its minimum, among which one is looked for"""

Powers = dict[int, Fraction]
"""power of a size → coefficient"""


def joined(lower: Polynomial, upper: Polynomial, size: str, last: int, start: int) -> Polynomial:
    """The polynomial that is one up to ``last``, and another one from ``start`` on, its next value.

    >>> from graphflops.analysis.scaling.notation import format_polynomial
    >>> n = Polynomial.symbol("N")
    >>> format_polynomial(joined(n * n, 512 * n, "N", 512, 513), ["N"])
    'N·min(N, 512)'
    """
    if lower == upper:
        return lower
    for bound in (last, start):
        value = Polynomial({(): Fraction(bound)})
        smaller, larger = minimum([Polynomial.symbol(size), value]), maximum([Polynomial.symbol(size), value])
        for below, above, extremum in ((lower, upper, smaller), (upper, lower, larger)):
            with_extremum = _with_extremum(below, above, size, bound, extremum)
            if with_extremum is not None:
                return with_extremum
    return lower + (upper - lower) * Polynomial.monomial(AtLeast(size, start))


def _with_extremum(
    in_size: Polynomial, at_bound: Polynomial, size: str, bound: int, extremum: Polynomial
) -> Polynomial | None:
    """A polynomial in a size and its extremum: one where that is the size, the other where it is the bound."""
    first, second = _by_rest(in_size, size), _by_rest(at_bound, size)
    if first is None or second is None or not second.keys() <= first.keys():
        return None
    addends: list[tuple[int | Fraction, Polynomial]] = []
    for rest, powers in first.items():
        bounded = next(_bounded_powers(powers, second.get(rest, {}), bound), None)
        if bounded is None:
            return None
        for (power, coefficient), times in zip(powers.items(), bounded, strict=True):
            term = Polynomial({rest: Fraction(1)}) * Polynomial.monomial(*[Atom(size)] * (power - times))
            for _ in range(times):
                term = term * extremum
            addends.append((coefficient, term))
    return Polynomial.sum(addends)


def _bounded_powers(powers: Powers, goal: Powers, bound: int) -> Iterator[tuple[int, ...]]:
    """How many factors of each power are the bound, so that the sum is another polynomial: as few as possible."""
    ways = 1
    for power in powers:
        ways *= power + 1
    if ways > MAX_CHOICES:
        return
    for times in choices(*(range(power + 1) for power in powers)):
        total: Powers = {}
        for (power, coefficient), count in zip(powers.items(), times, strict=True):
            total[power - count] = total.get(power - count, Fraction(0)) + coefficient * bound**count
        if {power: value for power, value in total.items() if value} == goal:
            yield times


def _by_rest(polynomial: Polynomial, size: str) -> dict[Monomial, Powers] | None:
    """The powers of a size by the other factors; None if the size is in a function."""
    rests: dict[Monomial, Powers] = {}
    for monomial, coefficient in polynomial:
        power = dict(monomial).get(Atom(size), 0)
        rest = tuple(item for item in monomial if item[0] != Atom(size))
        if any(size in factor.sizes for factor, _ in rest):
            return None
        rests.setdefault(rest, {})[power] = coefficient
    return rests
