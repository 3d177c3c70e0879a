"""Compare two models: the FLOPs that each flag or component adds or saves, which add up to the difference exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from graphflops.core.characters import in_line
from graphflops.core.components import ROOT_COMPONENT
from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value
from graphflops.core.retired import renamed
from graphflops.core.units import format_scaled, percent, si_exponent, si_unit
from graphflops.models.flops_count import PhaseCounts
from graphflops.models.training_run import RUN_LEVEL_OPTIONS, step_report, training_run_cost
from graphflops.report.changes.settings import check_comparable, setting_notes
from graphflops.report.conventions import Convention, convention_named
from graphflops.report.data import is_of_training
from graphflops.report.grid import Column, print_grid, print_line
from graphflops.report.report import Report
from graphflops.report.roles import ROLES, roles
from graphflops.report.terminal import Terminal, wrapped
from graphflops.report.tree import ranges

if TYPE_CHECKING:
    from graphflops.models import ResNetBKConfig

SCHEMA = "graphflops.waterfall/1"
_NUMBER = re.compile(r"(\d{1,15})")
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


def difference(
    first: Report,
    second: Report,
    *,
    names: tuple[str, str] | None = None,
    depth: int | None = None,
    by: Literal["component", "role"] = "component",
) -> Waterfall:
    """The difference of two reports by component; a component that a report lacks counts 0 there.

    Other differences, such as inputs or optimizer, are listed in ``notes``.

    Args:
        first: the first report.
        second: the second report.
        names: the names of the two in the result.
        depth: compare the modules of this level instead of components.
        by: compare components, or roles (attention, MLP, norm, …), which models of other names have too.

    Raises:
        UsageError: the conventions differ, one report is a training step and the other a forward pass, or an option has
            a value that is not accepted.
    """
    if by not in ("component", "role") or (by == "role" and depth is not None):
        raise UsageError(f"by={format_value(by)}: pass 'component', 'role', or a depth")
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
        raise UsageError(f"depth is {format_value(depth)}: pass a whole number, 1 or more")
    names = names or (first.model, second.model)
    check_comparable(first, second, names)
    start, end = (_groups(report, depth, by) for report in (first, second))
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


def _groups(report: Report, depth: int | None, by: str) -> dict[str, PhaseCounts]:
    if by == "role":
        counts = PhaseCounts.by_group(report, roles(report).of)
        return {role: counts[role] for role in ROLES if role in counts}
    if depth is None:
        return PhaseCounts.by_component(report)
    return PhaseCounts.by_group(report, lambda entry: ".".join(entry.path.split(".")[:depth]) or ROOT_COMPONENT)


def print_waterfall(waterfall: Waterfall, console: Terminal) -> None:
    """Print a waterfall as a table, in one unit; blocks with equal changes are one row, with their sum."""
    exponent = si_exponent(max(waterfall.start.total, waterfall.end.total))
    unit = si_unit(exponent, waterfall.unit)
    print_line(in_line(f"from {waterfall.before} to {waterfall.after}, {unit}s of {waterfall.scope}"), console)
    console.print()
    rows = [(_table_name(waterfall.before, "first"), waterfall.start, format_scaled)]
    rows += [(f"  {name}", change, _signed) for name, change in _without_repetition(waterfall.steps)]
    rows += [(_table_name(waterfall.after, "second"), waterfall.end, format_scaled)]
    columns = [
        Column("", [name for name, _, _ in rows], is_left=True, has_paths=True),
        *(
            Column(phase, [form(counts[phase], exponent) for _, counts, form in rows])
            for phase in ("forward", "backward", "optimizer", "total")
        ),
    ]
    shares = [_share(counts.total, waterfall.start.total, signed=form is _signed) for _, counts, form in rows]
    columns.append(Column("of first", shares))
    if any(counts.integer for _, counts, _ in rows):
        columns.append(Column("integer", [form(counts.integer, exponent) for _, counts, form in rows]))
    print_grid(columns, console, console.line_width, ["bold", *[""] * (len(rows) - 2), "bold"])
    for note in waterfall.notes:
        for line in wrapped(f"note: {note}", console):
            print_line(line, console)


def _without_repetition(steps: Sequence[Step]) -> Iterator[tuple[str, PhaseCounts]]:
    """Name and change of each step; steps with equal changes whose names differ in one number are one.

    >>> [*_without_repetition([Step(f"layer_{i}", PhaseCounts(5)) for i in range(3)])]
    [('layer_0–2 ×3', PhaseCounts(forward=15, backward=0, optimizer=0, integer=0))]
    """
    groups: list[list[tuple[list[str], Step]]] = []
    known: dict[object, list[tuple[list[str], Step]]] = {}  # by their names without one number, and the change
    for step in steps:
        parts = _NUMBER.split(in_line(step.name))
        places = range(1, len(parts), 2)
        keys = {place: (place, (*parts[:place], *parts[place + 1 :]), step.change) for place in places}
        for place, key in keys.items():
            if key in known and (len(known[key]) == 1 or _varies_at(place, known[key])):
                known[key].append((parts, step))
                break
        else:
            groups.append([(parts, step)])
            for key in keys.values():
                known.setdefault(key, groups[-1])
    for members in groups:
        parts, step = members[0]
        for place in (place for place in range(1, len(parts), 2) if _varies_at(place, members)):
            parts = [*parts[:place], ranges([int(other[place]) for other, _ in members]), *parts[place + 1 :]]
        count = f" ×{len(members):,}" if len(members) > 1 else ""
        yield "".join(parts) + count, len(members) * step.change


def _varies_at(place: int, members: Sequence[tuple[list[str], Step]]) -> bool:
    return len({parts[place] for parts, _ in members}) > 1


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
