"""The sizes that a law is about: each with a base value, and what values it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphflops.errors import UsageError


@dataclass(frozen=True, slots=True)
class Multiples:
    """Values that a size may take: the multiples of a number, up to a largest one if there is one."""

    of: int
    at: int
    """the value it has unless told"""
    most: int | None = None

    def allows(self, value: int) -> bool:
        """Whether a value is one of them."""
        return value >= self.of and value % self.of == 0 and (self.most is None or value <= self.most)

    def near(self, value: int) -> int:
        """The one that is nearest below a value, or the smallest."""
        value = value if self.most is None else min(value, self.most)
        return max(value // self.of, 1) * self.of

    def __str__(self) -> str:
        kinds = "any" if self.of == 1 else f"multiples of {self.of:,}"
        return kinds if self.most is None else f"{kinds} up to {self.most:,}"


def multiples(of: int, at: int | None = None, most: int | None = None) -> Multiples:
    """Say of a size that it is a multiple of ``of``: a width that heads divide, an image that patches divide.

    Args:
        of: what divides it.
        at: its value unless told; ``of`` itself if left out.
        most: the largest value that makes sense, if there is one.

    >>> multiples(64, at=512)
    Multiples(of=64, at=512, most=None)

    Raises:
        UsageError: ``at`` or ``most`` is no such multiple.
    """
    made = Multiples(of, of if at is None else at, most)
    for name, value in (("of", of), ("at", made.at), ("most", of if most is None else most)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"multiples: {name} must be a whole number of at least 1, not {value!r}")
    if not made.allows(made.at):
        raise UsageError(f"multiples({of}): at = {made.at} is not among the {made}")
    return made


def as_ranges(sizes: Mapping[str, int | Multiples]) -> dict[str, Multiples]:
    """The sizes as a user gives them, a number or ``multiples(…)`` by name, checked.

    Raises:
        UsageError: there is none, a name is no name, or a value is neither.
    """
    if not isinstance(sizes, Mapping) or not sizes:
        raise UsageError('give the sizes of a law by name, each with a value: sizes={"B": 32, "N": 128}')
    made = {}
    for name, value in sizes.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"a size has a name that a function's argument may have, not {name!r}")
        if isinstance(value, Multiples):
            made[name] = value
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"size {name} must be a whole number of at least 1, or multiples(…), not {value!r}")
        else:
            made[name] = Multiples(1, value)
    return made
