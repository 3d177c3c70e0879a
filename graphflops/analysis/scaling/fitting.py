"""Fit polynomials to the observations of a model: along each size, in all sizes, then validated at other points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

from graphflops.analysis.scaling.fit_errors import Counterexample, contradicted, not_polynomial, too_many_terms
from graphflops.analysis.scaling.interpolation import Inconsistent, Underdetermined, candidate_monomials, interpolate
from graphflops.analysis.scaling.polynomials import Monomials, Polynomial
from graphflops.analysis.scaling.quantities import Quantity
from graphflops.analysis.scaling.sample_points import Point, SamplePoints
from graphflops.analysis.scaling.univariate import (
    STEPS,
    FloorPolynomials,
    MixedPolynomials,
    Values,
    floor_monomials,
    mixed_monomials,
    polynomial_monomials,
    values_on,
    values_that_tell_strides,
)

NEAR_POINTS, FAR_POINTS = 1, 2
"""points of a line that are traced first, near to a base and far from it"""
MAX_DEGREE = 6
"""of a polynomial in one size; each degree may trace one more point of a line"""
MAX_STRIDE_POINTS = 40
"""points of a line that are traced to find a stride"""
VALIDATION_POINTS = 3
"""points near the base, and as many far from it, at which polynomials are validated"""
MAX_POINTS = 250
"""points that are traced to determine the coefficients"""
MAX_CENTERS = 4
"""points through which lines are traced; each counterexample adds one"""


@dataclass(frozen=True)
class Fit:
    """A polynomial for each quantity, and the points at which they were validated."""

    polynomials: Mapping[Quantity, Polynomial]
    validated: tuple[Point, ...]


def fit(points: SamplePoints) -> Fit:
    """Fit a polynomial in all sizes to each quantity, and validate it at points to which it was not fitted.

    Raises:
        LawError: a quantity has no exact polynomial, or is another one at a validation point.
    """
    points.observe(points.base)
    points.centers.append(points.generic())
    while True:
        polynomials = _fit_in_all_sizes(points, _monomials_by_size(points))
        if isinstance(polynomials, Counterexample):
            counterexample, fitted = polynomials, {}
        else:
            validated, failed = _validate(points, polynomials)
            if failed is None:
                nonzero = {quantity: polynomial for quantity, polynomial in polynomials.items() if polynomial}
                return Fit(nonzero, validated)
            counterexample, fitted = failed, polynomials
        if counterexample.point in points.centers or len(points.centers) == MAX_CENTERS:
            raise contradicted(points, counterexample, fitted)
        points.centers.append(counterexample.point)


def _monomials_by_size(points: SamplePoints) -> dict[Quantity, list[Monomials]]:
    """The monomials of each quantity in each size, from the lines through all centers."""
    for _ in range(2):  # quantities may be renamed by the first lines
        for base in points.centers:
            for axis in range(len(points.names)):
                _trace_line(points, base, axis)
    table = points.table()
    monomials: dict[Quantity, list[Monomials]] = {}
    for axis, name in enumerate(points.names):
        near_lines = [table.line(base, axis) for base in points.centers]
        for column, quantities in table.columns.items():
            in_this_size: Monomials = frozenset()
            for base, line in zip(points.centers, near_lines, strict=True):
                on_line = _monomials_on(name, values_on(column, line))
                if on_line is None:
                    raise not_polynomial(points, quantities[0], base, axis)
                in_this_size |= on_line
            for quantity in quantities:
                monomials.setdefault(quantity, []).append(in_this_size)
    return monomials


def _monomials_on(name: str, values: Values) -> Monomials | None:
    for monomials_of in (polynomial_monomials, floor_monomials, mixed_monomials):
        if (monomials := monomials_of(name, values)) is not None:
            return monomials
    return None


def _trace_line(points: SamplePoints, base: Point, axis: int) -> None:
    """Trace points along one size until each quantity is a polynomial in it or in a floor of it."""
    purpose = f"along {points.names[axis]}"
    near, far = points.near_line(base, axis), points.far_line(base, axis)
    for source, count in ((near, NEAR_POINTS), (chain(far, near), FAR_POINTS)):
        for _ in range(count):
            points.first_accepted(source, purpose)
    for _ in range(MAX_DEGREE):
        if not _not_polynomial_yet(points, base, axis):
            return
        points.first_accepted(near, purpose)
    _find_strides(points, base, axis)


def _not_polynomial_yet(points: SamplePoints, base: Point, axis: int) -> list[tuple[Quantity, Values]]:
    """The quantities that are no polynomials in a size, one of each column, and their values on the line."""
    table, name = points.table(), points.names[axis]
    line = table.line(base, axis)
    on_line = ((quantities[0], values_on(column, line)) for column, quantities in table.columns.items())
    return [(quantity, values) for quantity, values in on_line if polynomial_monomials(name, values) is None]


def _find_strides(points: SamplePoints, base: Point, axis: int) -> None:
    """Trace points along one size until the values of each quantity determine in which floor it is a polynomial."""
    size = points.range_of(axis)
    for value in values_that_tell_strides(base[axis], size.multiple_of):
        if value in size:
            points.observe((*base[:axis], value, *base[axis + 1 :]))
    by_quantity: dict[Quantity, FloorPolynomials] = {}
    window = [value for k in range(4 * max(STEPS)) if (value := base[axis] + k * size.multiple_of) in size]
    for _ in range(MAX_STRIDE_POINTS):
        votes: Counter[int] = Counter()
        for quantity, values in _not_polynomial_yet(points, base, axis):
            polynomials = by_quantity.setdefault(quantity, FloorPolynomials())
            polynomials.narrow(values)
            if not polynomials.floors:
                polynomials = by_quantity[quantity] = MixedPolynomials()
                polynomials.narrow(values)
            if not polynomials.floors:
                raise not_polynomial(points, quantity, base, axis)
            candidate = polynomials.most_informative(values, window)
            if candidate is not None:
                votes[candidate] += 1
        if not votes:
            return
        chosen = votes.most_common(1)[0][0]
        window.remove(chosen)
        points.observe((*base[:axis], chosen, *base[axis + 1 :]))


def _fit_in_all_sizes(
    points: SamplePoints, monomials: Mapping[Quantity, list[Monomials]]
) -> dict[Quantity, Polynomial] | Counterexample:
    """A polynomial for each quantity through all observations; traces more points until they determine it."""
    polynomials: dict[Quantity, Polynomial] = {}
    fitted_rows = 0
    while True:
        table = points.table()
        rows = [points.as_sizes(point) for point in table.points]
        undetermined = None
        for column, quantities in table.columns.items():
            for members in _group_by_monomials(quantities, monomials):
                polynomial = polynomials.get(members[0])
                new_rows = range(fitted_rows, len(rows))
                if polynomial is not None and all(polynomial.evaluate(rows[i]) == column[i] for i in new_rows):
                    continue
                candidates = candidate_monomials(monomials.get(members[0], ()))
                try:
                    solution = interpolate(candidates, list(zip(rows, column, strict=True)))
                except Underdetermined:
                    undetermined = members[0]
                except Inconsistent as error:
                    return Counterexample(members[0], tuple(error.sizes.values()), error.value, error.predicted)
                else:
                    polynomials.update(dict.fromkeys(members, solution))
        if undetermined is None:
            return polynomials
        if len(rows) > MAX_POINTS:
            raise too_many_terms(points, undetermined, len(candidate_monomials(monomials[undetermined])))
        fitted_rows = len(rows)
        points.first_accepted(points.random_points(far=False), "to determine all coefficients")


def _group_by_monomials(
    quantities: Iterable[Quantity], monomials: Mapping[Quantity, list[Monomials]]
) -> Iterable[list[Quantity]]:
    """Quantities with equal values, grouped by their monomials in each size."""
    groups: dict[tuple[Monomials, ...], list[Quantity]] = {}
    for quantity in quantities:
        groups.setdefault(tuple(monomials.get(quantity, ())), []).append(quantity)
    return groups.values()


def _validate(
    points: SamplePoints, polynomials: Mapping[Quantity, Polynomial]
) -> tuple[tuple[Point, ...], Counterexample | None]:
    """Trace new points near and far, and return them with the first at which a polynomial is wrong."""
    validation = []
    for far in (False, True):
        source = points.random_points(far)
        validation += [points.first_accepted(source, "for validation") for _ in range(VALIDATION_POINTS)]
    table = points.table()
    for point in validation:
        index, sizes = table.points.index(point), points.as_sizes(point)
        predictions: dict[Polynomial, int | Fraction] = {}
        for column, quantities in table.columns.items():
            for quantity in quantities:
                polynomial = polynomials.get(quantity, Polynomial())
                if polynomial not in predictions:
                    predictions[polynomial] = polynomial.evaluate(sizes)
                predicted = predictions[polynomial]
                if predicted != column[index]:
                    return tuple(validation), Counterexample(quantity, point, column[index], predicted)
    return tuple(validation), None
