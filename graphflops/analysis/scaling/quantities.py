"""The numbers of a report, each under a name that is the same at all sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from graphflops.core.components import components, nearest
from graphflops.core.costs import WORK_CLASSES, ZERO
from graphflops.core.entries import PHASES
from graphflops.report.report import Report

if TYPE_CHECKING:
    from graphflops.report.conventions import Convention

PARAMETERS = "parameters"
"""the ``phase`` of the numbers of parameters"""


class Quantity(NamedTuple):
    """A number of a report: module, operator, phase and class of work."""

    component: str
    path: str
    what: str
    """the operator, or the name of a parameter"""
    phase: str
    kind: str
    """the class of work, or ``elements`` of a parameter"""
    nth: int = 0
    """the index of the call, while polynomials are fitted: calls may see a size through different strides"""

    def __str__(self) -> str:
        module = self.path if self.path != self.component else ""
        location = " · ".join(filter(None, (self.component, module, self.what)))
        return f"{location}, {self.phase}" + (f" ({self.kind})" if self.phase != PARAMETERS else "")


Observation: TypeAlias = Mapping[Quantity, int]
"""the numbers of one report"""


def weighs_classes(convention: Convention) -> bool:
    """Whether a convention weighs the classes of work of any Op: one law then serves all such conventions."""
    return not convention.counts and not convention.formula and convention.causal == "dense"


def quantities_of(report: Report) -> dict[Quantity, int]:
    """The numbers of a report: work by class, or the convention's counts if it does not weigh classes; parameters."""
    quantities: dict[Quantity, int] = {}
    component = components(report.modules)
    calls: dict[tuple[str, str], list[str]] = {}

    def add(path: str, operation: str, phase: str, kind: str, count: int, op: str = "") -> None:
        if count:
            ops = calls.setdefault((path, operation), [])
            if op not in ops:
                ops.append(op)
            quantity = Quantity(component[nearest(path, component)], path, operation, phase, kind, ops.index(op))
            quantities[quantity] = quantities.get(quantity, 0) + count

    by_class = weighs_classes(report.convention)
    for entry in report.entries:
        operation = entry.part or entry.operator
        for phase in PHASES:
            if by_class:
                for kind, count in entry.work.get(phase, ZERO).items():
                    add(entry.path, operation, phase, kind, int(count), entry.op)
            else:
                number = report.convention.of(entry, (phase,), report.modules.get(entry.path, ""))
                add(entry.path, operation, phase, report.convention.unit, number, entry.op)
    for name, numel in report.parameters.items():
        path, _, last = name.rpartition(".")
        add(path, last, PARAMETERS, "elements", numel)
    return quantities


def weights(convention: Convention) -> dict[str, int]:
    """The weight of each kind of number under a convention."""
    if weighs_classes(convention):
        return {kind: convention.weights.get(kind, 0) for kind in WORK_CLASSES}
    return {convention.unit: 1}


@dataclass(frozen=True)
class Names:
    """One name for the quantities that correspond in several observations.

    Numbered blocks keep their numbers if there are equally many at all sizes. Where the depth varies they are summed:
    ``layer_*`` is all blocks, ``blocks.*.norm`` the norms of all blocks. The same holds for the calls of one operator
    in a module.
    """

    summed: frozenset[str]
    """the wildcard names of components"""
    lists: frozenset[str]
    """the wildcard paths of containers"""
    calls: frozenset[tuple[str, str]]
    """the wildcard paths and operators"""

    @classmethod
    def common_to(cls, observations: Iterable[Observation]) -> Names:
        """The names of the quantities of some observations."""
        observations = list(observations)
        present = [{quantity.component for quantity in observation} for observation in observations]
        names: set[str] = set().union(*present)
        summed = {_wildcard(name) for name in names if not all(name in components for components in present)}
        return cls(frozenset(summed), _varying_lists(observations), _varying_calls(observations))

    def rename(self, quantity: Quantity) -> Quantity:
        """The common name of a quantity."""
        wildcard = _wildcard(quantity.component)
        return quantity._replace(
            component=wildcard if wildcard in self.summed else quantity.component,
            path=_wildcard_in(quantity.path, self.lists),
            nth=0 if (_wildcard(quantity.path), quantity.what) in self.calls else quantity.nth,
        )

    def align(self, observation: Observation) -> dict[Quantity, int]:
        """An observation with these names."""
        renamed: dict[Quantity, int] = {}
        for quantity, count in observation.items():
            key = self.rename(quantity)
            renamed[key] = renamed.get(key, 0) + count
        return renamed


def _varying_lists(observations: list[Observation]) -> frozenset[str]:
    """The wildcard paths of the containers whose numbered children differ between observations."""
    children: dict[str, set[frozenset[str]]] = {}
    for observation in observations:
        numbered: dict[str, set[str]] = {}
        for path in {quantity.path for quantity in observation}:
            parts = path.split(".")
            for i, part in enumerate(parts):
                if part.isdigit():
                    numbered.setdefault(".".join(parts[:i]), set()).add(part)
        for container, numbers in numbered.items():
            children.setdefault(container, set()).add(frozenset(numbers))
    return frozenset(_wildcard(container) for container, variants in children.items() if len(variants) > 1)


def _varying_calls(observations: list[Observation]) -> frozenset[tuple[str, str]]:
    """The wildcard path and operator where the number of calls differs between observations."""
    calls: dict[tuple[str, str], set[int]] = {}
    for observation in observations:
        last_call: dict[tuple[str, str], int] = {}
        for quantity in observation:
            key = quantity.path, quantity.what
            last_call[key] = max(last_call.get(key, 0), quantity.nth)
        for key, index in last_call.items():
            calls.setdefault(key, set()).add(index)
    return frozenset((_wildcard(path), operation) for (path, operation), variants in calls.items() if len(variants) > 1)


@lru_cache(maxsize=10_000)
def _wildcard_in(path: str, containers: frozenset[str]) -> str:
    parts = path.split(".")
    return ".".join(
        "*" if part.isdigit() and _wildcard(".".join(parts[:i])) in containers else part for i, part in enumerate(parts)
    )


@lru_cache(maxsize=10_000)
def _wildcard(name: str) -> str:
    """``blocks.3.norm`` as ``blocks.*.norm``, ``layer_3`` as ``layer_*``."""
    path = ".".join("*" if part.isdigit() else part for part in name.split("."))
    prefix, underscore, number = path.rpartition("_")
    return f"{prefix}_*" if underscore and number.isdigit() else path
