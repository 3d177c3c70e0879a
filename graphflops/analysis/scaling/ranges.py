"""The sizes that a law is about: each with a base value, and what values it may take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from graphflops.core.errors import UsageError


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


DIGITS = 18
"""of the largest size that is taken from a command line"""
_WRITTEN = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<low>\d+)(?:\.\.(?P<high>\d+))?(?::(?P<of>\d+))?")


def parse(text: str) -> tuple[str, Multiples, int | None]:
    """A size as the command line has it: its name, its values and, of a range, where it ends.

    >>> parse("I=224..896:32")
    ('I', Multiples(of=32, at=224, most=None), 896)

    Raises:
        UsageError: the text is no size.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"cannot read the size {text[:200]!r}: write NAME=VALUE, NAME=LOW..HIGH, or NAME=LOW..HIGH:32 for "
            "multiples of 32"
        )
    if any(len(number) > DIGITS for number in re.findall(r"\d+", text)):
        raise UsageError(f"the size {text[:60]!r} … is larger than any tensor: at most {DIGITS} digits")
    low, of = int(match["low"]), int(match["of"] or 1)
    high = int(match["high"]) if match["high"] else None
    made = multiples(of, at=low)
    if high is not None and not (high > low and made.allows(high)):
        raise UsageError(f"{text}: a range ends above {low}, in {made}")
    return match["name"], made, high


def steps(low: int, high: int, of: int = 1) -> list[int]:
    """Values to show of a range: each twice the one before, and the last one.

    >>> steps(128, 2048), steps(224, 384, 32)
    ([128, 256, 512, 1024, 2048], [224, 256, 288, 320, 352, 384])
    """
    if high >= 4 * low:
        made = [low]
        while made[-1] * 2 <= high:
            made.append(made[-1] * 2)
    else:
        made = list(range(low, high + 1, of * max(1, -(-(high - low) // (of * 8)))))
    return made if made[-1] == high else [*made, high]
