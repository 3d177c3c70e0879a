"""Rows of a difference in groups, for people: whole modules that came or went, and equal rows of repeated blocks."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from graphflops.core.components import parents
from graphflops.report.changes.rows import Change, ChangeKind, DiffData
from graphflops.report.data import Query

MODEL = "the model itself"
MAX_OPERATORS = 3
"""operators of a module that came or went that are named"""
MAX_RANGES = 16
"""characters of the numbers of blocks in a label"""
_KINDS: tuple[ChangeKind, ...] = ("changed", "added", "removed", "renamed")


@dataclass(frozen=True)
class Group:
    """Rows that are told in one line: the operators of a module, in one block or in each of several."""

    kind: ChangeKind
    label: str
    """the module path; ``layers.0–11.mlp`` for several, ``encoder → model.encoder`` for another path"""
    about: str
    """the class of a module that came or went, or the operators"""
    details: tuple[str, ...]
    rows: tuple[Change, ...]
    blocks: int = 1

    def difference(self, phase: Query = "total") -> int:
        """FLOPs of a phase in the second report − in the first."""
        return sum(row.difference(phase) for row in self.rows)


def groups_of(diff: DiffData) -> tuple[tuple[Group, ...], tuple[Change, ...]]:
    """All groups, changed before added, removed and renamed, the largest difference first; and the rows left out.

    Rows of operators that have no FLOPs in both reports are left out, unless a whole module came or went with them.
    """
    free = tuple(row for row in diff.changes if row.is_free and row.path not in _unmatched(diff, row.kind))
    left_out = {id(row) for row in free}
    groups = list(_of_repeated_blocks(_of_modules(diff, (row for row in diff.rows if id(row) not in left_out))))
    groups.sort(key=lambda group: (_KINDS.index(group.kind), -abs(group.difference())))
    return tuple(groups), free


def _unmatched(diff: DiffData, kind: ChangeKind) -> Mapping[str, str]:
    return {"added": diff.added_modules, "removed": diff.removed_modules}.get(kind, {})


def _of_modules(diff: DiffData, rows: Iterable[Change]) -> Iterator[Group]:
    """A group for each module: the outermost that came or went, the one whose operators changed, or its new path."""
    groups: dict[tuple[ChangeKind, str, str], list[Change]] = {}
    for row in rows:
        if row.kind == "renamed":
            place = _without_common_end(row.before, row.after)
        elif row.kind == "changed":
            place = row.before, row.after
        else:
            path = _outermost(row.path, _unmatched(diff, row.kind))
            place = path, path
        groups.setdefault((row.kind, *place), []).append(row)
    for (kind, before, after), members in groups.items():
        label = after or MODEL if before == after else f"{before or MODEL} → {after or MODEL}"
        calls = [row for row in members if not (row.is_update or row.is_free)]
        names = list(dict.fromkeys(row.operator for row in calls or members))
        about, details = ", ".join(names), tuple[str, ...]()
        if cls := _unmatched(diff, kind).get(after):
            about = f"{cls}: {about}" if len(names) <= MAX_OPERATORS else f"{cls}: {len(names)} operators"
        elif kind == "renamed":
            about = "" if before != after else about
        elif kind == "changed":
            details = tuple(_details(members))
        yield Group(kind, label, about, details, tuple(members))


def _details(rows: Sequence[Change]) -> Iterator[str]:
    """How the operators of a module changed, a line for each; updates of parameters only if nothing else changed."""
    calls = [row for row in rows if not row.is_update]
    for row in calls or rows:
        yield f"{row.operator}: {', '.join(row.details)}" if row.details else row.operator


def _outermost(path: str, unmatched: Container[str]) -> str:
    """The outermost of a module and those around it that the other report lacks, or the module itself."""
    outermost = path
    for outer in (path, *parents(path)):
        if outer not in unmatched:
            break
        outermost = outer
    return outermost


def _without_common_end(before: str, after: str) -> tuple[str, str]:
    """The two paths up to the last part in which they differ."""
    old, new = before.split("."), after.split(".")
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        old.pop()
        new.pop()
    return ".".join(old), ".".join(new)


def _of_repeated_blocks(groups: Iterable[Group]) -> Iterator[Group]:
    """Groups that differ only in the numbers of their paths, such as those of repeated blocks, as one."""
    alike: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        pattern = tuple("*" if part.isdigit() else part for part in _parts(group.label))
        alike.setdefault((group.kind, pattern, group.about, group.details), []).append(group)
    for members in alike.values():
        rows = tuple(row for group in members for row in group.rows)
        label = common_label([group.label for group in members])
        yield replace(members[0], label=label, rows=rows, blocks=len(members))


def common_label(labels: Sequence[str]) -> str:
    """One label for module paths that differ in numbers.

    >>> common_label(["layers.0.mlp", "layers.1.mlp", "layers.4.mlp"])
    'layers.0–1,4.mlp'
    >>> common_label(["layers.0.experts.1", "layers.1.experts.0"])
    'layers.*.experts.*'
    """
    columns = list(zip(*map(_parts, labels), strict=True))
    numbers = [sorted({int(part) for part in column}) if len({*column}) > 1 else [] for column in columns]
    is_product = prod(len({*column}) for column in {*columns}) == len(labels)
    parts = [
        column[0] if not chosen else _ranges(chosen) if is_product else "*"
        for column, chosen in zip(columns, numbers, strict=True)
    ]
    return ".".join(parts).replace(".→.", " → ")


def _parts(label: str) -> list[str]:
    return label.replace(" → ", ".→.").split(".")


def _ranges(numbers: Sequence[int]) -> str:
    """``0–3,7`` of sorted numbers; ``*`` if that is long."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}–{last}" for first, last in ranges)
    return text if len(text) <= MAX_RANGES else "*"
