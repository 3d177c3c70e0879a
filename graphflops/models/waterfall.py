"""Compare two models: the FLOPs that each flag or component adds or saves, which add up to the difference exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from graphflops.core.characters import in_line
from graphflops.core.errors import UsageError
from graphflops.core.retired import renamed
from graphflops.core.units import format_scaled, percent, si_exponent, si_unit
from graphflops.models.flops_count import PhaseCounts
from graphflops.models.training_run import RUN_LEVEL_OPTIONS, step_report, training_run_cost
from graphflops.report.changes.settings import check_comparable, setting_notes
from graphflops.report.conventions import Convention, convention_named
from graphflops.report.data import is_of_training
from graphflops.report.report import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from graphflops.models import ResNetBKConfig

SCHEMA = "graphflops.waterfall/1"
MAX_NAME_LENGTH = 30
"""characters of a model's name in the table"""


@dataclass(frozen=True)
class Step:
    """One row of a waterfall: a flag or component, and the FLOPs it adds; negative if it saves."""

    name: str
    change: PhaseCounts


@dataclass(frozen=True)
class Waterfall:
    """The difference of two models, step by step: ``start`` plus all changes is ``end``, exactly, in every phase."""

    before: str
    """name of the first model"""
    after: str
    """name of the second model"""
    start: PhaseCounts
    steps: tuple[Step, ...]
    end: PhaseCounts
    convention: str = "standard"
    unit: str = "FLOP"
    scope: str = "a step"
    """what the numbers count: a step, a forward pass, or 1,000 steps"""
    notes: tuple[str, ...] = ()
    """other differences of the two models, which change the numbers too"""

    first = renamed("before")
    second = renamed("after")
    of = renamed("scope")

    def __post_init__(self) -> None:
        assert sum((step.change for step in self.steps), self.start) == self.end, "the steps are not the difference"

    @property
    def difference(self) -> PhaseCounts:
        """``end`` − ``start``."""
        return self.end - self.start

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and ints, with unit and convention."""
        return {
            "schema": SCHEMA,
            "unit": self.unit,
            "convention": self.convention,
            "of": self.scope,
            "first": {"name": self.before, **self.start.to_dict(integer=True)},
            "steps": [{"name": step.name, **step.change.to_dict(integer=True)} for step in self.steps],
            "second": {"name": self.after, **self.end.to_dict(integer=True)},
            "difference": self.difference.to_dict(integer=True),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def __str__(self) -> str:
        from graphflops.report.terminal import text_of

        return text_of(lambda console: print_waterfall(self, console))


def waterfall(
    start: ResNetBKConfig,
    end: ResNetBKConfig,
    batch_size: int,
    *,
    names: tuple[str, str] = ("first", "second"),
    steps: int | None = None,
    **options: Any,
) -> Waterfall:
    """The FLOPs that each flag adds or saves between two configurations of ResNet-BK.

    Sizes and other fields change first, then flags in the order of ``ResNetBKConfig``. The change of a flag depends on
    the flags before it.

    Args:
        start: the first configuration.
        end: the second configuration.
        batch_size: B, the number of sequences.
        names: the names of the two in the result.
        steps: compare training runs of this many steps instead of one step; see ``graphflops.models.training_run``.
        options: as for ``analyze``: ``optimizer``, ``convention``, …. ``rates`` apply where
            ``use_adaptive_computation`` is on.

    Raises:
        ValueError: a configuration is invalid.
        UsageError: an option is invalid.
    """
    if options.get("rates") and not (start.use_adaptive_computation or end.use_adaptive_computation):
        raise UsageError(
            "rates need use_adaptive_computation in one of the configurations: they apply to the layers it skips"
        )

    counts_of_a_step: dict[str, PhaseCounts] = {}

    def count(config: ResNetBKConfig) -> PhaseCounts:
        if steps is not None:
            return training_run_cost(config, steps, batch_size, **options)
        key = repr(replace(config, **dict.fromkeys(RUN_LEVEL_OPTIONS, False)))  # these do not change a step
        if key not in counts_of_a_step:
            counts_of_a_step[key] = PhaseCounts.of(step_report(config, batch_size, **options), integer=True)
        return counts_of_a_step[key]

    convention = convention_named(options.get("convention", "standard"))
    first = last = count(start)
    changes = []
    for name, config in intermediate_configs(start, end):
        counts = count(config)
        changes.append(Step(name, counts - last))
        last = counts
    scope = "a step" if steps is None else f"{steps:,} steps"
    return Waterfall(*names, first, tuple(changes), last, convention.name, convention.unit, scope)


def intermediate_configs(start: ResNetBKConfig, end: ResNetBKConfig) -> Iterator[tuple[str, ResNetBKConfig]]:
    """The name of each change and the configuration after it; the last configuration is ``end``.

    A change that would be invalid now, such as a kernel that another option excludes, waits until it is valid.
    """
    config, pending = start, _changes(start, end)
    while pending:
        name = next((name for name, values in pending.items() if _is_valid(config, values)), None)
        if name is None:  # valid only together
            yield ", ".join(pending), end
            return
        config = replace(config, **pending.pop(name))
        yield name, config


def _is_valid(config: ResNetBKConfig, values: dict[str, Any]) -> bool:
    try:
        replace(config, **values)
    except ValueError:
        return False
    return True


def flags_differ(first: ResNetBKConfig, second: ResNetBKConfig) -> bool:
    """Whether two configurations differ in a flag."""
    return any(name.startswith("use_") for values in _changes(first, second).values() for name in values)


def difference(first: Report, second: Report, *, names: tuple[str, str] | None = None) -> Waterfall:
    """The difference of two reports by component; a component that a report lacks counts 0 there.

    Other differences, such as inputs or optimizer, are listed in ``notes``.

    Raises:
        UsageError: the conventions differ, or one report is a training step and the other a forward pass.
    """
    names = names or (first.model, second.model)
    check_comparable(first, second, names)
    start, end = PhaseCounts.by_component(first), PhaseCounts.by_component(second)
    zero = PhaseCounts()
    steps = [Step(name, end.get(name, zero) - start.get(name, zero)) for name in dict.fromkeys([*start, *end])]
    convention: Convention = first.convention
    return Waterfall(
        *names,
        PhaseCounts.of(first, integer=True),
        tuple(steps),
        PhaseCounts.of(second, integer=True),
        convention.name,
        convention.unit,
        scope="a step" if is_of_training(first) or is_of_training(second) else "a forward pass",
        notes=setting_notes(first, second, names),
    )


def print_waterfall(waterfall: Waterfall, console: Console) -> None:
    """Print a waterfall as a table, in one unit."""
    exponent = si_exponent(max(waterfall.start.total, waterfall.end.total))
    console.print(
        f"from {waterfall.before} to {waterfall.after}, {si_unit(exponent, waterfall.unit)}s of {waterfall.scope}",
        soft_wrap=True,
        highlight=False,
    )
    print_unwrapped(_table(waterfall, exponent), console)
    for note in waterfall.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def print_unwrapped(table: Table, console: Console) -> None:
    """Print a table without wrapping, even if it is wider than the console, so that names stay searchable."""
    from rich.measure import Measurement

    width, needed = console.width, Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.width = max(width, needed)
    console.print(table, width=needed)
    console.width = width


def _table(waterfall: Waterfall, exponent: int) -> Table:
    from rich import box
    from rich.table import Table

    integers = any(
        counts.integer for counts in (waterfall.start, waterfall.end, *(step.change for step in waterfall.steps))
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("forward", "backward", "optimizer", "total", "of first", *(["integer"] if integers else [])):
        table.add_column(heading, justify="right", no_wrap=True)

    def row(name: str, counts: PhaseCounts, format_number: Any, style: str | None = None) -> None:
        flops = counts.to_dict()
        share = _share(flops["total"], waterfall.start.total, signed=format_number is _signed)
        integer = [format_number(counts.integer, exponent)] if integers else []
        table.add_row(
            name, *(format_number(number, exponent) for number in flops.values()), share, *integer, style=style
        )

    row(_table_name(waterfall.before, "first"), waterfall.start, format_scaled, "bold")
    for step in waterfall.steps:
        row(f" {in_line(step.name)}", step.change, _signed)
    row(_table_name(waterfall.after, "second"), waterfall.end, format_scaled, "bold")
    return table


def _table_name(name: str, short_name: str) -> str:
    """A model's name, or a short one if it is too long for the table; the line above the table has the full name."""
    name = in_line(name)
    return name if len(name) <= MAX_NAME_LENGTH else short_name


def _signed(number: int, exponent: int) -> str:
    if number == 0:
        return "0"
    return f"{'+' if number > 0 else '−'}{format_scaled(abs(number), exponent)}"


def _share(part: int, total: int, *, signed: bool) -> str:
    if not total:
        return ""
    sign = ("+" if part > 0 else "−") if signed and part else ""
    return sign + percent(abs(part), total)


def _changes(start: ResNetBKConfig, end: ResNetBKConfig) -> dict[str, dict[str, Any]]:
    """Change → its fields: first all fields that are not flags together, then each flag."""
    new = {field.name: getattr(end, field.name) for field in fields(start)}
    changed = {name: value for name, value in new.items() if value != getattr(start, name)}
    sizes = {name: value for name, value in changed.items() if not name.startswith("use_")}
    flags = {name: {name: value} for name, value in changed.items() if name.startswith("use_")}
    return {**({", ".join(sizes): sizes} if sizes else {}), **flags}
