"""Conventions: what turns Work into one number, or what another tool would have counted. Each is a file of data.

Three ways to count stand beside each other. **Weights** turn the classes of work into a number, whatever the Op.
**Counts** imitate a tool: for some operators, in modules of some classes, an expression on the shapes of the Op, and
why; the first that fits speaks, and the weights speak for all others. A blind spot of a tool is a count of 0.
A **formula** of a paper speaks of the whole model's sizes: see ``graphflops.report.conventions.closed_forms``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from graphflops.core.codec import (
    InvalidData,
    Reader,
    distinct,
    listed,
    mapped,
    one_of,
    read_toml,
    record,
    text,
    whole,
)
from graphflops.core.costs import WORK_CLASSES, ZERO, Work
from graphflops.core.entries import PHASES, Entry, Phase
from graphflops.core.errors import UsageError
from graphflops.core.expressions import ExpressionError
from graphflops.core.messages import format_path, format_value
from graphflops.core.sizes import Size
from graphflops.report.conventions.closed_forms import FORMULAS
from graphflops.report.conventions.expressions import CountExpression

DEFAULT_WHY = "weighed by the classes of its work"


@dataclass(frozen=True)
class Count:
    """What a tool counts for the calls of some operators, and why.

    Empty ``operators`` mean all, empty ``modules`` mean anywhere; else the module that makes the call is of one of
    these classes. ``count`` is an expression, see ``graphflops.report.conventions.expressions``.
    """

    why: str
    count: str
    operators: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @cached_property
    def expression(self) -> CountExpression:
        """The count, parsed."""
        return CountExpression(self.count)

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

    def __post_init__(self) -> None:
        fields: tuple[tuple[str, Reader[Any], Any], ...] = (
            ("name", text, self.name),
            ("about", text, self.about),
            ("unit", text, self.unit),
            ("why", text, self.why),
            ("weights", _WEIGHTS, dict(self.weights) if isinstance(self.weights, Mapping) else self.weights),
            ("phases", _PHASES, list(self.phases) if isinstance(self.phases, (tuple, list)) else self.phases),
            ("causal", _CAUSAL, self.causal),
            ("formula", _FORMULA, self.formula),
        )
        for name, read, value in fields:
            try:
                checked = read(value)
            except InvalidData as error:
                raise UsageError(f"convention {format_value(self.name)}: {error.within(name)}") from None
            if name == "weights":
                object.__setattr__(self, name, MappingProxyType(checked))
        if not isinstance(self.counts, tuple) or not all(isinstance(each, Count) for each in self.counts):
            raise UsageError(
                f"convention {format_value(self.name)}: counts must be a tuple "
                f"of Count, not {format_value(self.counts)}"
            )

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
        work = self._work(entry).get("forward", ZERO)
        names = {**dict(zip(WORK_CLASSES, map(int, work.counts()), strict=True)), **dict.fromkeys(entry.flags, 1)}
        try:
            return count.expression({**names, **entry.operands, "out": entry.outputs[0] if entry.outputs else ()})
        except ExpressionError as error:
            raise UsageError(f"convention {self.name}: {error}, asked about {entry.op}: {entry.target}") from error


_MOST = 10**9
"""of a weight"""
_WEIGHTS = mapped(one_of(WORK_CLASSES, "class of work"), whole(most=_MOST))
_PHASES = distinct(listed(one_of(PHASES, "phase")))
_CAUSAL = one_of(("dense", "useful"), "way to count causal attention")
_FORMULA = one_of(("", *FORMULAS), "formula")
_NAMES = listed(text)


def _expression(value: Any) -> str:
    try:
        expression = CountExpression(text(value))
        if expression.is_constant:
            expression({})
    except ExpressionError as error:
        raise InvalidData(f"is wrong: {error}") from error
    return expression.text


_COUNT = record(Count, {"why": text, "count": _expression}, {"operators": _NAMES, "modules": _NAMES})
_NEEDED: Mapping[str, Reader[Any]] = {"name": text, "about": text, "weights": _WEIGHTS}
_OPTIONAL: Mapping[str, Reader[Any]] = {
    "unit": text,
    "phases": _PHASES,
    "counts": listed(_COUNT),
    "why": text,
    "causal": _CAUSAL,
    "formula": _FORMULA,
}
read_data: Reader[Convention] = record(Convention, _NEEDED, _OPTIONAL)
"""a convention of plain dicts, lists and strings, as in its file and in a saved report"""


def read_convention(path: str | Path) -> Convention:
    """The convention in a TOML file.

    Raises:
        UsageError: there is no such file, or something in it is wrong; the message says where and what.
    """
    data = read_toml(path, "convention")
    try:
        return read_data({"name": Path(path).stem, **data})
    except InvalidData as error:
        raise UsageError(f"{format_path(path)} is not a whole convention: {error}") from error


def from_data(data: Mapping[str, Any]) -> Convention:
    """A convention of plain dicts, lists and strings, as in its file and in a saved report.

    Raises:
        UsageError: a key or a value is not one that a convention has.
    """
    try:
        return read_data(data)
    except InvalidData as error:
        raise UsageError(str(error)) from error


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
    if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".toml")):
        return read_convention(name)
    if not isinstance(name, str) or name not in CONVENTIONS:
        raise UsageError(
            f"there is no counting convention {format_value(name)}; there are: "
            f"{', '.join(CONVENTIONS)}, and files of your "
            "own, whose names end in .toml"
        )
    return CONVENTIONS[name]
