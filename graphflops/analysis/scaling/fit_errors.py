"""Errors of a fit: the quantity without an exact polynomial, the sizes, and the range in which there is one."""

from __future__ import annotations

from collections.abc import Mapping

from graphflops.analysis.scaling.boundaries import Counterexample
from graphflops.analysis.scaling.quantities import Quantity
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.analysis.scaling.sample_points import Point, SamplePoints, format_sizes
from graphflops.analysis.scaling.univariate import Values, coefficients_of, values_on
from graphflops.core.errors import LawError

DIVISORS = (2, 4, 8, 16, 32, 64, 3, 6, 12, 5, 10, 7, 14, 28)
"""divisors of a size for which a polynomial is looked for"""
MULTIPLES = (0, 1, 2, 3, 5, 8, 13, 21)
"""and at which of their multiples"""
MAX_INTERVAL_VALUES = 20
"""values next to the base among which an interval with a polynomial is looked for"""
MAX_INTERVAL_COEFFICIENTS = 4


def not_polynomial(points: SamplePoints, quantity: Quantity, base: Point, axis: int) -> LawError:
    """The error for a quantity that is not a polynomial in a size or in a floor of it."""
    name = points.names[axis]
    table = points.table()
    values = values_on(table.column_of(quantity), table.line(base, axis))
    examples = ", ".join(f"{y:,} at {name} = {x:,}" for x, y in values[:6])
    fixed = format_sizes({size: value for size, value in points.as_sizes(base).items() if size != name})
    condition = f", with {fixed}" if len(base) > 1 else ""
    return LawError(
        f"{quantity}: no exact polynomial in {name} or in a floor of {name}{condition}: measured {examples}, …. "
        f"{_range_with_polynomial(points, quantity, base, axis)}",
        str(quantity),
        [points.as_sizes((*base[:axis], x, *base[axis + 1 :])) for x, _ in values],
    )


def too_many_terms(points: SamplePoints, quantity: Quantity, terms: int) -> LawError:
    """The error for a quantity whose coefficients need more points than are traced."""
    return LawError(
        f"{quantity}: {len(points.observations)} points do not determine its {terms} possible terms; give fewer sizes",
        str(quantity),
        [points.as_sizes(points.base)],
    )


def contradicted(points: SamplePoints, counterexample: Counterexample) -> LawError:
    """The error for a polynomial that is wrong at a point to which it was not fitted."""
    quantity, polynomial = counterexample.quantity, counterexample.polynomial
    sizes = points.as_sizes(counterexample.wrong)
    table = points.table()
    column = table.column_of(quantity)
    correct = [
        point
        for point, value in zip(table.points, column, strict=True)
        if polynomial.evaluate(points.as_sizes(point)) == value
    ]
    wrong = [point for point in table.points if point not in correct]
    measured = column[table.points.index(counterexample.wrong)] if column else 0
    return LawError(
        f"{quantity}: no exact polynomial: at {format_sizes(sizes)} measured {measured:,}, the fit of "
        f"{len(correct)} points predicts {polynomial.evaluate(sizes)}. {_valid_range(points, correct, wrong)}",
        str(quantity),
        [points.as_sizes(point) for point in wrong] or [sizes],
    )


def one_side(points: SamplePoints, ranges: Mapping[str, SizeRange], error: LawError) -> LawError:
    """The error for a boundary beyond which there is no polynomial, with the side that has one."""
    for name, size in ranges.items():
        if size != points.ranges[name]:
            bounds = f"{size.min:,} on" if size.max is None else f"{size.base:,} up to {size.max:,}"
            arguments = f"max={size.max}" if size.max is not None else f"min={size.min}"
            error = LawError(
                f"{error} A law holds from {name} = {bounds}: give "
                f"{name}=multiples({size.multiple_of}, base={size.base}, {arguments}).",
                error.quantity,
                error.points,
            )
    return error


def _range_with_polynomial(points: SamplePoints, quantity: Quantity, base: Point, axis: int) -> str:
    """The multiples of a size in which the quantity is a polynomial; else the longest interval."""
    name, size = points.names[axis], points.range_of(axis)
    for divisor in DIVISORS:
        step = divisor * size.multiple_of
        first = -(-base[axis] // step)
        line = [(*base[:axis], (first + k) * step, *base[axis + 1 :]) for k in MULTIPLES]
        if all(point[axis] in size and points.observe(point) is not None for point in line):
            names = points.table().names
            on_line = [(point[axis], names.align(points.observations[point]).get(quantity, 0)) for point in line]
            if coefficients_of(on_line) is not None:
                return f"One holds for multiples of {step}: give {name}=multiples({step})."
    table = points.table()
    column = table.column_of(quantity)
    values = values_on(column, table.line(base, axis)) if column else ()
    values = tuple(sorted(sorted(values, key=lambda value: abs(value[0] - base[axis]))[:MAX_INTERVAL_VALUES]))
    intervals = (values[i:j] for i in range(len(values)) for j in range(i + 4, len(values) + 1))
    longest = max((interval for interval in intervals if _has_few_coefficients(interval)), key=len, default=())
    if longest:
        return f"One holds from {name} = {longest[0][0]:,} to {name} = {longest[-1][0]:,}."
    return f"None holds on any traced interval of {name}."


def _has_few_coefficients(values: Values) -> bool:
    coefficients = coefficients_of(values)
    return coefficients is not None and len(coefficients) <= MAX_INTERVAL_COEFFICIENTS


def _valid_range(points: SamplePoints, correct: list[Point], wrong: list[Point]) -> str:
    """The bound on one size that separates the points where a polynomial is right from those where it is wrong."""
    for axis, name in enumerate(points.names):
        right_values, wrong_values = {point[axis] for point in correct}, {point[axis] for point in wrong}
        if right_values and wrong_values and max(right_values) < min(wrong_values):
            return f"It holds up to {name} = {max(right_values):,}."
        if right_values and wrong_values and min(right_values) > max(wrong_values):
            return f"It holds from {name} = {min(right_values):,} on."
    if not correct:
        return "It holds nowhere."
    ranges = (
        f"{name} from {min(values):,} to {max(values):,}"
        for name, values in zip(points.names, zip(*correct, strict=True), strict=True)
    )
    return f"It holds at {len(correct)} points, with {', '.join(ranges)}."
