"""Interpolation: the polynomial in several sizes with given monomials and values, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import product as combinations
from math import gcd
from typing import TypeAlias

from graphflops.analysis.scaling.polynomials import Monomial, Monomials, Polynomial, evaluate_monomial, product

Row: TypeAlias = tuple[Mapping[str, int], int]
"""sizes, and the value of a quantity there"""


class Underdetermined(Exception):
    """The points do not determine all coefficients."""


class Inconsistent(Exception):
    """No polynomial with these monomials has these values: one with the earlier values is wrong at ``sizes``."""

    def __init__(self, polynomial: Polynomial, sizes: Mapping[str, int], value: int) -> None:
        super().__init__(f"{value} at {sizes}, where the other points predict {polynomial.evaluate(sizes)}")
        self.polynomial, self.sizes = polynomial, sizes


def candidate_monomials(monomials_by_size: Iterable[Monomials]) -> list[Monomial]:
    """The products of the monomials in each size.

    On a line through a generic point each monomial of a quantity leaves its power of that line's size. So the monomials
    are among these products: few, where a grid of all powers has many.
    """
    sizes = list(monomials_by_size)
    candidates: list[Monomial] = []
    for factors in combinations(*(sorted(monomials) for monomials in sizes)) if sizes else ():
        monomial: Monomial = ()
        for factor in factors:
            monomial = product(monomial, factor)
        candidates.append(monomial)
    return candidates


def interpolate(monomials: Sequence[Monomial], rows: Sequence[Row]) -> Polynomial:
    """The polynomial with these monomials that has these values.

    Raises:
        Underdetermined: there is more than one.
        Inconsistent: there is none.
    """
    solved: list[tuple[int, list[int]]] = []  # pivot, and a row of whole numbers that is 0 at all earlier pivots
    for sizes, value in rows:
        if len(solved) == len(monomials):
            break
        row = [*(evaluate_monomial(monomial, sizes) for monomial in monomials), value]
        for pivot, pivot_row in solved:
            if factor := row[pivot]:
                divisor = gcd(factor, pivot_row[pivot])
                this, other = pivot_row[pivot] // divisor, factor // divisor
                row = [this * a - other * b for a, b in zip(row, pivot_row, strict=True)]
        pivot = next((i for i, coefficient in enumerate(row[:-1]) if coefficient), -1)
        if pivot >= 0:
            common = gcd(*row)
            solved.append((pivot, [number // common for number in row]))
    if len(solved) < len(monomials):
        raise Underdetermined
    coefficients: dict[int, Fraction] = {}
    for pivot, row in reversed(solved):
        product = sum((row[i] * coefficient for i, coefficient in coefficients.items()), Fraction(0))
        coefficients[pivot] = (row[-1] - product) / row[pivot]
    polynomial = Polynomial({monomials[i]: coefficient for i, coefficient in coefficients.items()})
    for sizes, value in rows:
        if polynomial.evaluate(sizes) != value:
            raise Inconsistent(polynomial, sizes, value)
    return polynomial
