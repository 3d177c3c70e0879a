"""Repeats: what stands in a graph or a ledger once, and what it is called where it stands again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How the names in one block become those in another one of equal structure.

    Module paths and parameters are below ``path`` instead of below ``like``. Calls are numbered by their kind
    (``add``, ``add_1``, …), so that a kind's numbers are further on by what ``shifts`` says.
    """

    path: str
    like: str
    shifts: Mapping[str, int] = field(default_factory=dict)

    def of_path(self, path: str) -> str:
        """A module path, or a parameter's name; one that is not of the block stays."""
        if path == self.like or path.startswith(f"{self.like}."):
            return self.path + path[len(self.like) :]
        return path

    def of_op(self, name: str) -> str:
        """The name of an Op: a call's, or a parameter's own with its path."""
        if "." in name:
            return self.of_path(name)
        kind, number = numbered(name)
        return kind if not (moved := number + self.shifts.get(kind, 0)) else f"{kind}_{moved}"

    def then(self, other: Likeness) -> Likeness:
        """From what this leads to, to what ``other``, that starts where this does, leads to."""
        kinds = {*self.shifts, *other.shifts}
        shifts = {kind: other.shifts.get(kind, 0) - self.shifts.get(kind, 0) for kind in kinds}
        return Likeness(other.path, self.path, shifts)


def numbered(name: str) -> tuple[str, int]:
    """The kind of a call and its number: ``("add", 2)`` of ``add_2``, ``("add", 0)`` of ``add``."""
    match = _NUMBERED.fullmatch(name)
    assert match is not None
    return match[1], int(match[2] or 0)
