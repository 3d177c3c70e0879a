"""Boundaries between the pieces of a law: from a point where a polynomial is wrong to the value where that begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from graphflops.analysis.scaling.interpolation import interpolate
from graphflops.analysis.scaling.polynomials import Monomials, Polynomial
from graphflops.analysis.scaling.quantities import Names, Quantity
from graphflops.analysis.scaling.sample_points import Point, SamplePoints, with_value
from graphflops.analysis.scaling.univariate import (
    STEPS,
    Values,
    coefficients_of,
    floor_monomials,
    polynomial_monomials,
)

CONFIRMATIONS = 2
"""values next to a right one that have to be right as well, for a boundary to be looked for"""
MIN_PIECE_VALUES, MIN_FLOOR_VALUES = 5, 10
"""values of a line on which a polynomial in a size, or in a floor of it, is believed to be a piece"""
FAR_FROM_STRIDES = (max(STEPS) + 1, 2 * max(STEPS) + 3)
"""steps from a base, further than any stride"""
MAX_PIECE_COEFFICIENTS = 4
MAX_ACCEPTED_SEARCH = 16
"""values around the middle of an interval that are tried where the model rejects some"""


@dataclass(frozen=True)
class Counterexample:
    """A point at which a fitted polynomial is wrong, and one at which it is right."""

    quantity: Quantity
    names: Names
    polynomial: Polynomial
    right: Point
    wrong: Point

    def is_right(self, points: SamplePoints, point: Point) -> bool | None:
        """Whether the polynomial is right at a point; None if the model rejects it."""
        observation = points.observe(point)
        if observation is None:
            return None
        value = self.names.align(observation).get(self.quantity, 0)
        return self.polynomial.evaluate(points.as_sizes(point)) == value


class Boundary(NamedTuple):
    """Two points that differ in one size, between which a quantity becomes another polynomial."""

    axis: int
    right: Point
    wrong: Point


def find_boundary(points: SamplePoints, counterexample: Counterexample) -> Boundary | None:
    """The boundary on the way from the right point to the wrong one, size by size; None if there is none.

    A polynomial to which a term is missing is wrong nearly everywhere: values beside a right one tell it from a piece.
    """
    is_right = partial(counterexample.is_right, points)
    right, wrong = counterexample.right, counterexample.wrong
    for axis in range(len(right)):
        point = with_value(right, axis, wrong[axis])
        verdict = True if point == right else is_right(point)
        if verdict is None:
            return None
        if verdict:
            right = point
            continue
        if not all(is_right(neighbour) for neighbour in _neighbours(points, right, axis, wrong[axis])):
            return None
        wrong = point
        while (middle := _middle(points, axis, right, wrong)) is not None:
            right, wrong = (middle, wrong) if is_right(middle) else (right, middle)
        return Boundary(axis, right, wrong)
    return None


def _neighbours(points: SamplePoints, right: Point, axis: int, wrong_value: int) -> list[Point]:
    """Accepted points beside a right one, first those away from the wrong value."""
    away = -1 if wrong_value > right[axis] else 1
    step = points.step_of(axis)
    values = [right[axis] + direction * k * step for direction in (away, -away) for k in range(1, CONFIRMATIONS + 1)]
    candidates = (with_value(right, axis, value) for value in values if value in points.range_of(axis))
    accepted = [point for point in candidates if points.observe(point) is not None]
    return accepted[:CONFIRMATIONS]


def _middle(points: SamplePoints, axis: int, right: Point, wrong: Point) -> Point | None:
    """An accepted point between two, as near to the middle as possible."""
    step = points.step_of(axis)
    low, high = sorted((right[axis], wrong[axis]))
    middle = (low + high) // 2 // step * step
    for k in range(MAX_ACCEPTED_SEARCH):
        value = middle + (-k // 2 if k % 2 else k // 2) * step
        if low < value < high:
            point = with_value(right, axis, value)
            if points.observe(point) is not None:
                return point
    return None


def piece_around(points: SamplePoints, quantity: Quantity, base: Point, axis: int) -> Counterexample | None:
    """The polynomial in one size that holds on a line around a base, and the nearest point where it is wrong."""
    table, name = points.table(), points.names[axis]
    line = table.line(base, axis)
    column = table.column_of(quantity)
    values = tuple(sorted((x, column[index]) for x, index in line.items()))
    for interval, monomials in _pieces_around(name, values, base[axis]):
        polynomial = interpolate(sorted(monomials), [({name: x}, y) for x, y in interval])
        outside = [(x, y) for x, y in values if polynomial.evaluate({name: x}) != y]
        if not outside:
            return None
        wrong = min(outside, key=lambda value: abs(value[0] - base[axis]))[0]
        right = min((x for x, _ in interval), key=lambda x: abs(x - wrong))
        return Counterexample(
            quantity, table.names, polynomial, with_value(base, axis, right), with_value(base, axis, wrong)
        )
    return None


def piece_without_strides(points: SamplePoints, quantity: Quantity, base: Point, axis: int) -> Counterexample | None:
    """The same, if the polynomial also holds so far from the base that no stride can be hidden between its values."""
    counterexample = piece_around(points, quantity, base, axis)
    if counterexample is None or axis in points.depth_axes():
        return None
    away = -1 if counterexample.wrong[axis] > base[axis] else 1
    for distance in FAR_FROM_STRIDES:
        point = with_value(base, axis, base[axis] + away * distance * points.step_of(axis))
        if point[axis] not in points.range_of(axis) or not counterexample.is_right(points, point):
            return None
    return counterexample


def _pieces_around(name: str, values: Values, base: int) -> Iterator[tuple[Values, Monomials]]:
    """The longest intervals of a line around a value with a polynomial, then those with one in a floor."""
    at = next(i for i, (x, _) in enumerate(values) if x == base)
    intervals = sorted(
        (values[i:j] for i in range(at + 1) for j in range(at + 1, len(values) + 1)), key=len, reverse=True
    )
    for interval in intervals:
        if len(interval) >= MIN_PIECE_VALUES:
            coefficients = coefficients_of(interval)
            if coefficients is not None and len(coefficients) <= MAX_PIECE_COEFFICIENTS:
                monomials = polynomial_monomials(name, interval)
                assert monomials is not None
                yield interval, monomials
                return
    for interval in intervals:
        is_at_an_end = interval[0] == values[0] or interval[-1] == values[-1]
        monomials = floor_monomials(name, interval) if len(interval) >= MIN_FLOOR_VALUES and is_at_an_end else None
        if monomials is not None:
            yield interval, monomials
            return
