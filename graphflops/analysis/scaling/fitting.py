"""Fit polynomials to the observations of a model: along each size, in all sizes, then validated at other points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain

from graphflops.analysis.scaling.boundaries import (
    Boundary,
    Counterexample,
    find_boundary,
    piece_around,
    piece_without_strides,
)
from graphflops.analysis.scaling.fit_errors import contradicted, not_polynomial, one_side, too_many_terms
from graphflops.analysis.scaling.interpolation import Inconsistent, Underdetermined, candidate_monomials, interpolate
from graphflops.analysis.scaling.polynomials import Monomials, Polynomial
from graphflops.analysis.scaling.quantities import Names, Quantity
from graphflops.analysis.scaling.sample_points import Point, SamplePoints, Table, with_value
from graphflops.analysis.scaling.univariate import (
    STEPS,
    FloorPolynomials,
    MixedPolynomials,
    Values,
    floor_monomials,
    logarithm_monomials,
    mixed_monomials,
    polynomial_monomials,
    values_on,
    values_that_tell_logarithms,
    values_that_tell_strides,
)
from graphflops.analysis.scaling.windows import joined
from graphflops.core.errors import LawError

NEAR_POINTS, FAR_POINTS = 1, 2
"""points of a line that are traced first, near to a base and far from it"""
MAX_DEGREE = 6
"""of a polynomial in one size; each degree may trace one more point of a line"""
MAX_STRIDE_POINTS = 40
"""points of a line that are traced to find a stride"""
VALIDATION_POINTS = 3
"""points from the smallest to twice the base, and as many far above it, at which polynomials are validated"""
MAX_POINTS = 250
"""points that are traced to determine the coefficients"""
MAX_PIECES = 8
"""of a law"""
MAX_CENTERS = 4
"""points through which lines are traced; each counterexample adds one"""


@dataclass(frozen=True)
class Fit:
    """A polynomial for each quantity, and the points at which they were validated."""

    polynomials: Mapping[Quantity, Polynomial]
    validated: tuple[Point, ...]


class NoPolynomial(Exception):
    """A quantity is no polynomial: ``error`` says so, and there may be a boundary on the way to ``counterexample``."""

    def __init__(
        self, counterexample: Counterexample | None, error: Callable[[], LawError], is_on_a_line: bool = False
    ) -> None:
        super().__init__()
        self.counterexample, self.error, self.is_on_a_line = counterexample, error, is_on_a_line


def fit(points: SamplePoints) -> Fit:
    """Fit a polynomial in all sizes to each quantity, in pieces, and validate it at points to which it was not fitted.

    Raises:
        LawError: a quantity has no exact polynomial, or is another one at a validation point.
    """
    points.observe(points.base)
    fitted = _fit_pieces(points, iter(range(MAX_PIECES - 1)))
    if points.is_split:  # a boundary that depends on other sizes is found out where these differ
        try:
            return Fit(fitted.polynomials, (*fitted.validated, *_validate(points, fitted.polynomials)))
        except NoPolynomial as reason:
            raise reason.error() from None
    return fitted


def _fit_pieces(points: SamplePoints, splits: Iterator[int]) -> Fit:
    """The fit of one piece, or of both sides of a boundary."""
    outcome = _fit_piece(points)
    if isinstance(outcome, Fit):
        return outcome
    boundary, error = outcome
    if boundary is None or next(splits, None) is None:
        raise error()
    near, far = points.split(*boundary)
    fits = {}
    for part in (near, far):
        try:
            fits[part.edges[-1]] = _fit_pieces(part, splits)
        except LawError as reason:
            raise (one_side(points, near.ranges, error()) if fits else error()) from reason
    return _join(points, fits)


def _join(points: SamplePoints, fits: Mapping[tuple[int, int], Fit]) -> Fit:
    """The fits on both sides of a boundary as one."""
    ((axis, last), lower), ((_, start), upper) = sorted(fits.items(), key=lambda item: item[0])
    names = points.table().names
    below, above = (_renamed(part.polynomials, names) for part in (lower, upper))
    nothing = Polynomial()
    polynomials = {
        quantity: joined(below.get(quantity, nothing), above.get(quantity, nothing), points.names[axis], last, start)
        for quantity in {**below, **above}
    }
    return Fit(polynomials, (*lower.validated, *upper.validated))


def _renamed(polynomials: Mapping[Quantity, Polynomial], names: Names) -> dict[Quantity, Polynomial]:
    """Polynomials under names that more observations have in common."""
    members: dict[Quantity, list[tuple[int, Polynomial]]] = {}
    for quantity, polynomial in polynomials.items():
        members.setdefault(names.rename(quantity), []).append((1, polynomial))
    return {quantity: Polynomial.sum(addends) for quantity, addends in members.items()}


def _fit_piece(points: SamplePoints) -> Fit | tuple[Boundary | None, Callable[[], LawError]]:
    """Polynomials in all sizes; else a boundary between pieces, if one was found, and the error if it is none."""
    points.centers.append(points.generic())
    while True:
        try:
            polynomials = _fit_in_all_sizes(points, _monomials_by_size(points))
            validated = _validate(points, polynomials)
        except NoPolynomial as reason:
            if (counterexample := reason.counterexample) is None:
                return None, reason.error
            boundary, centers = find_boundary(points, counterexample), points.centers
            is_last = reason.is_on_a_line or counterexample.wrong in centers or len(centers) == MAX_CENTERS
            if boundary is not None or is_last:
                return boundary, reason.error
            centers.append(counterexample.wrong)
        else:
            return Fit({quantity: polynomial for quantity, polynomial in polynomials.items() if polynomial}, validated)


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
                on_line = _monomials_on(name, values_on(column, line), points.spare_values(axis))
                if on_line is None:
                    raise _no_polynomial_on_line(points, quantities[0], base, axis)
                in_this_size |= on_line
            for quantity in quantities:
                monomials.setdefault(quantity, []).append(in_this_size)
    return monomials


def _monomials_on(name: str, values: Values, spare: int) -> Monomials | None:
    if (monomials := polynomial_monomials(name, values, spare)) is not None:
        return monomials
    for monomials_of in (floor_monomials, logarithm_monomials, mixed_monomials):
        if (monomials := monomials_of(name, values)) is not None:
            return monomials
    return None


def _no_polynomial_on_line(points: SamplePoints, quantity: Quantity, base: Point, axis: int) -> NoPolynomial:
    counterexample = piece_around(points, quantity, base, axis)
    return NoPolynomial(counterexample, partial(not_polynomial, points, quantity, base, axis), is_on_a_line=True)


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
    for quantity, _ in _not_polynomial_yet(points, base, axis):
        if (counterexample := piece_without_strides(points, quantity, base, axis)) is not None:
            raise NoPolynomial(counterexample, partial(not_polynomial, points, quantity, base, axis), is_on_a_line=True)
    _find_strides(points, base, axis)


def _not_polynomial_yet(points: SamplePoints, base: Point, axis: int) -> list[tuple[Quantity, Values]]:
    """The quantities that are no polynomials in a size, one of each column, and their values on the line."""
    table, name, spare = points.table(), points.names[axis], points.spare_values(axis)
    line = table.line(base, axis)
    on_line = ((quantities[0], values_on(column, line)) for column, quantities in table.columns.items())
    return [(quantity, values) for quantity, values in on_line if polynomial_monomials(name, values, spare) is None]


def _find_strides(points: SamplePoints, base: Point, axis: int) -> None:
    """Trace points along one size until the values of each quantity determine in which floor it is a polynomial."""
    size = points.range_of(axis)
    for value in values_that_tell_strides(base[axis], size.multiple_of):
        if value in size:
            points.observe(with_value(base, axis, value))
    on_line = _not_polynomial_yet(points, base, axis)
    if any(logarithm_monomials(points.names[axis], values) is not None for _, values in on_line):
        for value in values_that_tell_logarithms(base[axis]):
            if value in size:
                points.observe(with_value(base, axis, value))
    by_quantity: dict[Quantity, FloorPolynomials] = {}
    window = [value for k in range(4 * max(STEPS)) if (value := base[axis] + k * size.multiple_of) in size]
    for _ in range(MAX_STRIDE_POINTS):
        votes: Counter[int] = Counter()
        for quantity, values in _not_polynomial_yet(points, base, axis):
            if logarithm_monomials(points.names[axis], values) is not None:
                continue
            polynomials = by_quantity.setdefault(quantity, FloorPolynomials())
            polynomials.narrow(values)
            if not polynomials.floors:
                polynomials = by_quantity[quantity] = MixedPolynomials()
                polynomials.narrow(values)
            if not polynomials.floors:
                raise _no_polynomial_on_line(points, quantity, base, axis)
            candidate = polynomials.most_informative(values, window)
            if candidate is not None:
                votes[candidate] += 1
        if not votes:
            return
        chosen = votes.most_common(1)[0][0]
        window.remove(chosen)
        points.observe(with_value(base, axis, chosen))


def _fit_in_all_sizes(
    points: SamplePoints, monomials: Mapping[Quantity, list[Monomials]]
) -> dict[Quantity, Polynomial]:
    """A polynomial for each quantity through all observations; traces more points until they determine it.

    The points next to the first center come first: where a boundary was not yet found, they are on one side of it.
    """
    polynomials: dict[Quantity, Polynomial] = {}
    determined: set[Point] = set()
    while True:
        table = points.table()
        order = sorted(range(len(table.points)), key=lambda i: points.distance(table.points[i]))
        rows = [points.as_sizes(table.points[i]) for i in order]
        undetermined = None
        for column, quantities in table.columns.items():
            values = list(zip(rows, [column[i] for i in order], strict=True))
            for members in _group_by_monomials(quantities, monomials):
                polynomial = polynomials.get(members[0])
                new = (i for i, point in enumerate(table.points) if point not in determined)
                if polynomial is not None and all(
                    polynomial.evaluate(points.as_sizes(table.points[i])) == column[i] for i in new
                ):
                    continue
                candidates = candidate_monomials(monomials.get(members[0], ()))
                try:
                    solution = interpolate(candidates, values)
                except Underdetermined:
                    undetermined = members[0]
                except Inconsistent as error:
                    wrong = tuple(error.sizes.values())
                    raise _contradiction(points, table, members[0], error.polynomial, wrong) from None
                else:
                    polynomials.update(dict.fromkeys(members, solution))
        if undetermined is None:
            return polynomials
        terms = len(candidate_monomials(monomials[undetermined]))
        determined = set(table.points)
        source = points.random_points(far=False)
        if len(rows) > MAX_POINTS or points.first_accepted(source, "to determine all coefficients") is None:
            raise NoPolynomial(None, partial(too_many_terms, points, undetermined, terms))


def _contradiction(
    points: SamplePoints, table: Table, quantity: Quantity, polynomial: Polynomial, wrong: Point
) -> NoPolynomial:
    counterexample = Counterexample(quantity, table.names, polynomial, points.centers[0], wrong)
    return NoPolynomial(counterexample, partial(contradicted, points, counterexample))


def _group_by_monomials(
    quantities: Iterable[Quantity], monomials: Mapping[Quantity, list[Monomials]]
) -> Iterable[list[Quantity]]:
    """Quantities with equal values, grouped by their monomials in each size."""
    groups: dict[tuple[Monomials, ...], list[Quantity]] = {}
    for quantity in quantities:
        groups.setdefault(tuple(monomials.get(quantity, ())), []).append(quantity)
    return groups.values()


def _validate(points: SamplePoints, polynomials: Mapping[Quantity, Polynomial]) -> tuple[Point, ...]:
    """Trace new points below, above, and beside the boundaries of a piece, at which all polynomials must be right."""
    validation = []
    for far in (False, True):
        source = points.random_points(far, near_smallest=not far)
        traced = [points.first_accepted(source, "for validation") for _ in range(VALIDATION_POINTS)]
        validation += [point for point in traced if point is not None]
    validation += [point for point in points.at_edges() if points.observe(point) is not None]
    table = points.table()
    for point in validation:
        index, sizes = table.points.index(point), points.as_sizes(point)
        predictions: dict[Polynomial, int | Fraction] = {}
        for column, quantities in table.columns.items():
            for quantity in quantities:
                polynomial = polynomials.get(quantity, Polynomial())
                if polynomial not in predictions:
                    predictions[polynomial] = polynomial.evaluate(sizes)
                if predictions[polynomial] != column[index]:
                    raise _contradiction(points, table, quantity, polynomial, point)
    return tuple(validation)
