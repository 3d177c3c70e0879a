"""The points of sizes at which a model is traced, each once, and those that the model rejects."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from math import gcd, log
from typing import TypeAlias

from graphflops.analysis.scaling.quantities import Names, Observation, Quantity
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.analysis.scaling.univariate import MIN_UNUSED_VALUES
from graphflops.core.errors import GraphflopsError, LawError

Point: TypeAlias = tuple[int, ...]
"""a value for each size, in their order"""

MAX_REJECTED_POINTS = 64
"""points in a row that a model may reject before fitting stops"""
MAX_NEAR_FACTOR, MAX_FAR_FACTOR = 2, 48
"""the largest multiple of its base value that a size has at a random point, near and far"""
MAX_DEPTH_FACTOR = 3
"""the same of a size that changes the number of Ops, whose traces take long"""
MIN_STEPS = 8
"""values, in steps of the size, among which a random one is drawn, however small the base value"""
GENERIC_DEPTH = 3
"""layers of the generic point of a deep model"""
MAX_COMPLETE_VALUES = 4
"""values of a size of which all are traced, where a piece has no more"""
STRATA = 3
"""small, medium and large values of which random points have one each"""


@dataclass(frozen=True)
class Table:
    """The values of all quantities at some points; quantities with equal values share a column."""

    points: tuple[Point, ...]
    quantities: tuple[Quantity, ...]
    """in the order of the report"""
    columns: Mapping[tuple[int, ...], tuple[Quantity, ...]]
    names: Names
    """by which the quantities of an observation are those of the table"""

    @classmethod
    def from_observations(cls, observations: Mapping[Point, Observation]) -> Table:
        """The table of the observations at some points."""
        names = Names.common_to(observations.values())
        rows = [names.align(observation) for observation in observations.values()]
        columns: dict[tuple[int, ...], list[Quantity]] = {}
        quantities = tuple(dict.fromkeys(quantity for row in rows for quantity in row))
        for quantity in quantities:
            columns.setdefault(tuple(row.get(quantity, 0) for row in rows), []).append(quantity)
        return cls(
            tuple(observations), quantities, {values: tuple(members) for values, members in columns.items()}, names
        )

    def column_of(self, quantity: Quantity) -> tuple[int, ...]:
        """The values of a quantity at all points."""
        return next((values for values, members in self.columns.items() if quantity in members), ())

    def line(self, base: Point, axis: int) -> dict[int, int]:
        """Value of one size → index of the point, for the points that differ from a base in this size alone."""
        return {
            point[axis]: index
            for index, point in enumerate(self.points)
            if all(point[i] == base[i] for i in range(len(base)) if i != axis)
        }


class SamplePoints:
    """The observations of a model at points of its sizes. A point at which the model raises is rejected.

    Where a law has pieces, the points of a piece are a part of these, and share the observations.
    """

    def __init__(
        self,
        ranges: Mapping[str, SizeRange],
        observe: Callable[..., Observation],
        observations: Mapping[Point, Observation] | None = None,
        count_modules: Callable[..., int] | None = None,
    ) -> None:
        """``observe(**sizes)`` returns the numbers of a report, ``count_modules(**sizes)`` the number of modules."""
        self.ranges = dict(ranges)
        self._depth_axes = frozenset[int]() if count_modules is None else self._axes_that_change(count_modules)
        self.observations: dict[Point, Observation] = dict(observations or {})
        self.rejected: dict[Point, str] = {}
        self.centers: list[Point] = []
        """points through which lines were sampled along each size"""
        self.edges: list[tuple[int, int]] = []
        """size and value where this part meets another one"""
        self.is_split = False
        self.whole: SamplePoints | None = None
        """the points of which these are a part"""
        self._observe = observe
        self._table: Table | None = None
        self._random = random.Random(0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sizes."""
        return tuple(self.ranges)

    @property
    def base(self) -> Point:
        """The point of the base values."""
        return tuple(size.base for size in self.ranges.values())

    def range_of(self, axis: int) -> SizeRange:
        """The range of the size with this index."""
        return list(self.ranges.values())[axis]

    def as_sizes(self, point: Point) -> dict[str, int]:
        """A point as sizes by name."""
        return dict(zip(self.ranges, point, strict=True))

    def observe(self, point: Point) -> Observation | None:
        """The numbers of the report at a point, traced once; None if the model rejects it."""
        if point in self.rejected:
            return None
        if point not in self.observations and self.whole is not None:
            observation = self.whole.observe(point)
            if observation is None:
                self.rejected[point] = self.whole.rejected[point]
                return None
            self.observations[point] = observation
        if point not in self.observations:
            try:
                self.observations[point] = self._observe(**self.as_sizes(point))
            except Exception as error:
                if point == self.base:
                    raise
                self.rejected[point] = _reason(error)
                return None
        return self.observations[point]

    def split(self, axis: int, right: Point, wrong: Point) -> tuple[SamplePoints, SamplePoints]:
        """The points below and above a boundary, which is between two points; those with the base first."""
        self.is_split = True
        low, high = sorted((right, wrong), key=lambda point: point[axis])
        parts = [self._part(axis, None, low[axis], low), self._part(axis, high[axis], None, high)]
        parts.sort(key=lambda part: part.base != self.base)
        return parts[0], parts[1]

    def _part(self, axis: int, first: int | None, last: int | None, edge: Point) -> SamplePoints:
        """The points with a size from ``first`` to ``last``, one of which is at the edge."""
        name, size = self.names[axis], self.range_of(axis)
        part = copy(self)
        part.whole, part.centers, part._table, part._random = self, [], None, random.Random(0)
        part.edges = [*self.edges, (axis, edge[axis])]
        base = size.base
        if base not in size.between(first, last, base):
            base = edge[axis] if last is None else size.round_down(max(last // 4, size.min or 1))
        part.ranges = {**self.ranges, name: size.between(first, last, base)}
        part.observations = {point: self.observations[point] for point in self.observations if part.has(point)}
        part.rejected = {point: reason for point, reason in self.rejected.items() if part.has(point)}
        if part.observe(part.base) is None:
            bases = zip(part.ranges.items(), edge, strict=True)
            part.ranges = {name: replace(size, base=value) for (name, size), value in bases}
        return part

    def has(self, point: Point) -> bool:
        """Whether a point is in all ranges."""
        return all(value in size for value, size in zip(point, self.ranges.values(), strict=True))

    def table(self) -> Table:
        """All observations, under names that are the same at all points."""
        if self._table is None or len(self._table.points) < len(self.observations):
            self._table = Table.from_observations(self.observations)
        return self._table

    def first_accepted(self, candidates: Iterator[Point], purpose: str) -> Point | None:
        """The first of some points that the model accepts; None if a part has no more points.

        Raises:
            LawError: it rejects too many in a row.
        """
        rejected = []
        for point in candidates:
            if self.observe(point) is not None:
                return point
            rejected.append(point)
            if len(rejected) >= MAX_REJECTED_POINTS:
                break
        if self.whole is not None and len(rejected) < MAX_REJECTED_POINTS:
            return None
        example = f": at {format_sizes(self.as_sizes(rejected[0]))} {self.rejected[rejected[0]]}" if rejected else ""
        raise LawError(
            f"not enough sizes at which the model can be traced {purpose}{example}. Give compatible sizes: "
            "multiples(8) for what 8 must divide, or a base value with a wider range",
            points=[self.as_sizes(point) for point in rejected[:3]],
        )

    def generic(self) -> Point:
        """A point without special values: with one head, one expert or one layer some terms vanish."""
        point = tuple(self._generic_value(axis, size) for axis, size in enumerate(self.ranges.values()))
        if self.observe(point) is not None:
            return point
        accepted = self.base
        for i, value in enumerate(point):  # as many of the values as the model accepts
            candidate = (*accepted[:i], value, *accepted[i + 1 :])
            accepted = candidate if self.observe(candidate) is not None else accepted
        return accepted

    def _generic_value(self, axis: int, size: SizeRange) -> int:
        is_large = size.base > MIN_STEPS * size.multiple_of
        if axis in self._depth_axes and is_large:
            return GENERIC_DEPTH * size.multiple_of  # as informative as a hundred layers, and traced sooner
        return size.round_down(size.base + size.multiple_of * (1 + axis % 3 if is_large else 1))

    def _axes_that_change(self, count_modules: Callable[..., int]) -> frozenset[int]:
        """The sizes that change the number of modules."""
        base, axes = self.as_sizes(self.base), set()
        for axis, (name, size) in enumerate(self.ranges.items()):
            neighbours = (size.base + size.multiple_of, size.base - size.multiple_of)
            neighbour = next((value for value in neighbours if value in size), size.base)
            try:
                if count_modules(**{**base, name: neighbour}) != count_modules(**base):
                    axes.add(axis)
            except Exception:
                continue  # the model rejects it
        return frozenset(axes)

    def spare_values(self, axis: int) -> int:
        """The values of a line that a polynomial must not need; none if a part has only a few values in all."""
        count = self.range_of(axis).count
        return 0 if self.whole is not None and count is not None and count <= MAX_COMPLETE_VALUES else MIN_UNUSED_VALUES

    def distance(self, point: Point) -> float:
        """The distance from the first center, on a logarithmic scale."""
        return max(abs(log(value / center)) for value, center in zip(point, self.centers[0], strict=True))

    def near_line(self, base: Point, axis: int) -> Iterator[Point]:
        """Points that differ from a base in one size, the nearest first, above and below."""
        size = self.range_of(axis)
        for k in range(1, 4 * MAX_REJECTED_POINTS):
            for value in (base[axis] + k * size.multiple_of, base[axis] - k * size.multiple_of):
                if value in size:
                    yield with_value(base, axis, value)

    def far_line(self, base: Point, axis: int) -> Iterator[Point]:
        """Far points on this line, at values that are no multiples of the base; less far where depth varies."""
        size = self.range_of(axis)
        is_depth = axis in self.depth_axes()
        far = ((2, 1), (1, 7), (1, 4), (2, 3)) if is_depth else ((3, 1), (5, 2), (2, 3), (4, 5), (2, 7))
        for factor, steps in far:
            value = size.round_down(base[axis] * factor + steps * size.multiple_of)
            if value != base[axis]:
                yield with_value(base, axis, value)

    def at_edges(self) -> Iterator[Point]:
        """Random points at and beside the boundaries of this part."""
        for axis, edge in self.edges:
            size = self.range_of(axis)
            inward = -1 if edge == size.max else 1
            for value in (edge, edge + inward * self.step_of(axis)):
                candidates = (with_value(point, axis, value) for point in self.random_points(far=False))
                if value in size and (point := next(candidates, None)) is not None:
                    yield point

    def depth_axes(self) -> frozenset[int]:
        """The sizes that change the number of modules or quantities."""
        axes = set(self._depth_axes)
        for center in (self.base, *self.centers):
            for point, observation in self.observations.items():
                changed = [axis for axis, (a, b) in enumerate(zip(point, center, strict=True)) if a != b]
                if len(changed) == 1 and len(observation) != len(self.observations[center]):
                    axes.add(changed[0])
        return frozenset(axes)

    def random_points(self, far: bool, near_smallest: bool = False) -> Iterator[Point]:
        """Random points without observations, the same in each run: a Latin hypercube on a logarithmic scale.

        With ``near_smallest`` they begin at the smallest values. Of each three points one has a small, one a medium and
        one a large value of each size.
        """
        depth_axes, split_axes = self.depth_axes(), {axis for axis, _ in self.edges}
        for _ in range(MAX_REJECTED_POINTS):
            strata = [self._random.sample(range(STRATA), STRATA) for _ in self.ranges]
            for i in range(STRATA):
                values = []
                for axis, size in enumerate(self.ranges.values()):
                    is_depth, step = axis in depth_axes, self.step_of(axis)
                    center = self._generic_value(axis, size) if is_depth else size.base
                    factor = (MAX_DEPTH_FACTOR if is_depth else MAX_FAR_FACTOR) if far else MAX_NEAR_FACTOR
                    lowest = center if far else max(center // 2, size.multiple_of)
                    lowest = size.round_down(1) if near_smallest else lowest
                    highest = center * factor + step * (MIN_STEPS // 2 if is_depth else MIN_STEPS)
                    if far and axis in split_axes:  # all of a piece, which may be below its base
                        lowest, highest = size.round_down(1), max(size.round_down(highest), size.round_down(1))
                    quantile = (strata[axis][i] + self._random.random()) / STRATA
                    value = lowest * (highest / lowest) ** quantile
                    values.append(size.round_down((round(value) + self._random.randrange(step)) // step * step or step))
                point = tuple(values)
                if point not in self.observations and point not in self.rejected:
                    yield point

    def step_of(self, axis: int) -> int:
        """The divisor of a size; if points were rejected, the greatest common divisor of the accepted values."""
        step = self.range_of(axis).multiple_of
        return gcd(*(point[axis] for point in self.observations)) if self.rejected else step


def with_value(point: Point, axis: int, value: int) -> Point:
    """A point with another value of one size."""
    return (*point[:axis], value, *point[axis + 1 :])


def format_sizes(sizes: Mapping[str, int]) -> str:
    """Sizes as text: ``(B = 32, N = 128)``."""
    return f"({', '.join(f'{name} = {value:,}' for name, value in sizes.items())})"


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, GraphflopsError) else f"{type(error).__name__}: {text}"
