"""How a law is found: along each size, then in all of them together, then held to points that had no part in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

from graphflops.analysis.scaling.fit_errors import Wrong, contradicted, off_the_line, too_many_terms
from graphflops.analysis.scaling.floor_polynomials import Mixtures, mixed_shape
from graphflops.analysis.scaling.interpolation import Contradiction, Undetermined, candidates, solve
from graphflops.analysis.scaling.measurement import Quantity
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.sample_points import Point, Points
from graphflops.analysis.scaling.univariate import (
    STEPS,
    Floors,
    Shape,
    Values,
    floor_shape,
    polynomial_shape,
    strides_told,
    values_on,
)

NEAR, FAR = 1, 2
"""how many values of a size are looked at first, near to a base and far from it"""
DEGREE = 6
"""the highest power of one size, or of what a stride leaves of it, that is looked for"""
QUESTIONS = 40
"""how many more values of one size are looked at to tell strides apart"""
CHECKS = 3
"""how many fresh points near the base, and how many far from it, a law is held to"""
TRACES = 250
"""how many points are looked at, at the most, to tell the coefficients"""
ROUNDS = 4
"""how many times what contradicts a law is taken to find a better one"""


@dataclass(frozen=True)
class Found:
    """What was found: a polynomial for each quantity, and the points that it was held to afterwards."""

    laws: Mapping[Quantity, Polynomial]
    checked: tuple[Point, ...]


def find(points: Points) -> Found:
    """The law of each quantity, in all sizes.

    Raises:
        LawError: a quantity has none that could be found, or the one that was found does not hold at a fresh point.
    """
    points.at(points.base)
    points.centers.append(points.generic())
    while True:
        laws = _fitted(points, _shapes(points, points.centers))
        if not isinstance(laws, Wrong):
            checked, wrong = _check(points, laws)
            if wrong is None:
                return Found({each: law for each, law in laws.items() if law}, checked)
        else:
            wrong = laws
        if wrong.point in points.centers or len(points.centers) == ROUNDS:
            raise contradicted(points, wrong, {} if isinstance(laws, Wrong) else laws)
        points.centers.append(wrong.point)


def _shapes(points: Points, bases: list[Point]) -> dict[Quantity, list[Shape]]:
    """Quantity → for each size the powers that lines through the bases show. Naming may change on the way: twice."""
    for _ in range(2):
        for base in bases:
            for axis in range(len(points.names)):
                _explore(points, base, axis)
    table = points.table()
    found: dict[Quantity, list[Shape]] = {}
    for axis, name in enumerate(points.names):
        lines = [table.line(base, axis) for base in bases]
        for column, quantities in table.columns.items():
            shape: Shape = frozenset()
            for base, line in zip(bases, lines, strict=True):
                values = values_on(column, line)
                seen = polynomial_shape(name, values)
                seen = floor_shape(name, values) if seen is None else seen
                seen = mixed_shape(name, values) if seen is None else seen
                if seen is None:
                    raise off_the_line(points, quantities[0], base, axis)
                shape |= seen
            for each in quantities:
                found.setdefault(each, []).append(shape)
    return found


def _explore(points: Points, base: Point, axis: int) -> None:
    """Look along one size until each quantity is a polynomial in it, or in a floor of it."""
    about = f"in {points.names[axis]}"
    near, far = points.along(base, axis), points.far_along(base, axis)
    for source, count in ((near, NEAR), (chain(far, near), FAR)):
        for _ in range(count):
            points.first(source, about)
    for _ in range(DEGREE):
        if not _open(points, base, axis):
            return
        points.first(near, about)
    _tell_strides(points, base, axis)


def _open(points: Points, base: Point, axis: int) -> list[tuple[Quantity, Values]]:
    """The quantities, one for each column, that are no polynomials in a size, and their values along it."""
    table, name = points.table(), points.names[axis]
    line = table.line(base, axis)
    lines = ((quantities[0], values_on(column, line)) for column, quantities in table.columns.items())
    return [(quantity, values) for quantity, values in lines if polynomial_shape(name, values) is None]


def _tell_strides(points: Points, base: Point, axis: int) -> None:
    """Look along one size until each quantity is a polynomial in one floor of it, and it is known in which."""
    size = list(points.ranges.values())[axis]
    for value in strides_told(base[axis], size.of):
        if size.allows(value):
            points.at((*base[:axis], value, *base[axis + 1 :]))
    left: dict[Quantity, Floors] = {}
    window = [value for k in range(4 * max(STEPS)) if size.allows(value := base[axis] + k * size.of)]
    for _ in range(QUESTIONS):
        questions: Counter[int] = Counter()
        for quantity, values in _open(points, base, axis):
            floors = left.setdefault(quantity, Floors())
            floors.narrow(values)
            if not floors.left:
                floors = left[quantity] = Mixtures()
                floors.narrow(values)
            if not floors.left:
                raise off_the_line(points, quantity, base, axis)
            asked = floors.question(values, window)
            if asked is not None:
                questions[asked] += 1
        if not questions:
            return
        value = questions.most_common(1)[0][0]
        window.remove(value)
        points.at((*base[:axis], value, *base[axis + 1 :]))


def _fitted(points: Points, shapes: Mapping[Quantity, list[Shape]]) -> dict[Quantity, Polynomial] | Wrong:
    """A polynomial for each quantity through all that was seen; more points are looked at until they tell it."""
    laws: dict[Quantity, Polynomial] = {}
    known = 0
    while True:
        table = points.table()
        rows = [points.named(point) for point in table.points]
        undetermined = None
        for column, quantities in table.columns.items():
            for members in _alike(quantities, shapes):
                law = laws.get(members[0])
                if law is not None and all(law(rows[i]) == column[i] for i in range(known, len(rows))):
                    continue
                try:
                    found = solve(candidates(shapes.get(members[0], ())), list(zip(rows, column, strict=True)))
                except Undetermined:
                    undetermined = members[0]
                except Contradiction as wrong:
                    return Wrong(members[0], tuple(wrong.sizes.values()), wrong.value, wrong.said)
                else:
                    laws.update(dict.fromkeys(members, found))
        if undetermined is None:
            return laws
        if len(rows) > TRACES:
            raise too_many_terms(points, undetermined, len(candidates(shapes[undetermined])))
        known = len(rows)
        points.first(points.fresh(far=False), "in all of them")


def _alike(quantities: Iterable[Quantity], shapes: Mapping[Quantity, list[Shape]]) -> Iterable[list[Quantity]]:
    """Those among quantities of the same values that lines show to have the same powers."""
    groups: dict[tuple[Shape, ...], list[Quantity]] = {}
    for each in quantities:
        groups.setdefault(tuple(shapes.get(each, ())), []).append(each)
    return groups.values()


def _check(points: Points, laws: Mapping[Quantity, Polynomial]) -> tuple[tuple[Point, ...], Wrong | None]:
    """Points that had no part in finding the laws, and the first at which one of them does not hold."""
    fresh = []
    for far in (False, True):
        source = points.fresh(far)
        fresh += [points.first(source, "to hold it to") for _ in range(CHECKS)]
    table = points.table()
    for point in fresh:
        position, sizes = table.points.index(point), points.named(point)
        said: dict[Polynomial, int | Fraction] = {}
        for column, quantities in table.columns.items():
            for each in quantities:
                law = laws.get(each, Polynomial())
                if law not in said:
                    said[law] = law(sizes)
                if said[law] != column[position]:
                    return tuple(fresh), Wrong(each, point, column[position], said[law])
    return tuple(fresh), None
