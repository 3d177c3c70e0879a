"""What a law is made of: the numbers of a report, each under the name that it has at all sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from graphflops.core.components import components
from graphflops.core.costs import WORK_CLASSES, ZERO
from graphflops.core.entries import PHASES
from graphflops.report.report import Report

if TYPE_CHECKING:
    from graphflops.report.conventions import Convention

PARAMETERS = "parameters"
"""the phase, so to speak, in which numbers of parameters stand"""


class Quantity(NamedTuple):
    """One number of a report: where in the model, what is done there, in which phase, and of which class of work."""

    component: str
    path: str
    what: str
    phase: str
    kind: str
    nth: int = 0
    """which of several calls, while its law is looked for: each may see a size through another stride"""

    def __str__(self) -> str:
        where = " · ".join(filter(None, (self.component, self.path if self.path != self.component else "", self.what)))
        return f"{where}, {self.phase}" + (f" ({self.kind})" if self.phase != PARAMETERS else "")


Observation: TypeAlias = Mapping[Quantity, int]


def weighs_classes(convention: Convention) -> bool:
    """Whether a convention weighs the classes of work, whatever the Op: then one law serves it and all others."""
    return not convention.counts and not convention.formula and convention.causal == "dense"


def observe(report: Report) -> dict[Quantity, int]:
    """The numbers of a report: work by class, or what its convention counts if that is not by class; parameters."""
    found: dict[Quantity, int] = {}
    component = components(report.modules)

    calls: dict[tuple[str, str], list[str]] = {}

    def add(path: str, what: str, phase: str, kind: str, count: int, op: str = "") -> None:
        if count:
            name = component[_nearest(path, component)]
            ops = calls.setdefault((path, what), [])
            if op not in ops:
                ops.append(op)
            quantity = Quantity(name, path, what, phase, kind, ops.index(op))
            found[quantity] = found.get(quantity, 0) + count

    by_class = weighs_classes(report.convention)
    for entry in report.entries:
        what = entry.part or entry.operator
        for phase in PHASES:
            if by_class:
                for kind, count in entry.work.get(phase, ZERO).items():
                    add(entry.path, what, phase, kind, int(count), entry.op)
            else:
                number = report.convention.of(entry, (phase,), report.modules.get(entry.path, ""))
                add(entry.path, what, phase, report.convention.unit, number, entry.op)
    for name, numel in report.parameters.items():
        path, _, last = name.rpartition(".")
        add(path, last, PARAMETERS, "elements", numel)
    return found


def weights(convention: Convention) -> dict[str, int]:
    """What each kind of number counts under a convention."""
    if weighs_classes(convention):
        return {kind: convention.weights.get(kind, 0) for kind in WORK_CLASSES}
    return {convention.unit: 1}


def aligned(observations: Iterable[Observation]) -> list[dict[Quantity, int]]:
    """The same with one name for what is the same at all sizes.

    Blocks have numbers. If there are as many at all sizes, each keeps its own; where depth is one of the sizes, they
    stand together: ``layer_*`` is all blocks, ``blocks.*.norm`` the norms of all blocks. So it is with the calls that a
    module makes of one operator.
    """
    observations = list(observations)
    varying, loose = _varying(observations), _loose(observations)
    names = {each.component for observation in observations for each in observation}
    everywhere = [{each.component for each in observation} for observation in observations]
    gone = {_starred(name) for name in names if not all(name in there for there in everywhere)}
    made = []
    for observation in observations:
        renamed: dict[Quantity, int] = {}
        for each, count in observation.items():
            component = _starred(each.component) if _starred(each.component) in gone else each.component
            nth = 0 if (_starred(each.path), each.what) in loose else each.nth
            key = each._replace(component=component, path=_renamed(each.path, varying), nth=nth)
            renamed[key] = renamed.get(key, 0) + count
        made.append(renamed)
    return made


def _nearest(path: str, known: Mapping[str, str]) -> str:
    while path not in known:
        path = path.rpartition(".")[0]
    return path


def _varying(observations: list[Observation]) -> set[str]:
    """The containers, by their starred paths, whose numbered children are not the same in all observations."""
    children: dict[str, set[frozenset[str]]] = {}
    for observation in observations:
        here: dict[str, set[str]] = {}
        for path in {each.path for each in observation}:
            parts = path.split(".")
            for i, part in enumerate(parts):
                if part.isdigit():
                    here.setdefault(".".join(parts[:i]), set()).add(part)
        for container, numbers in here.items():
            children.setdefault(container, set()).add(frozenset(numbers))
    return {_starred(container) for container, seen in children.items() if len(seen) > 1}


def _loose(observations: list[Observation]) -> set[tuple[str, str]]:
    """Where a module makes not as many calls of an operator in all observations: starred path, operator."""
    calls: dict[tuple[str, str], set[int]] = {}
    for observation in observations:
        here: dict[tuple[str, str], int] = {}
        for each in observation:
            here[each.path, each.what] = max(here.get((each.path, each.what), 0), each.nth)
        for place, most in here.items():
            calls.setdefault(place, set()).add(most)
    return {(_starred(path), what) for (path, what), seen in calls.items() if len(seen) > 1}


def _renamed(path: str, varying: set[str]) -> str:
    parts = path.split(".")
    return ".".join(
        "*" if part.isdigit() and _starred(".".join(parts[:i])) in varying else part for i, part in enumerate(parts)
    )


def _starred(name: str) -> str:
    """``blocks.3.norm`` as ``blocks.*.norm``, ``layer_3`` as ``layer_*``."""
    parts = ("*" if part.isdigit() else part for part in name.split("."))
    head, underscore, number = (made := ".".join(parts)).rpartition("_")
    return f"{head}_*" if underscore and number.isdigit() else made
