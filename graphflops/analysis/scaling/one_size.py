"""Polynomials in one size: their degree, their pieces as ordinary polynomials in t, and where these change sign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from math import floor, lcm
from typing import NamedTuple

from graphflops.analysis.scaling.atoms import AtLeast, Atom, Factor, Log2
from graphflops.analysis.scaling.extrema import Extremum
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial, tail

MAX_SIZE_BITS = 63
"""of any size of a tensor; beyond it logarithms stay constant"""

Signs = list[tuple[int, int]]
"""(first value, sign) of each interval, in order"""
LinearPieces = list[tuple[int, list[Fraction]]]
"""(first t, coefficients in t) of each piece, in order"""


# -- degrees -----------------------------------------------------------------------------------------------------


class Degree(NamedTuple):
    """N to a power, times its logarithm to a power."""

    power: int = 0
    logarithms: int = 0


def degree(polynomial: Polynomial, size: str) -> Degree:
    """The degree in a size, in the last piece; ⌊(N + a)/s⌋ has degree 1 in N, and ⌈log₂ N⌉ one logarithm."""
    return max((_monomial_degree(monomial, size) for monomial, _ in tail(polynomial, size)), default=Degree())


def leading_coefficient(polynomial: Polynomial, size: str) -> Polynomial:
    """The coefficient of the highest degree in a size, a polynomial in the other sizes."""
    highest = degree(polynomial, size)
    leading = Polynomial()
    for monomial, coefficient in tail(polynomial, size):
        if _monomial_degree(monomial, size) == highest:
            term = Polynomial({tuple(item for item in monomial if size not in item[0].sizes): coefficient})
            for factor, power in monomial:
                if size in factor.sizes:
                    for _ in range(power):
                        term = term * _leading(factor, size)
            leading = leading + term
    return leading


def _monomial_degree(monomial: Monomial, size: str) -> Degree:
    degrees = [(_factor_degree(factor, size), power) for factor, power in monomial]
    return Degree(sum(d.power * power for d, power in degrees), sum(d.logarithms * power for d, power in degrees))


def _factor_degree(factor: Factor, size: str) -> Degree:
    if size not in factor.sizes or isinstance(factor, AtLeast):
        return Degree()
    if isinstance(factor, Extremum):
        degrees = [degree(member, size) for member in factor.members]
        return max(degrees) if factor.is_maximum else min(degrees)
    return Degree(logarithms=1) if isinstance(factor, Log2) else Degree(power=1)


def _leading(factor: Factor, size: str) -> Polynomial:
    if isinstance(factor, Extremum):
        highest = _factor_degree(factor, size)
        return factor.among(
            leading_coefficient(member, size) for member in factor.members if degree(member, size) == highest
        )
    return Polynomial({(): Fraction(1, factor.step if isinstance(factor, Atom) else 1)})


# -- pieces ------------------------------------------------------------------------------------------------------


def period(polynomial: Polynomial, size: str, step: int) -> int:
    """The period of a size in which all floors are linear."""
    return lcm(step, *(atom.step for atom in polynomial.factors if isinstance(atom, Atom) and atom.size == size))


def linear_pieces(polynomial: Polynomial, size: str, step: int, residue: int = 0, first: int = 0) -> LinearPieces:
    """The pieces of t ≥ ``first`` in which a polynomial in ``size = step·t + residue`` is an ordinary one in t.

    No other size may be in the polynomial, and ``step`` must be a multiple of the steps of all floors.
    """
    starts = {first}
    for cut in _cuts((factor for monomial, _ in polynomial for factor, _ in monomial), size, step, residue, first):
        starts.add(max(first, cut))
    pieces: LinearPieces = []
    for start in sorted(starts):
        coefficients = _coefficients(_without_jumps(polynomial, {size: step * start + residue}), step, residue)
        if not pieces or pieces[-1][1] != coefficients:
            pieces.append((start, coefficients))
    return pieces


def _cuts(factors: Iterable[Factor], size: str, step: int, residue: int, first: int) -> Iterator[int]:
    """The values of t at which a step, a logarithm or an extremum becomes another polynomial."""
    for factor in factors:
        if isinstance(factor, AtLeast):
            yield -(-(factor.value - residue) // step)
        elif isinstance(factor, Log2):
            for power in range(MAX_SIZE_BITS):
                yield -(-(2**power + 1 - factor.shift - residue) // step)
        elif isinstance(factor, Extremum):
            for one, other in combinations(factor.members, 2):
                yield from (start for start, _ in sign_intervals(one - other, size, step, residue, first))
            yield from _cuts(factor.parts, size, step, residue, first)


def _without_jumps(polynomial: Polynomial, sizes: dict[str, int]) -> Polynomial:
    """The polynomial in floors that is equal to another one at some sizes, and until its next piece."""

    def replacement(factor: Factor) -> Polynomial | int | None:
        if isinstance(factor, Extremum):
            value = factor.evaluate(sizes)
            member = next(member for member in factor.members if member.evaluate(sizes) == value)
            return _without_jumps(member, sizes)
        return None if isinstance(factor, Atom) else factor.evaluate(sizes)

    return polynomial.replace(replacement)


def _coefficients(polynomial: Polynomial, step: int, residue: int) -> list[Fraction]:
    """The coefficients in t, constant first, of a polynomial in floors of ``step·t + residue``."""
    total = [Fraction(0)]
    for monomial, coefficient in polynomial:
        row = [coefficient]
        for atom, power in monomial:
            assert isinstance(atom, Atom)
            for _ in range(power):
                row = _times_linear(row, atom.at(residue), step // atom.step)
        total += [Fraction(0)] * (len(row) - len(total))
        for i, value in enumerate(row):
            total[i] += value
    return total


def _times_linear(row: list[Fraction], constant: int, slope: int) -> list[Fraction]:
    """The coefficients of a polynomial in t times (constant + slope·t)."""
    product = [coefficient * constant for coefficient in row] + [Fraction(0)]
    for i, coefficient in enumerate(row):
        product[i + 1] += coefficient * slope
    return product


# -- signs -------------------------------------------------------------------------------------------------------


def sign_intervals(polynomial: Polynomial, size: str, step: int, residue: int = 0, first: int = 0) -> Signs:
    """The intervals of t ≥ ``first`` in which a polynomial in ``step·t + residue`` is negative, zero or positive."""
    pieces = linear_pieces(polynomial, size, step, residue, first)
    intervals: Signs = []
    for (start, coefficients), following in zip(pieces, [*pieces[1:], None], strict=True):
        for t, sign in signs(coefficients, start):
            if following is not None and t >= following[0]:
                break
            if not intervals or intervals[-1][1] != sign:
                intervals.append((t, sign))
    return intervals


def signs(coefficients: Sequence[Fraction], first: int = 1) -> Signs:
    """The intervals of integers t ≥ first in which a polynomial is negative, zero or positive.

    >>> signs([Fraction(-4), Fraction(0), Fraction(1)])
    [(1, -1), (2, 0), (3, 1)]
    """
    candidates = {first}
    for root in _integers_near_roots(coefficients):
        candidates |= {t for t in (root - 1, root, root + 1, root + 2) if t > first}
    intervals: Signs = []
    for t in sorted(candidates):
        value = sum(coefficient * t**i for i, coefficient in enumerate(coefficients))
        sign = (value > 0) - (value < 0)
        if not intervals or intervals[-1][1] != sign:
            intervals.append((t, sign))
    return intervals


def _integers_near_roots(coefficients: Sequence[Fraction]) -> Iterable[int]:
    """An integer next to each real root: the roots are isolated in rational intervals shorter than 1."""
    import sympy

    rationals = [sympy.Rational(value.numerator, value.denominator) for value in reversed(coefficients)]
    polynomial = sympy.Poly(rationals, sympy.Symbol("t"))
    if polynomial.degree() < 1:
        return ()
    intervals = polynomial.intervals(eps=sympy.Rational(1, 2))
    return {floor(Fraction(int(low.p), int(low.q))) for (low, _), _ in intervals}
