"""Polynomials in one size: in powers of it, of a floor of it, or of both, as D·⌈D/16⌉."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from graphflops.analysis.scaling.atoms import Atom, FactorOfSize, Log2
from graphflops.analysis.scaling.interpolation import Inconsistent, Underdetermined, interpolate
from graphflops.analysis.scaling.polynomials import Monomial, Monomials, Polynomial, evaluate_monomial

if TYPE_CHECKING:
    import numpy

MIN_UNUSED_VALUES = 2
"""values of a line that a polynomial must have without having been fitted to them"""
STEPS = range(2, 65)
"""the steps s of the floors ⌊(N + a)/s⌋: strides, windows and patches"""
LOGARITHM_SHIFTS = (0, 1)
"""of ⌈log₂ N⌉, and of ⌈log₂ (N + 1)⌉, which is ⌊log₂ N⌋ + 1"""
MAX_COEFFICIENTS = 12
"""of a polynomial in one size"""
MAX_STRIDE_CANDIDATES = 64
"""floors that are compared to choose the next value"""
TOTAL_DEGREES = (2, 3)
"""degrees of a polynomial in a size and a floor of it, the lowest first"""
FLOAT_TOLERANCE = 1e-12
"""relative error, of the largest value, of a fit in floating-point numbers"""
PRIME = 2**61 - 1
"""modulus of a fit in remainders"""

Values: TypeAlias = tuple[tuple[int, int], ...]
"""value of the size, value of the quantity, sorted"""


def values_on(column: Sequence[int], line: Mapping[int, int]) -> Values:
    """The values of a quantity on a line: value of the size → index into the column."""
    return tuple(sorted((x, column[index]) for x, index in line.items()))


# -- polynomials in the size ---------------------------------------------------------------------------------------


@lru_cache(maxsize=100_000)
def polynomial_monomials(size: str, values: Values, spare: int = MIN_UNUSED_VALUES) -> Monomials | None:
    """The powers of a size in a polynomial that has these values; None if there is none with values to spare."""
    coefficients = coefficients_of(values, spare)
    return None if coefficients is None else frozenset(monomial for monomial, _ in _terms(Atom(size), coefficients))


def coefficients_of(values: Sequence[tuple[int, int]], spare: int = MIN_UNUSED_VALUES) -> list[Fraction] | None:
    """The polynomial of lowest degree through all values, constant first, with some values not needed for it.

    >>> [int(coefficient) for coefficient in coefficients_of([(1, 3), (2, 5), (3, 7), (9, 19)])]
    [1, 2]
    """
    most = min(len(values) - spare, MAX_COEFFICIENTS)
    if len(values) > MAX_COEFFICIENTS and not _is_polynomial_modulo(values, most):
        return None
    differences = _divided_differences(values, most)
    if differences is None:
        return None
    coefficients = [Fraction(0)]
    for (x, _), difference in zip(reversed(values[: len(differences)]), reversed(differences), strict=True):
        coefficients = [Fraction(0), *coefficients]  # times (N − x), plus the difference
        for i in range(len(coefficients) - 1):
            coefficients[i] -= x * coefficients[i + 1]
        coefficients[0] += difference
    while len(coefficients) > 1 and coefficients[-1] == 0:
        coefficients.pop()
    return coefficients


def _divided_differences(values: Sequence[tuple[int, int]], most: int) -> list[Fraction] | None:
    """The divided differences until all further ones are zero; None if these are more than ``most``."""
    row: list[int | Fraction] = [y for _, y in values]
    differences: list[Fraction] = []
    while any(row) or not differences:
        if len(differences) >= most:
            return None
        differences.append(Fraction(row[0]))
        gap = len(differences)
        row = [
            Fraction(after - before) / (values[i + gap][0] - values[i][0])
            for i, (before, after) in enumerate(pairwise(row))
        ]
    return differences


def _is_polynomial_modulo(values: Sequence[tuple[int, int]], most: int) -> bool:
    """Whether the divided differences vanish modulo a prime, as they do if they vanish: many times faster."""
    row = [y for _, y in values]
    for gap in range(1, most + 1):
        row = [
            (after - before) * _inverse(values[i + gap][0] - values[i][0]) % PRIME
            for i, (before, after) in enumerate(pairwise(row))
        ]
        if not any(row):
            return True
    return False


@lru_cache(maxsize=100_000)
def _inverse(number: int) -> int:
    return pow(number, -1, PRIME)


def _terms(atom: Atom, coefficients: Sequence[Fraction]) -> Iterator[tuple[Monomial, Fraction]]:
    yield from ((((atom, i),) if i else (), coefficient) for i, coefficient in enumerate(coefficients) if coefficient)


# -- polynomials in a floor of the size ----------------------------------------------------------------------------


class FloorPolynomials:
    """The floors ⌊(N + a)/s⌋ in which a quantity may be a polynomial: fewer with each value."""

    def __init__(self) -> None:
        self.floors = [Atom("", step, shift) for step in STEPS for shift in range(step)]

    def narrow(self, values: Values) -> None:
        """Remove the floors in which no polynomial has these values."""
        self.floors = [floor for floor in self.floors if self.fit(floor, values) is not None]

    def fit(self, floor: Atom, values: Values) -> Polynomial | None:
        """The polynomial in a floor that has all values; None if there is none with values to spare."""
        by_floor: dict[int, int] = {}
        for x, y in values:
            if by_floor.setdefault(floor.at(x), y) != y:
                return None
        coefficients = coefficients_of(tuple(by_floor.items()))
        return None if coefficients is None else Polynomial(dict(_terms(floor, coefficients)))

    def most_informative(self, values: Values, candidates: Sequence[int]) -> int | None:
        """The value of the size at which the remaining polynomials differ most; None if they agree everywhere."""
        if len(self.floors) < 2:
            return None
        fitted = {x for x, _ in values}
        fits = [(floor, self.fit(floor, values)) for floor in self.floors[:MAX_STRIDE_CANDIDATES]]
        best, count = None, 1
        for x in candidates:
            if x not in fitted:
                predictions = {fit.evaluate({"": x, floor.size: x}) for floor, fit in fits if fit is not None}
                if len(predictions) > count:
                    best, count = x, len(predictions)
        return best

    def monomials(self, size: str, values: Values) -> Monomials | None:
        """The monomials of the quantity, in the floor with the fewest; None if no floor fits."""
        if not self.floors:
            return None
        first = self.floors[0]
        candidates = []
        for offset in (0, 1, -1, 2, -2, 3, -3):
            fit = self.fit(Atom(size, first.step, first.shift + offset * first.step), values)
            if fit is not None:
                candidates.append(frozenset(fit.terms))
        return min(candidates, key=len, default=None)


@lru_cache(maxsize=100_000)
def floor_monomials(size: str, values: Values) -> Monomials | None:
    """The powers of a floor of a size in a polynomial that has these values; None if there is none."""
    polynomials = FloorPolynomials()
    polynomials.narrow(values)
    return polynomials.monomials(size, values)


def values_that_tell_strides(near: int, step: int) -> Iterator[int]:
    """Values of a size for finding a stride: the ones next to a value, and some in steps of 32."""
    yield from (near + k * step for k in range(1, 9))
    yield from (near + k * 32 * step for k in (1, 2, 3, 4, 5, 6, 8, 11, 13))


# -- polynomials in the size and a floor of it ---------------------------------------------------------------------


class MixedPolynomials(FloorPolynomials):
    """The floors of which, together with the size itself, a quantity may be a polynomial."""

    def narrow(self, values: Values) -> None:
        """Remove the floors for which no polynomial has these values."""
        if len(self.floors) > 1:  # exact solutions for all of them would take minutes
            self.floors = [floor for floor in _nearly_fitting(self.floors, values) if _fits_modulo(floor, values)]
        super().narrow(values)

    def fit(self, floor: Atom, values: Values) -> Polynomial | None:
        """The polynomial of lowest degree in both; None if there is none with values to spare."""
        return _fit_mixed(floor, values)


@lru_cache(maxsize=100_000)
def mixed_monomials(size: str, values: Values) -> Monomials | None:
    """The products of a size and a floor of it in a polynomial that has these values; None if there is none."""
    polynomials = MixedPolynomials()
    polynomials.narrow(values)
    return polynomials.monomials(size, values)


def values_that_tell_logarithms(near: int) -> Iterator[int]:
    """Powers of two, where ⌈log₂ N⌉ and ⌈log₂ (N + 1)⌉ differ, and the values after them."""
    for power in (2 ** (near.bit_length() + k) for k in (-1, 0, 1)):
        yield from (power, power + 1)


@lru_cache(maxsize=100_000)
def logarithm_monomials(size: str, values: Values) -> Monomials | None:
    """The products of a size and its logarithm in a polynomial that has these values; None if there is none."""
    for shift in LOGARITHM_SHIFTS:
        logarithm = Log2(size, shift)
        if len({logarithm.at(x) for x, _ in values}) > MIN_UNUSED_VALUES:
            fit = _fit_mixed(logarithm, values)
            if fit is not None:
                return frozenset(fit.terms)
    return None


def _mixed_monomials(factor: FactorOfSize, degree: int) -> list[Monomial]:
    size = Atom(factor.size)
    return [
        tuple(sorted((item, power) for item, power in ((size, i), (factor, j)) if power)) for i, j in _powers(degree)
    ]


def _powers(degree: int) -> list[tuple[int, int]]:
    """The powers of a size and of its floor up to a total degree, those of the size alone first."""
    return [(i, j) for j in range(degree + 1) for i in range(degree + 1 - j)]


@lru_cache(maxsize=10_000)
def _fit_mixed(factor: FactorOfSize, values: Values) -> Polynomial | None:
    rows = [({factor.size: x}, y) for x, y in values]
    for degree in TOTAL_DEGREES:
        monomials = _mixed_monomials(factor, degree)
        if len(values) < len(monomials) + MIN_UNUSED_VALUES:
            return None
        with suppress(Inconsistent):
            try:
                return interpolate(monomials, rows)
            except Underdetermined:
                return interpolate(_independent(monomials, [sizes for sizes, _ in rows]), rows)
    return None


def _independent(monomials: list[Monomial], points: list[dict[str, int]]) -> list[Monomial]:
    """The monomials that are no sum of earlier ones: with f = ⌊D/2⌋, 4·f·(D − f) is D² − D + 2·f."""
    import sympy

    rows = [[evaluate_monomial(monomial, sizes) for monomial in monomials] for sizes in points]
    _, pivots = sympy.Matrix(rows).rref()
    return [monomials[i] for i in pivots]


def _nearly_fitting(floors: list[Atom], values: Values) -> list[Atom]:
    """The floors that fit in floating-point numbers, all at once."""
    import numpy as np

    x, y = np.array(values, dtype=float).T
    steps, shifts = np.array([(floor.step, floor.shift) for floor in floors], dtype=float).T[:, :, None]
    floor_values = np.floor((x + shifts) / steps)
    scale = max(float(np.abs(y).max()), 1.0)
    fits = np.zeros(len(floors), dtype=bool)
    for degree in TOTAL_DEGREES:
        powers = _powers(degree)
        if len(values) >= len(powers) + MIN_UNUSED_VALUES:
            errors = _fit_errors(x / x.max(), floor_values / max(floor_values.max(), 1.0), powers, y / scale)
            fits |= errors < FLOAT_TOLERANCE
    return [floor for floor, fit in zip(floors, fits, strict=True) if fit]


def _fit_errors(
    x: numpy.ndarray, floor_values: numpy.ndarray, powers: list[tuple[int, int]], y: numpy.ndarray
) -> numpy.ndarray:
    """The largest error of the least-squares fit of y, for each row of floors."""
    import numpy as np

    basis = np.stack([x**i * floor_values**j for i, j in powers], axis=-1)
    orthogonal, _ = np.linalg.qr(basis)
    best = orthogonal @ (orthogonal.transpose(0, 2, 1) @ y[:, None])
    errors: numpy.ndarray = np.abs(best[..., 0] - y).max(axis=-1)
    return errors


def _fits_modulo(floor: Atom, values: Values) -> bool:
    """Whether a polynomial in a size and a floor of it has these values modulo a prime, as each that fits has."""
    largest = _powers(TOTAL_DEGREES[-1])
    powers = largest if len(values) >= len(largest) + MIN_UNUSED_VALUES else _powers(TOTAL_DEGREES[0])
    reduced: list[tuple[int, list[int]]] = []
    for x, y in values:
        floor_value = floor.at(x)
        row = [*(x**i * floor_value**j % PRIME for i, j in powers), y % PRIME]
        for pivot, pivot_row in reduced:
            if factor := row[pivot]:
                row = [(a - factor * b) % PRIME for a, b in zip(row, pivot_row, strict=True)]
        pivot = next((i for i, coefficient in enumerate(row) if coefficient), -1)
        if pivot == len(powers):
            return False
        if pivot >= 0:
            inverse = pow(row[pivot], -1, PRIME)
            reduced.append((pivot, [coefficient * inverse % PRIME for coefficient in row]))
    return True
