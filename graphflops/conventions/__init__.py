"""Conventions: what turns Work into one number, or what another tool would have counted. Each is a file of data.

Three ways to count stand beside each other. **Weights** turn the classes of work into a number, whatever the Op.
**Counts** imitate a tool: for some operators, in modules of some classes, an expression on the shapes of the Op, and
why; the first that fits speaks, and the weights speak for all others. A blind spot of a tool is a count of 0.
A **formula** of a paper speaks of the whole model's sizes: see ``graphflops.conventions.formulas``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from graphflops.conventions.expressions import Expression, ExpressionError
from graphflops.conventions.formulas import FORMULAS
from graphflops.costs import NOTHING, WORK_CLASSES, Work
from graphflops.errors import UsageError
from graphflops.ledger import PHASES, Entry, Phase
from graphflops.sizes import Size

DEFAULT_WHY = "weighed by the classes of its work"


@dataclass(frozen=True)
class Count:
    """What a tool counts for the calls of some operators, and why.

    Empty ``operators`` mean all, empty ``modules`` mean anywhere; else the module that makes the call is of one of
    these classes. ``count`` is an expression, see ``graphflops.conventions.expressions``.
    """

    why: str
    count: str
    operators: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @cached_property
    def expression(self) -> Expression:
        """The count, parsed."""
        return Expression(self.count)

    def speaks_for(self, entry: Entry, module: str) -> bool:
        """Whether this is the entry's count; ``module`` is the class of the module that makes the call."""
        fits = not self.operators or entry.operator in self.operators
        return entry.kind == "call" and fits and (not self.modules or module in self.modules)


@dataclass(frozen=True)
class Convention:
    """What one operation of each class counts, and what is counted otherwise; a class that is not named counts 0."""

    name: str
    about: str
    weights: Mapping[str, int]
    unit: str = "FLOP"
    """what the number is, by its right name: FLOP, or MAC where a multiply-add is 1"""
    phases: tuple[Phase, ...] = PHASES
    """the phases that are counted at all"""
    counts: tuple[Count, ...] = field(default=())
    why: str = DEFAULT_WHY
    """of what no count speaks for"""
    causal: Literal["dense", "useful"] = "dense"
    """causal attention as it is computed, or as its triangle"""
    formula: str = ""
    """the closed formula whose terms are weighed, instead of the Ops, if there is one"""

    def flops(self, work: Work) -> Size:
        """The number of some work by the weights alone: exact, and symbolic if the work is.

        >>> STANDARD.flops(Work(macs=10, elementwise=5, accumulate=3))
        25
        """
        total: Size = 0
        for name, count in zip(WORK_CLASSES, work.counts(), strict=True):
            total = total + self.weights.get(name, 0) * count
        return total

    def of(self, entry: Entry, phases: Sequence[Phase], module: str = "") -> int:
        """The number of an entry in some phases; ``module`` is the class of the module that makes the call.

        Raises:
            UsageError: a count asks for what the Op does not have.
        """
        number = 0
        works = self._work(entry)
        for phase in phases:
            if phase in self.phases:
                spoken = self.count_of(entry, module) if phase == "forward" else None
                if spoken is not None:
                    number += self._counted(spoken, entry)
                elif phase in works:
                    number += int(self.flops(works[phase]))
        return number

    def _work(self, entry: Entry) -> Mapping[Phase, Work]:
        entry = entry.at("full") if self.counts else entry  # no tool knows of rates
        return entry.useful or entry.work if self.causal == "useful" else entry.work

    def count_of(self, entry: Entry, module: str = "") -> Count | None:
        """The first count that speaks for an entry, if there is one."""
        return next((each for each in self.counts if each.speaks_for(entry, module)), None)

    def why_of(self, entry: Entry, module: str = "") -> str:
        """Why an entry counts as it does."""
        spoken = self.count_of(entry, module)
        return self.why if spoken is None else spoken.why

    def _counted(self, count: Count, entry: Entry) -> int:
        work = self._work(entry).get("forward", NOTHING)
        names = {**dict(zip(WORK_CLASSES, map(int, work.counts()), strict=True)), **dict.fromkeys(entry.flags, 1)}
        try:
            return count.expression({**names, **entry.operands, "out": entry.outputs[0] if entry.outputs else ()})
        except ExpressionError as error:
            raise UsageError(f"convention {self.name}: {error}, asked about {entry.op}: {entry.target}") from error


