"""When there is no law: which quantity, at which sizes, and where a law does hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from graphflops.analysis.scaling.measurement import Quantity, aligned
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.sample_points import Point, Points, written
from graphflops.analysis.scaling.univariate import coefficients_of, values_on
from graphflops.core.errors import LawError

DIVISORS = (2, 4, 8, 16, 32, 64, 3, 6, 12, 5, 10, 7, 14, 28)
"""the multiples that are tried for where a law holds"""
TRIED = (0, 1, 2, 3, 5, 8, 13, 21)
"""and at which of them"""


STRETCH = 20
"""how many values, those next to the base, are looked through for a stretch on which a law holds"""


@dataclass(frozen=True)
class Wrong:
    """Where a law fails: at which point, for which quantity, what is there and what the law says."""

    quantity: Quantity
    point: Point
    value: int
    said: int | Fraction


def off_the_line(points: Points, quantity: Quantity, base: Point, axis: int) -> LawError:
    """The error for what is no polynomial in a size, nor in a floor of it."""
    name = points.names[axis]
    table = points.table()
    line = table.line(base, axis)
    column = next(column for column, quantities in table.columns.items() if quantity in quantities)
    values = values_on(column, line)
    shown = ", ".join(f"{y:,} at {name} = {x:,}" for x, y in values[:6])
    others = written({each: value for each, value in points.named(base).items() if each != name})
    aside = f", with {others}" if len(base) > 1 else ""
    return LawError(
        f"{quantity} follows no law in {name}{aside}: it is {shown}, …; that is no polynomial in {name}, nor in what a "
        f"stride or a window leaves of it. {_where(points, quantity, base, axis)}",
        str(quantity),
        [points.named((*base[:axis], x, *base[axis + 1 :])) for x, _ in values],
    )


def too_many_terms(points: Points, quantity: Quantity, terms: int) -> LawError:
    """The error for what could be told by more points than are looked at."""
    return LawError(
        f"{quantity} may have {terms} terms, which {len(points.seen)} points do not tell apart: give fewer sizes",
        str(quantity),
        [points.named(points.base)],
    )


def contradicted(points: Points, wrong: Wrong, laws: Mapping[Quantity, Polynomial]) -> LawError:
    """The error for a law that does not hold at a point that had no part in finding it."""
    law = laws.get(wrong.quantity, Polynomial())
    table = points.table()
    column = next(column for column, quantities in table.columns.items() if wrong.quantity in quantities)
    agree = [point for point, value in zip(table.points, column, strict=True) if law(points.named(point)) == value]
    fail = [point for point in table.points if point not in agree]
    return LawError(
        f"{wrong.quantity} follows no law that holds everywhere: at {written(points.named(wrong.point))} it is "
        f"{wrong.value:,}, and what fits {len(agree)} points says {wrong.said}. {_up_to(points, agree, fail)}",
        str(wrong.quantity),
        [points.named(point) for point in fail] or [points.named(wrong.point)],
    )


def _where(points: Points, quantity: Quantity, base: Point, axis: int) -> str:
    """In which multiples of a size there is a law; else on which stretch of it."""
    name = points.names[axis]
    size = list(points.ranges.values())[axis]
    for divisor in DIVISORS:
        of = divisor * size.of
        start = -(-base[axis] // of)
        chosen = [(*base[:axis], (start + k) * of, *base[axis + 1 :]) for k in TRIED]
        if all(size.allows(point[axis]) and points.at(point) is not None for point in chosen):
            rows = aligned(points.seen.values())
            at = dict(zip(points.seen, rows, strict=True))
            if coefficients_of([(point[axis], at[point].get(quantity, 0)) for point in chosen]) is not None:
                return f"It holds for multiples of {of}: give {name}=multiples({of})."
    table = points.table()
    column = next((each for each, quantities in table.columns.items() if quantity in quantities), ())
    values = values_on(column, table.line(base, axis)) if column else ()
    values = tuple(sorted(sorted(values, key=lambda each: abs(each[0] - base[axis]))[:STRETCH]))
    longest = max(
        (values[i:j] for i in range(len(values)) for j in range(i + 4, len(values) + 1) if _fits(values[i:j])),
        key=len,
        default=(),
    )
    if longest:
        return f"It holds from {name} = {longest[0][0]:,} to {name} = {longest[-1][0]:,}."
    return f"No stretch of {name} was found on which there is one."


def _fits(values: tuple[tuple[int, int], ...]) -> bool:
    found = coefficients_of(values)
    return found is not None and len(found) <= 4


def _up_to(points: Points, agree: list[Point], fail: list[Point]) -> str:
    """The bound on one size that parts the points at which a law holds from those at which it does not."""
    for axis, name in enumerate(points.names):
        right, wrong = {point[axis] for point in agree}, {point[axis] for point in fail}
        if right and wrong and max(right) < min(wrong):
            return f"It holds up to {name} = {max(right):,}."
        if right and wrong and min(right) > max(wrong):
            return f"It holds from {name} = {min(right):,} on."
    within = (
        f"{name} from {min(each):,} to {max(each):,}"
        for name, each in zip(points.names, zip(*agree, strict=True), strict=True)
    )
    return f"It holds at {len(agree)} points, with {', '.join(within)}." if agree else "It holds nowhere."
