"""Conventions: how Work becomes one number of FLOPs. Each is a TOML file.

A convention counts in one of three ways. **Weights** apply to the classes of work of every op. **Counts** imitate a
tool: an expression on the shapes of an op, for some operators in modules of some classes, with a reason.
The first count that matches an op applies, and the weights apply to all other ops; a missed op has count 0.
A **formula** of a paper depends on the sizes of the whole model: see ``graphflops.report.conventions.closed_forms``.
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
    integer,
    list_of,
    one_of,
    read_toml,
    record,
    table_of,
    text,
    unique,
)
from graphflops.core.costs import WORK_CLASSES, ZERO, Work
from graphflops.core.entries import PHASES, Entry, Phase
from graphflops.core.errors import UsageError
from graphflops.core.expressions import ExpressionError
from graphflops.core.messages import format_path, format_value
from graphflops.core.sizes import Size
from graphflops.report.conventions.closed_forms import FORMULAS
from graphflops.report.conventions.expressions import CountExpression

DEFAULT_WHY = "weights of the classes of work"


@dataclass(frozen=True)
class Count:
    """The count of a tool for the calls of some operators, and the reason.

    ``modules`` are classes of the calling module; empty ``operators`` or ``modules`` match all. ``count`` is an
    expression, see ``graphflops.report.conventions.expressions``.
    """

    why: str
    count: str
    operators: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @cached_property
    def expression(self) -> CountExpression:
        """The parsed count."""
        return CountExpression(self.count)

    def matches(self, entry: Entry, module: str) -> bool:
        """Whether the count applies to an entry; ``module`` is the class of the calling module."""
        is_operator = not self.operators or entry.operator in self.operators
        return entry.kind == "call" and is_operator and (not self.modules or module in self.modules)


@dataclass(frozen=True)
class Convention:
    """A convention of counting: the weight of each class of work, 0 by default, or the counts of a tool."""

    name: str
    about: str
    weights: Mapping[str, int]
    unit: str = "FLOP"
    """FLOP, or MAC where a multiply-add is 1"""
    phases: tuple[Phase, ...] = PHASES
    """the phases that are counted"""
    counts: tuple[Count, ...] = field(default=())
    why: str = DEFAULT_WHY
    """the reason for ops without a count"""
    causal: Literal["dense", "useful"] = "dense"
    """causal attention with or without its masked half"""
    formula: str = ""
    """name of the closed formula whose terms replace the ops, if there is one"""

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
        if not isinstance(self.counts, tuple) or not all(isinstance(count, Count) for count in self.counts):
            raise UsageError(
                f"convention {format_value(self.name)}: counts must be a tuple "
                f"of Count, not {format_value(self.counts)}"
            )

    def flops(self, work: Work) -> Size:
        """The weighted sum of the classes of work; symbolic if the work is.

        >>> STANDARD.flops(Work(macs=10, elementwise=5, accumulate=3))
        25
        """
        total: Size = 0
        for name, count in zip(WORK_CLASSES, work.counts(), strict=True):
            total = total + self.weights.get(name, 0) * count
        return total

    def of(self, entry: Entry, phases: Sequence[Phase], module: str = "") -> int:
        """The number of an entry in some phases; ``module`` is the class of the calling module.

        Raises:
            UsageError: a count needs a shape that the op does not have.
        """
        number = 0
        works = self._work(entry)
        for phase in phases:
            if phase in self.phases:
                count = self.count_of(entry, module) if phase == "forward" else None
                if count is not None:
                    number += self._evaluate(count, entry)
                elif phase in works:
                    number += int(self.flops(works[phase]))
        return number

    def _work(self, entry: Entry) -> Mapping[Phase, Work]:
        entry = entry.at("full") if self.counts else entry  # tools do not know rates
        return entry.useful or entry.work if self.causal == "useful" else entry.work

    def count_of(self, entry: Entry, module: str = "") -> Count | None:
        """The first count that matches an entry, if there is one."""
        return next((count for count in self.counts if count.matches(entry, module)), None)

    def why_of(self, entry: Entry, module: str = "") -> str:
        """The reason for the number of an entry."""
        count = self.count_of(entry, module)
        return self.why if count is None else count.why

    def _evaluate(self, count: Count, entry: Entry) -> int:
        work = self._work(entry).get("forward", ZERO)
        names = {**dict(zip(WORK_CLASSES, map(int, work.counts()), strict=True)), **dict.fromkeys(entry.flags, 1)}
        try:
            return count.expression({**names, **entry.operands, "out": entry.outputs[0] if entry.outputs else ()})
        except ExpressionError as error:
            raise UsageError(f"convention {self.name}: {error}, for {entry.op}: {entry.target}") from error


_MAX_WEIGHT = 10**9
_WEIGHTS = table_of(one_of(WORK_CLASSES, "class of work"), integer(maximum=_MAX_WEIGHT))
_PHASES = unique(list_of(one_of(PHASES, "phase")))
_CAUSAL = one_of(("dense", "useful"), "count of causal attention")
_FORMULA = one_of(("", *FORMULAS), "formula")
_NAMES = list_of(text)


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
    "counts": list_of(_COUNT),
    "why": text,
    "causal": _CAUSAL,
    "formula": _FORMULA,
}
read_data: Reader[Convention] = record(Convention, _NEEDED, _OPTIONAL)
"""reads a convention from the data of its file or of a saved report"""


def read_convention(path: str | Path) -> Convention:
    """Read the convention in a TOML file.

    Raises:
        UsageError: there is no such file, or a field is wrong; the message has the place.
    """
    data = read_toml(path, "convention")
    try:
        return read_data({"name": Path(path).stem, **data})
    except InvalidData as error:
        raise UsageError(f"{format_path(path)} is not a complete convention: {error}") from error


def from_data(data: Mapping[str, Any]) -> Convention:
    """A convention from plain dicts, lists and strings, as in its file and in a saved report.

    Raises:
        UsageError: a key or a value is wrong.
    """
    try:
        return read_data(data)
    except InvalidData as error:
        raise UsageError(str(error)) from error


def as_data(convention: Convention) -> dict[str, Any]:
    """A convention as plain dicts, lists and strings; ``from_data`` returns an equal one."""
    counts = [
        {"why": count.why, "count": count.count, "operators": list(count.operators), "modules": list(count.modules)}
        for count in convention.counts
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
            *("torchprofile", "torch_flops", "deepspeed", "lightning", "megatron", "palm", "chinchilla", "quickref"),
        )
    }
)
STANDARD, EXACT, TORCH = CONVENTIONS["standard"], CONVENTIONS["exact"], CONVENTIONS["torch"]


def convention_named(name: str | Path | Convention) -> Convention:
    """The convention with a name or in a TOML file; a Convention is returned as it is.

    Raises:
        UsageError: there is no convention of that name, or the file is wrong.
    """
    if isinstance(name, Convention):
        return name
    if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".toml")):
        return read_convention(name)
    if not isinstance(name, str) or name not in CONVENTIONS:
        raise UsageError(
            f"there is no convention {format_value(name)}; there are: {', '.join(CONVENTIONS)}, and TOML files of your "
            "own"
        )
    return CONVENTIONS[name]
