"""Where a model is looked at: points of sizes, each traced once, and those that the model refuses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

from graphflops.analysis.scaling.measurement import Observation, Quantity, aligned
from graphflops.analysis.scaling.ranges import Multiples
from graphflops.core.errors import GraphflopsError, LawError

Point: TypeAlias = tuple[int, ...]
"""a value for each size, in their order"""

PATIENCE = 64
"""how many points in a row may be refused before it is said that these sizes do not go together"""
NEAR, FAR = 2, 48
"""how many times its base value a size is at fresh points, at the most"""
STRUCTURAL = 3
"""and a size that changes how many Ops there are: their trace takes time"""
ROOM = 8
"""how many steps there are to choose among at the least, however small the base value is"""
FEW = 3
"""how many layers are looked at, where depth is a size"""
THREE = 3


@dataclass(frozen=True)
class Table:
    """Points, and the values of each quantity at them; quantities that are the same at all of them stand together."""

    points: tuple[Point, ...]
    quantities: tuple[Quantity, ...]
    """in the order of the report"""
    columns: Mapping[tuple[int, ...], tuple[Quantity, ...]]

    @classmethod
    def of(cls, seen: Mapping[Point, Observation]) -> Table:
        """The table of what was seen at some points."""
        rows = aligned(seen.values())
        columns: dict[tuple[int, ...], list[Quantity]] = {}
        quantities = tuple(dict.fromkeys(each for row in rows for each in row))
        for quantity in quantities:
            columns.setdefault(tuple(row.get(quantity, 0) for row in rows), []).append(quantity)
        return cls(tuple(seen), quantities, {values: tuple(each) for values, each in columns.items()})

    def line(self, base: Point, axis: int) -> dict[int, int]:
        """The points on the line through a base along one size: value of the size → position in the columns."""
        return {
            point[axis]: position
            for position, point in enumerate(self.points)
            if all(point[i] == base[i] for i in range(len(base)) if i != axis)
        }


class Points:
    """A model seen at points of its sizes. Each point is traced once; what raises there is kept as refused."""

    def __init__(
        self,
        ranges: Mapping[str, Multiples],
        observe: Callable[..., Observation],
        seen: Mapping[Point, Observation] | None = None,
        parts: Callable[..., int] | None = None,
    ) -> None:
        """``observe(**sizes)`` gives what the model costs, ``parts(**sizes)`` how many modules it has."""
        self.ranges = dict(ranges)
        self._deep = frozenset[int]() if parts is None else self._changing(parts)
        self.seen: dict[Point, Observation] = dict(seen or {})
        self.refused: dict[Point, str] = {}
        self.centers: list[Point] = []
        """points through which it was looked along each size"""
        self._observe = observe
        self._table: Table | None = None
        self._random = random.Random(0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sizes."""
        return tuple(self.ranges)

    @property
    def base(self) -> Point:
        """The point that the user gave."""
        return tuple(each.at for each in self.ranges.values())

    def named(self, point: Point) -> dict[str, int]:
        """A point as sizes by name."""
        return dict(zip(self.ranges, point, strict=True))

    def at(self, point: Point) -> Observation | None:
        """What the model costs there; None if it refuses these sizes."""
        if point in self.refused:
            return None
        if point not in self.seen:
            try:
                self.seen[point] = self._observe(**self.named(point))
            except Exception as error:
                if point == self.base:
                    raise
                self.refused[point] = _reason(error)
                return None
        return self.seen[point]

    def table(self) -> Table:
        """All that was seen, under names that are the same at all points."""
        if self._table is None or len(self._table.points) < len(self.seen):
            self._table = Table.of(self.seen)
        return self._table

    def first(self, candidates: Iterator[Point], what: str) -> Point:
        """The first of some points at which the model can be had.

        Raises:
            LawError: it refuses so many that the sizes must be given otherwise.
        """
        refused = []
        for point in candidates:
            if self.at(point) is not None:
                return point
            refused.append(point)
            if len(refused) >= PATIENCE:
                break
        reason = f": at {written(self.named(refused[0]))} {self.refused[refused[0]]}" if refused else ""
        raise LawError(
            f"there are not enough sizes at which the model can be had to find a law {what}{reason}. Give sizes that "
            "go together: multiples(8) for what a number must divide, or a base value that leaves room",
            points=[self.named(each) for each in refused[:3]],
        )

    def generic(self) -> Point:
        """A point that is nowhere special: at one head, one expert or one layer, terms vanish that a law has."""
        bumped = tuple(self._bumped(axis, each) for axis, each in enumerate(self.ranges.values()))
        if self.at(bumped) is not None:
            return bumped
        point = self.base
        for i, value in enumerate(bumped):  # as many sizes as go
            moved = (*point[:i], value, *point[i + 1 :])
            point = moved if self.at(moved) is not None else point
        return point

    def _bumped(self, axis: int, size: Multiples) -> int:
        many = size.at > ROOM * size.of
        if axis in self._deep and many:
            return FEW * size.of  # a few layers say as much as a hundred, and are traced sooner
        return size.near(size.at + size.of * (1 + axis % 3 if many else 1))

    def _changing(self, parts: Callable[..., int]) -> frozenset[int]:
        """The sizes with which the number of modules changes."""
        base, found = self.named(self.base), set()
        for axis, (name, size) in enumerate(self.ranges.items()):
            other = next((value for value in (size.at + size.of, size.at - size.of) if size.allows(value)), size.at)
            try:
                if parts(**{**base, name: other}) != parts(**base):
                    found.add(axis)
            except Exception:
                continue  # it is refused, and not known
        return frozenset(found)

    def along(self, base: Point, axis: int) -> Iterator[Point]:
        """Points on the line through a base: near ones, above and below, in steps of what divides the size."""
        size = list(self.ranges.values())[axis]
        for k in range(1, 4 * PATIENCE):
            for value in (base[axis] + k * size.of, base[axis] - k * size.of):
                if size.allows(value):
                    yield (*base[:axis], value, *base[axis + 1 :])

    def far_along(self, base: Point, axis: int) -> Iterator[Point]:
        """And far ones, which are neither multiples nor powers of two of it; not as far where depth is what grows."""
        size = list(self.ranges.values())[axis]
        deep = axis in self.structural()
        far = ((2, 1), (1, 7), (1, 4), (2, 3)) if deep else ((3, 1), (5, 2), (2, 3), (4, 5), (2, 7))
        for factor, steps in far:
            value = size.near(base[axis] * factor + steps * size.of)
            if value != base[axis]:
                yield (*base[:axis], value, *base[axis + 1 :])

    def structural(self) -> frozenset[int]:
        """The sizes that change how much there is of a model, and not only how large it is."""
        found = set(self._deep)
        for center in (self.base, *self.centers):
            for point, seen in self.seen.items():
                changed = [axis for axis, (one, other) in enumerate(zip(point, center, strict=True)) if one != other]
                if len(changed) == 1 and len(seen) != len(self.seen[center]):
                    found.add(changed[0])
        return frozenset(found)

    def fresh(self, far: bool) -> Iterator[Point]:
        """Random points that were not looked at before, the same ones in each run.

        They come in threes, of which each size is small in one, middling in one and large in one.
        """
        structural = self.structural()
        for _ in range(PATIENCE):
            parts = [self._random.sample(range(THREE), THREE) for _ in self.ranges]
            for i in range(THREE):
                point = []
                for axis, size in enumerate(self.ranges.values()):
                    deep, step = axis in structural, self._step(axis)
                    around = self._bumped(axis, size) if deep else size.at
                    times = (STRUCTURAL if deep else FAR) if far else NEAR
                    lowest = around if far else max(around // 2, size.of)
                    highest = around * times + step * (ROOM // 2 if deep else ROOM)
                    share = (parts[axis][i] + self._random.random()) / THREE
                    value = lowest * (highest / lowest) ** share  # as many small as large
                    point.append(size.near((round(value) + self._random.randrange(step)) // step * step or step))
                if (made := tuple(point)) not in self.seen and made not in self.refused:
                    yield made

    def _step(self, axis: int) -> int:
        """What divides a size; where points were refused, what divides all values that were not."""
        step = list(self.ranges.values())[axis].of
        return gcd(*(point[axis] for point in self.seen)) if self.refused else step


def written(sizes: Mapping[str, int]) -> str:
    """Sizes as people write them: ``(B = 32, N = 128)``."""
    return f"({', '.join(f'{name} = {value:,}' for name, value in sizes.items())})"


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, GraphflopsError) else f"{type(error).__name__}: {text}"
