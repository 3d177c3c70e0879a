"""The rows of a difference of two reports, and its sums: plain numbers, without torch and the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from graphflops.core.entries import PHASES, Phase
from graphflops.report.conventions import Convention
from graphflops.report.data import Query, phases_of

ChangeKind: TypeAlias = Literal["changed", "added", "removed", "renamed"]
SCHEMA = "graphflops.diff/1"
_QUERIES: tuple[Query, ...] = (*PHASES, "backward", "total")


@dataclass(frozen=True, slots=True)
class Change:
    """The operators of one target in one module that differ between two reports, with their FLOPs by phase."""

    kind: ChangeKind
    before: str
    """module path in the first report; empty for the model itself, and for an operator that was added"""
    after: str
    """module path in the second report; empty for the model itself, and for an operator that was removed"""
    operator: str
    """the operator's short name; ``relu → gelu`` if another one replaced it"""
    details: tuple[str, ...]
    """sizes, options, dtype, rate or formula from → to, one line each"""
    left: Mapping[Phase, int]
    right: Mapping[Phase, int]

    @property
    def path(self) -> str:
        """The module path in the second report, or in the first if the operator was removed."""
        return self.before if self.kind == "removed" else self.after

    @property
    def is_free(self) -> bool:
        """Whether the operator has no FLOPs in either report, as views have none."""
        return not any((*self.left.values(), *self.right.values()))

    @property
    def is_update(self) -> bool:
        """Whether this is the optimizer's update of the module's parameters."""
        phases = {phase for side in (self.left, self.right) for phase, flops in side.items() if flops}
        return phases == {"optimizer"}

    def difference(self, phase: Query = "total") -> int:
        """FLOPs of a phase in the second report − in the first."""
        return sum(self.right[part] - self.left[part] for part in phases_of(phase))

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and ints."""
        return {
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "operator": self.operator,
            "details": list(self.details),
            "left": dict(self.left),
            "right": dict(self.right),
        }


@dataclass(frozen=True)
class DiffData:
    """The difference of two reports. The rows sum to the difference of the totals, in every phase."""

    names: tuple[str, str]
    convention: Convention
    rows: tuple[Change, ...]
    """changes and renames, in the order of the models; unchanged operators have no row"""
    left: Mapping[Phase, int]
    """FLOPs of the first report"""
    right: Mapping[Phase, int]
    """FLOPs of the second report"""
    parameters: tuple[int, int]
    unknown: tuple[int, int]
    """number of unsupported ops, which are in no number"""
    unchanged: int = 0
    """number of operators that are equal in both, with their module path"""
    is_training: bool = True
    notes: tuple[str, ...] = ()
    """other differences: inputs, optimizer, rates, versions of PyTorch and graphflops, rules"""
    removed_modules: Mapping[str, str] = field(default_factory=dict)
    """module path → class name, of modules of the first report without a counterpart in the second"""
    added_modules: Mapping[str, str] = field(default_factory=dict)
    """module path → class name, of modules of the second report without a counterpart in the first"""

    def __post_init__(self) -> None:
        for phase in PHASES:
            rows = sum(row.difference(phase) for row in self.rows)
            assert rows == self.difference(phase), f"the rows of {phase} are not the difference"

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The rows that add, remove or change an operator; a rename changes no cost."""
        return tuple(row for row in self.rows if row.kind != "renamed")

    @property
    def renamed(self) -> tuple[Change, ...]:
        """The rows of operators whose module has another path or whose class has another name."""
        return tuple(row for row in self.rows if row.kind == "renamed")

    @property
    def is_empty(self) -> bool:
        """Whether the two have equal operators with equal costs, under any names, and as many parameters."""
        return not self.changes and self.parameters[0] == self.parameters[1] and self.unknown[0] == self.unknown[1]

    def before(self, phase: Query = "total") -> int:
        """FLOPs of a phase in the first report."""
        return sum(self.left[part] for part in phases_of(phase))

    def after(self, phase: Query = "total") -> int:
        """FLOPs of a phase in the second report."""
        return sum(self.right[part] for part in phases_of(phase))

    def difference(self, phase: Query = "total") -> int:
        """FLOPs of a phase in the second report − in the first."""
        return self.after(phase) - self.before(phase)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and ints, with unit and convention."""
        return {
            "schema": SCHEMA,
            "unit": self.convention.unit,
            "convention": self.convention.name,
            "names": list(self.names),
            "before": {phase: self.before(phase) for phase in _QUERIES},
            "after": {phase: self.after(phase) for phase in _QUERIES},
            "difference": {phase: self.difference(phase) for phase in _QUERIES},
            "parameters": list(self.parameters),
            "unknown": list(self.unknown),
            "unchanged": self.unchanged,
            "rows": [row.to_dict() for row in self.rows],
            "notes": list(self.notes),
        }
