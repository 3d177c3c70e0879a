"""From one model to another: what each flag, or each component, adds or saves, adding up exactly to the difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from graphflops.core.characters import in_line
from graphflops.core.errors import UsageError
from graphflops.core.units import format_scaled, percent, si_exponent, si_unit
from graphflops.models.flops_count import PhaseCounts
from graphflops.models.training_run import OF_A_RUN, run_amount, step_report
from graphflops.report.conventions import Convention, convention_named
from graphflops.report.data import is_of_training
from graphflops.report.report import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from graphflops.models import ResNetBKConfig

SCHEMA = "graphflops.waterfall/1"
LONGEST_NAME = 30
"""letters of a model's name in a table"""
_INTEGERS = Convention("integers", "operations on integers alone", {"integer": 1})


@dataclass(frozen=True)
class Step:
    """One bar of a waterfall: what changed, and by how much; less than 0 is saved."""

    name: str
    change: PhaseCounts


@dataclass(frozen=True)
class Waterfall:
    """From a model to another: ``start`` and all changes together are ``end``, exactly, in every phase."""

    first: str
    second: str
    start: PhaseCounts
    steps: tuple[Step, ...]
    end: PhaseCounts
    convention: str = "standard"
    unit: str = "FLOP"
    of: str = "a step"
    """how much of training it is about"""
    notes: tuple[str, ...] = ()
    """in what else the two differ, so that the difference is of that too"""

    def __post_init__(self) -> None:
        assert sum((each.change for each in self.steps), self.start) == self.end, "the steps are not the difference"

    @property
    def difference(self) -> PhaseCounts:
        """What the second has more than the first."""
        return self.end - self.start

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and ints, with unit and convention."""
        return {
            "schema": SCHEMA,
            "unit": self.unit,
            "convention": self.convention,
            "of": self.of,
            "first": {"name": self.first, **self.start.to_dict(integer=True)},
            "steps": [{"name": each.name, **each.change.to_dict(integer=True)} for each in self.steps],
            "second": {"name": self.second, **self.end.to_dict(integer=True)},
            "difference": self.difference.to_dict(integer=True),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def __str__(self) -> str:
        import io
        import shutil

        from graphflops.report.terminal import Terminal

        file = io.StringIO()
        print_waterfall(self, Terminal(file, width=shutil.get_terminal_size((100, 24)).columns))
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def waterfall(
    start: ResNetBKConfig,
    end: ResNetBKConfig,
    batch_size: int,
    *,
    names: tuple[str, str] = ("first", "second"),
    steps: int | None = None,
    **options: Any,
) -> Waterfall:
    """What each flag adds or saves on the way from one configuration of ResNet-BK to another.

    Sizes and other fields change first, then flags in the order of ``ResNetBKConfig``; what a flag brings depends on
    those before it.

    Args:
        start: where to begin.
        end: where to arrive.
        batch_size: B, the number of sequences.
        names: what to call the two.
        steps: of a run of so many steps instead of one; ``graphflops.models.training_run`` says what options change.
        options: as for ``analyze``: ``optimizer``, ``convention``, …. ``rates`` are of what sequences skip with
            ``use_adaptive_computation``, and hold where it is on.

    Raises:
        ValueError: a configuration is not possible.
        UsageError: an option is wrong.
    """
    if options.get("rates") and not (start.use_adaptive_computation or end.use_adaptive_computation):
        raise UsageError(
            "rates are of the layers that use_adaptive_computation skips, and neither configuration has it"
        )

    known: dict[str, PhaseCounts] = {}

    def amount_of(config: ResNetBKConfig) -> PhaseCounts:
        if steps is not None:
            return run_amount(config, steps, batch_size, **options)
        key = repr(replace(config, **dict.fromkeys(OF_A_RUN, False)))  # what these change is a run, and no step
        if key not in known:
            known[key] = PhaseCounts.of(step_report(config, batch_size, **options), integer=True)
        return known[key]

    convention = convention_named(options.get("convention", "standard"))
    first = amount = amount_of(start)
    bars = []
    for name, config in stages(start, end):
        after = amount_of(config)
        bars.append(Step(name, after - amount))
        amount = after
    of = "a step" if steps is None else f"{steps:,} steps"
    return Waterfall(*names, first, tuple(bars), amount, convention.name, convention.unit, of)


def stages(start: ResNetBKConfig, end: ResNetBKConfig) -> Iterator[tuple[str, ResNetBKConfig]]:
    """The configurations between two, each with the name of what changed; the last one is ``end``.

    What is not possible on its own, as a kernel that another option does not go with, waits for what makes it so.
    """
    now, pending = start, _changes(start, end)
    while pending:
        name = next((name for name, changed in pending.items() if _possible(now, changed)), None)
        if name is None:  # only together
            yield ", ".join(pending), end
            return
        now = replace(now, **pending.pop(name))
        yield name, now


def _possible(config: ResNetBKConfig, changed: dict[str, Any]) -> bool:
    try:
        replace(config, **changed)
    except ValueError:
        return False
    return True


def flags_differ(one: ResNetBKConfig, other: ResNetBKConfig) -> bool:
    """Whether two configurations differ in an option that is on or off."""
    return any(name.startswith("use_") for changed in _changes(one, other).values() for name in changed)


def difference(first: Report, second: Report, *, names: tuple[str, str] | None = None) -> Waterfall:
    """From one report to another, component by component; a component that one of them lacks is nothing there.

    In what else they differ, such as their inputs or the optimizer, is among the ``notes``.

    Raises:
        UsageError: the reports are under different conventions, or one of them is of training and the other is not.
    """
    if first.convention != second.convention:
        raise UsageError(
            f"two reports can be compared under one convention, not {first.convention.name} and "
            f"{second.convention.name}: give report.under(…)"
        )
    chosen = names or (first.model, second.model)
    refuse_other_phases(first, second, chosen)
    parts = [_by_component(each) for each in (first, second)]
    steps = [
        Step(name, parts[1].get(name, PhaseCounts()) - parts[0].get(name, PhaseCounts()))
        for name in dict.fromkeys([*parts[0], *parts[1]])
    ]
    convention: Convention = first.convention
    return Waterfall(
        *chosen,
        PhaseCounts.of(first, integer=True),
        tuple(steps),
        PhaseCounts.of(second, integer=True),
        convention.name,
        convention.unit,
        of="a step" if is_of_training(first) or is_of_training(second) else "a forward pass",
        notes=differences(first, second, chosen),
    )


def refuse_other_phases(first: Report, second: Report, names: tuple[str, str]) -> None:
    """A forward pass is no training step, and the difference of the two is nothing that a model has.

    Raises:
        UsageError: one report is of training, and the other of inference.
    """
    kinds = is_of_training(first), is_of_training(second)
    if True in kinds and False in kinds:
        trained, other = names if kinds[0] else names[::-1]
        raise UsageError(
            f"{trained} is of a training step and {other} of a forward pass alone: "
            "analyse both with training=True, or both with training=False (--inference)"
        )


def differences(first: Report, second: Report, names: tuple[str, str]) -> tuple[str, ...]:
    """The differences of two reports other than their models, one line each."""
    notes = []
    if sorted(first.inputs.values()) != sorted(second.inputs.values()):
        notes.append(f"their inputs differ: {_inputs(first)} and {_inputs(second)}")
    optimizers = [each.optimizer_name or "none" for each in (first, second)]
    if optimizers[0] != optimizers[1]:
        notes.append(f"their optimizers differ: {optimizers[0]} and {optimizers[1]}")
    if bool(first.rates) != bool(second.rates):
        notes.append(f"rates are given for {names[0] if first.rates else names[1]} alone")
    for name, report in zip(names, (first, second), strict=True):
        if report.unknown:
            many = report.coverage.unknown
            notes.append(f"{name} has {many} unknown op{'s' if many > 1 else ''}: its numbers are a lower bound")
    return tuple(notes)


def _inputs(report: Report) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in report.inputs.items()) or "none"


def print_waterfall(between: Waterfall, console: Console) -> None:
    """The bars as a table, in one unit."""
    step = si_exponent(max(between.start.total, between.end.total))
    console.print(
        f"from {between.first} to {between.second}, {si_unit(step, between.unit)}s of {between.of}",
        soft_wrap=True,
        highlight=False,
    )
    print_whole(_table(between, step), console)
    for note in between.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


def print_whole(table: Table, console: Console) -> None:
    """Print a table as wide as it is: a name that is cut in two would not be found again."""
    from rich.measure import Measurement

    width, needed = console.width, Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.width = max(width, needed)
    console.print(table, width=needed)
    console.width = width


def _table(between: Waterfall, step: int) -> Table:
    from rich import box
    from rich.table import Table

    integers = any(each.integer for each in (between.start, between.end, *(one.change for one in between.steps)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("forward", "backward", "optimizer", "total", "of first", *(["integer"] if integers else [])):
        table.add_column(heading, justify="right", no_wrap=True)

    def row(name: str, amount: PhaseCounts, shown: Any, style: str | None = None) -> None:
        flops = amount.to_dict()
        share = _share(flops["total"], between.start.total, signed=shown is _signed)
        beside = [shown(amount.integer, step)] if integers else []
        table.add_row(name, *(shown(each, step) for each in flops.values()), share, *beside, style=style)

    row(_short(between.first, "first"), between.start, format_scaled, "bold")
    for each in between.steps:
        row(f" {in_line(each.name)}", each.change, _signed)
    row(_short(between.second, "second"), between.end, format_scaled, "bold")
    return table


def _short(name: str, instead: str) -> str:
    """The name of a row; what is long stands above the table, and makes no column wide."""
    name = in_line(name)
    return name if len(name) <= LONGEST_NAME else instead


def _signed(number: int, step: int) -> str:
    if number == 0:
        return "0"
    return f"{'+' if number > 0 else '−'}{format_scaled(abs(number), step)}"


def _share(part: int, whole: int, *, signed: bool) -> str:
    if not whole:
        return ""
    sign = ("+" if part > 0 else "−") if signed and part else ""
    return sign + percent(abs(part), whole)


def _changes(start: ResNetBKConfig, end: ResNetBKConfig) -> dict[str, dict[str, Any]]:
    """What to change, by name: all that is not a flag in one go, then each flag."""
    new = {each.name: getattr(end, each.name) for each in fields(start)}
    changed = {name: value for name, value in new.items() if value != getattr(start, name)}
    sizes = {name: value for name, value in changed.items() if not name.startswith("use_")}
    flags = {name: {name: value} for name, value in changed.items() if name.startswith("use_")}
    return {**({", ".join(sizes): sizes} if sizes else {}), **flags}


def _by_component(report: Report) -> dict[str, PhaseCounts]:
    forward, backward, optimizer = (report.by_component(phase) for phase in ("forward", "backward", "optimizer"))
    again = report.by_component("recompute")
    integers = replace(report, convention=_INTEGERS).by_component("total")
    return {
        name: PhaseCounts(forward[name], backward[name] + again[name], optimizer[name], integers[name])
        for name in forward
    }
