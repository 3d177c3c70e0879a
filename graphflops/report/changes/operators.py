"""The operators of a report by module and target: the units in which two reports are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphflops.core.entries import PHASES, Entry, Phase
from graphflops.report.data import ReportData


@dataclass(frozen=True)
class Operators:
    """All calls of one target in one module, or the updates of its parameters, with their FLOPs by phase."""

    path: str
    target: str
    entries: tuple[Entry, ...]
    flops: Mapping[Phase, int]
    """under the report's convention"""

    @property
    def name(self) -> str:
        """The short name of the target."""
        return self.entries[0].operator

    @property
    def calls(self) -> int:
        """Number of calls; a call with named parts is one."""
        return len({entry.op for entry in self.entries})

    @cached_property
    def sizes(self) -> tuple[Any, ...]:
        """Shapes, options and dtype of each call, which a rule depends on."""
        return tuple(
            (*entry.operands.values(), entry.outputs, entry.flags, entry.dtype, *parameter_shape(entry))
            for entry in self.entries
        )

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """All that has to be equal for the calls to be unchanged: sizes and FLOPs."""
        return self.sizes, tuple(self.flops[phase] for phase in PHASES)


def parameter_shape(entry: Entry) -> tuple[int, ...]:
    """The shape of the parameter that an update changes; empty for a call."""
    return tuple(entry.formula.sizes.values()) if entry.kind == "update" else ()


def operators_of(report: ReportData) -> list[Operators]:
    """The operators of a report in the order of their first calls; their FLOPs sum to the report's."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in report.entries:
        groups.setdefault((entry.path, entry.target), []).append(entry)
    return [
        Operators(path, target, tuple(entries), _flops(report, path, entries))
        for (path, target), entries in groups.items()
    ]


def _flops(report: ReportData, path: str, entries: Iterable[Entry]) -> Mapping[Phase, int]:
    module = report.modules.get(path, "")
    return {phase: sum(report.convention.of(entry, (phase,), module) for entry in entries) for phase in PHASES}