def read_convention(path: str | Path) -> Convention:
    """The convention in a TOML file.

    Raises:
        UsageError: there is no such file, or something in it is wrong; the message says where and what.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the convention {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    try:
        return from_data({"name": path.stem, **data})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def from_data(data: Mapping[str, Any]) -> Convention:
    """A convention of plain dicts, lists and strings, as in its file and in a saved report.

    Raises:
        UsageError: a key or a value is not one that a convention has.
    """
    kinds = {
        "name": str,
        "about": str,
        "unit": str,
        "why": str,
        "weights": dict,
        "phases": list,
        "counts": list,
        "causal": str,
        "formula": str,
    }
    _check(data, kinds, needed={"about", "weights"}, where="")
    for name, weight in data["weights"].items():
        if name not in WORK_CLASSES:
            raise UsageError(f"weights: there is no class of work {name!r}; there are: {', '.join(WORK_CLASSES)}")
        if type(weight) is not int:
            raise UsageError(f"weights: {name} must be a whole number, not {weight!r}")
    for phase in data.get("phases", ()):
        if phase not in PHASES:
            raise UsageError(f"phases: there is no phase {phase!r}; there are: {', '.join(PHASES)}")
    causal = data.get("causal", "dense")
    if causal not in ("dense", "useful"):
        raise UsageError(f"causal must be 'dense' or 'useful', not {causal!r}")
    formula = data.get("formula", "")
    if formula and formula not in FORMULAS:
        raise UsageError(f"there is no formula {formula!r}; there are: {', '.join(FORMULAS)}")
    counts = tuple(_count(each, f"counts[{i}]") for i, each in enumerate(data.get("counts", ())))
    return Convention(
        name=data["name"],
        about=data["about"],
        weights=MappingProxyType(dict(data["weights"])),
        unit=data.get("unit", "FLOP"),
        phases=tuple(data.get("phases", PHASES)),
        counts=counts,
        why=data.get("why", DEFAULT_WHY),
        causal=causal,
        formula=formula,
    )


def as_data(convention: Convention) -> dict[str, Any]:
    """A convention as plain dicts, lists and strings; ``from_data`` makes an equal one."""
    counts = [
        {"why": each.why, "count": each.count, "operators": list(each.operators), "modules": list(each.modules)}
        for each in convention.counts
    ]
    return {
        "name": convention.name,
        "about": convention.about,
        "weights": dict(convention.weights),
        "unit": convention.unit,
        "phases": list(convention.phases),
        "counts": counts,
        "why": convention.why,
        "causal": convention.causal,
        "formula": convention.formula,
    }


def _count(data: Any, where: str) -> Count:
    if not isinstance(data, dict):
        raise UsageError(f"{where} must be a table, not {data!r}")
    kinds = {"why": str, "count": str, "operators": list, "modules": list}
    _check(data, kinds, needed={"why", "count"}, where=f"{where}: ")
    made = Count(data["why"], data["count"], tuple(data.get("operators", ())), tuple(data.get("modules", ())))
    try:
        made.expression  # noqa: B018  parsed here, so that a mistake is told with its file
    except ExpressionError as error:
        raise UsageError(f"{where}: {error}") from error
    return made


def _check(data: Mapping[str, Any], kinds: Mapping[str, type], needed: set[str], where: str) -> None:
    for name in sorted(needed - data.keys()):
        raise UsageError(f"{where}{name} is missing")
    for name, value in data.items():
        if name not in kinds:
            raise UsageError(f"{where}there is no {name!r} in a convention; there are: {', '.join(kinds)}")
        if not isinstance(value, kinds[name]):
            raise UsageError(f"{where}{name} must be a {kinds[name].__name__}, not {value!r}")


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        name: read_convention(Path(__file__).parent / f"{name}.toml")
        for name in (
            *("standard", "exact", "torch"),
            *("torchvision", "timm", "fvcore", "ptflops", "ptflops_aten", "calflops", "thop", "torchinfo"),
            *("torchprofile", "torch_flops", "megatron", "palm", "chinchilla", "quickref"),
        )
    }
)
STANDARD, EXACT, TORCH = CONVENTIONS["standard"], CONVENTIONS["exact"], CONVENTIONS["torch"]


def convention_named(name: str | Path | Convention) -> Convention:
    """The convention of that name, or in that TOML file; a Convention is taken as it is.

    Raises:
        UsageError: there is no convention of that name, or the file is wrong.
    """
    if isinstance(name, Convention):
        return name
    if isinstance(name, Path) or name.endswith(".toml"):
        return read_convention(name)
    if name not in CONVENTIONS:
        raise UsageError(
            f"there is no counting convention {name!r}; there are: {', '.join(CONVENTIONS)}, and files of your own, "
            "whose names end in .toml"
        )
    return CONVENTIONS[name]
