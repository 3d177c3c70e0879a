"""Renaming: how the names in one block become those in another block that repeats it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


@dataclass(frozen=True, slots=True)
class Renaming:
    """The names of one block as those of another block of equal structure.

    Module paths and parameters below ``source`` come to lie below ``target``. Calls are numbered by their kind
    (``add``, ``add_1``, …); ``shifts`` says by how much the numbers of a kind grow.
    """

    target: str
    source: str
    shifts: Mapping[str, int] = field(default_factory=dict)

    def path(self, path: str) -> str:
        """Return a module path, or a parameter's name, as it is in the other block; one outside of it stays."""
        if path == self.source or path.startswith(f"{self.source}."):
            return self.target + path[len(self.source) :]
        return path

    def op(self, name: str) -> str:
        """Return the name of an Op: a call's, or a parameter's own with its path."""
        if "." in name:
            return self.path(name)
        kind, number = numbered(name)
        return kind if not (shifted := number + self.shifts.get(kind, 0)) else f"{kind}_{shifted}"

    def rebased(self, first: Renaming) -> Renaming:
        """Return the renaming from the target of ``first``, which has the same source, to the target of this one."""
        kinds = {*self.shifts, *first.shifts}
        shifts = {kind: self.shifts.get(kind, 0) - first.shifts.get(kind, 0) for kind in kinds}
        return Renaming(self.target, first.target, shifts)


def numbered(name: str) -> tuple[str, int]:
    """Return the kind of a call and its number: ``("add", 2)`` of ``add_2``, ``("add", 0)`` of ``add``."""
    match = _NUMBERED.fullmatch(name)
    assert match is not None
    return match[1], int(match[2] or 0)
