"""One size at a time: in which powers of a size, or of what a stride leaves of it, a quantity can be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

from graphflops.analysis.scaling.polynomials import Atom, Monomial, Polynomial

SPARE = 2
"""how many values of a line have to be right without having been used"""
STEPS = range(2, 65)
"""the strides, windows and patches that are looked for: ⌊(N + a)/s⌋ for each s of these"""

Values: TypeAlias = tuple[tuple[int, int], ...]
"""value of the size, value of the quantity, sorted"""
Shape: TypeAlias = frozenset[Monomial]


@lru_cache(maxsize=100_000)
def polynomial_shape(size: str, values: Values) -> Shape | None:
    """The powers of a size in a quantity; None if it is no polynomial that these values could tell."""
    coefficients = coefficients_of(values)
    return None if coefficients is None else frozenset(monomial for monomial, _ in _terms(Atom(size), coefficients))


def coefficients_of(values: Sequence[tuple[int, int]]) -> list[Fraction] | None:
    """The polynomial of the least degree through all values, from the constant on, with ``SPARE`` values unused.

    >>> [int(each) for each in coefficients_of([(1, 3), (2, 5), (3, 7), (9, 19)])]
    [1, 2]
    """
    divided = _divided_differences(values)
    while len(divided) > 1 and divided[-1] == 0:
        divided.pop()
    if len(divided) + SPARE > len(values):
        return None
    made = [Fraction(0)]
    for (x, _), difference in zip(reversed(values[: len(divided)]), reversed(divided), strict=True):
        made = [Fraction(0), *made]  # times N
        for i in range(len(made) - 1):  # minus x times what it was
            made[i] -= x * made[i + 1]
        made[0] += difference
    while len(made) > 1 and made[-1] == 0:
        made.pop()
    return made


def _divided_differences(values: Sequence[tuple[int, int]]) -> list[Fraction]:
    row = [Fraction(y) for _, y in values]
    found = [row[0]]
    for gap in range(1, len(values)):
        row = [
            (after - before) / (values[i + gap][0] - values[i][0]) for i, (before, after) in enumerate(pairwise(row))
        ]
        found.append(row[0])
    return found


def _terms(atom: Atom, coefficients: Sequence[Fraction]) -> Iterator[tuple[Monomial, Fraction]]:
    yield from ((((atom, i),) if i else (), each) for i, each in enumerate(coefficients) if each)


class Floors:
    """The floors ⌊(N + a)/s⌋ of which a quantity may be a polynomial: fewer with each value that is seen."""

    def __init__(self) -> None:
        self.left = [Atom("", step, shift) for step in STEPS for shift in range(step)]

    def narrow(self, values: Values) -> None:
        """Leave those out that these values contradict."""
        self.left = [atom for atom in self.left if self.fit(atom, values) is not None]

    def fit(self, atom: Atom, values: Values) -> Polynomial | None:
        """The polynomial in this floor that goes through all values; None if there is none with values to spare."""
        by_floor: dict[int, int] = {}
        for x, y in values:
            if by_floor.setdefault(atom.of(x), y) != y:
                return None
        coefficients = coefficients_of(tuple(by_floor.items()))
        return None if coefficients is None else Polynomial(dict(_terms(atom, coefficients)))

    def question(self, values: Values, among: Sequence[int]) -> int | None:
        """The value of the size at which those that are left differ most; None if they agree everywhere."""
        if len(self.left) < 2:
            return None
        known = {x for x, _ in values}
        fits = [(atom, self.fit(atom, values)) for atom in self.left[:64]]
        best, most = None, 1
        for x in among:
            if x not in known:
                said = {fit({"": x, atom.size: x}) for atom, fit in fits if fit is not None}
                if len(said) > most:
                    best, most = x, len(said)
        return best

    def shape(self, size: str, values: Values) -> Shape | None:
        """The powers in which the quantity is written, in the floor that makes it shortest."""
        if not self.left:
            return None
        chosen = self.left[0]
        shapes = []
        for whole in (0, 1, -1, 2, -2, 3, -3):
            atom = Atom(size, chosen.step, chosen.shift + whole * chosen.step)
            fit = self.fit(atom, values)
            if fit is not None:
                shapes.append(frozenset(fit.terms))
        return min(shapes, key=len, default=None)


@lru_cache(maxsize=100_000)
def floor_shape(size: str, values: Values) -> Shape | None:
    """The powers of a floor of a size in a quantity; None if these values fit none."""
    floors = Floors()
    floors.narrow(values)
    return floors.shape(size, values)


def values_on(column: Sequence[int], line: Mapping[int, int]) -> Values:
    """The values of a quantity along a line, of a column and the positions in it."""
    return tuple(sorted((x, column[position]) for x, position in line.items()))


def strides_told(near: int, step: int) -> Iterator[int]:
    """Where to look at a size that strides divide: next to a value, and in steps of 32 away from it."""
    yield from (near + k * step for k in range(1, 9))
    yield from (near + k * 32 * step for k in (1, 2, 3, 4, 5, 6, 8, 11, 13))
