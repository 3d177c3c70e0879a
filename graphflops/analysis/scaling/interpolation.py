"""From values at points to a polynomial in all sizes: which monomials it may have, and their coefficients, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import product as combinations

from graphflops.analysis.scaling.polynomials import Monomial, Polynomial, product, value_of
from graphflops.analysis.scaling.univariate import Shape

Row = tuple[Mapping[str, int], int]
"""sizes, and the value of a quantity there"""


class Undetermined(Exception):
    """The points do not tell all coefficients: one more is needed."""


class Contradiction(Exception):
    """No polynomial with these monomials has these values; ``sizes`` is where it is found."""

    def __init__(self, sizes: Mapping[str, int], value: int, said: int | Fraction) -> None:
        super().__init__(f"{value} at {sizes}, where all other points say {said}")
        self.sizes, self.value, self.said = sizes, value, said


def candidates(shapes: Iterable[Shape]) -> list[Monomial]:
    """The monomials that a quantity can have whose powers in each size are these.

    Through a point that is nowhere special, a monomial of the quantity shows in the line along each of its sizes. So
    its monomials are among the products of what the lines show: few, where a grid of all powers would be many.
    """
    shapes = list(shapes)
    made: list[Monomial] = []
    for chosen in combinations(*(sorted(shape) for shape in shapes)) if shapes else ():
        monomial: Monomial = ()
        for each in chosen:
            monomial = product(monomial, each)
        made.append(monomial)
    return made


def solve(monomials: Sequence[Monomial], rows: Sequence[Row]) -> Polynomial:
    """The one polynomial with these monomials that has these values.

    Raises:
        Undetermined: there is more than one.
        Contradiction: there is none.
    """
    solved: list[tuple[int, list[Fraction]]] = []  # a pivot and its row, whose entries before it are 0
    for sizes, value in rows:
        if len(solved) == len(monomials):
            break
        row = [Fraction(value_of(each, sizes)) for each in monomials] + [Fraction(value)]
        for pivot, other in solved:
            if row[pivot]:
                factor = row[pivot] / other[pivot]
                row = [mine - factor * theirs for mine, theirs in zip(row, other, strict=True)]
        pivot = next((i for i, each in enumerate(row[:-1]) if each), -1)
        if pivot >= 0:
            solved.append((pivot, row))
    if len(solved) < len(monomials):
        raise Undetermined
    coefficients: dict[int, Fraction] = {}
    for pivot, row in reversed(solved):
        known = sum((row[i] * each for i, each in coefficients.items()), Fraction(0))
        coefficients[pivot] = (row[-1] - known) / row[pivot]
    found = Polynomial({monomials[i]: each for i, each in coefficients.items()})
    for sizes, value in rows:
        if (said := found(sizes)) != value:
            raise Contradiction(sizes, value, said)
    return found
