"""A report as text: tables for a terminal of any width, and the explanation of a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphflops.core.characters import in_line, safe
from graphflops.core.costs import Work
from graphflops.core.entries import BY_ITS_OWN_CODE, OWN_CODE, PHASES, Entry, Formula, Phase, missing_rules
from graphflops.core.messages import first_of
from graphflops.core.units import format_scaled, format_si, percent, si_exponent, si_unit
from graphflops.report.conventions import Convention
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.terminal import text_of

WIDE_LINE = 96
"""characters of a line with room for all columns beside the names"""
MAX_ASSUMPTIONS = 5
"""assumptions that are printed"""
MAX_DEPTH = 5
"""levels of the tree of modules; deeper work is in the row of its parent"""
MAX_ROWS = 256
"""children of one module that have rows of their own"""


def as_text(report: ReportData, width: int | None = None) -> str:
    """A report as plain text, by default as wide as the terminal."""
    return text_of(lambda console: print_report(report, console), width)


def print_report(report: ReportData, console: Console) -> None:
    """Print the model, the totals, the tree of modules, the coverage and the notes of a report."""
    coverage = Text(f"coverage: {report.coverage}", style="bold red" if report.unknown else "")
    console.print(
        Group(_heading(report), Text(), _totals(report), Text(), _tree(report, console.width), Text(), coverage)
    )
    for line in _notes(report):
        console.print(Text(safe(line), style="yellow"), soft_wrap=True)
    if report.unknown:
        console.print("\nTotals are lower bounds: some ops have no FLOP rule.\n", style="bold red")
        stubs = safe(missing_rules(report.unknown))  # to be pasted
        console.print(stubs, soft_wrap=True, markup=False, highlight=False)


def _notes(report: ReportData) -> Iterator[str]:
    yield from _rates(report)
    yield from (f"own code: {note}" for note in report.capture_notes if note.endswith(BY_ITS_OWN_CODE))
    yield from (f"assumption: {assumption}" for assumption in report.assumptions[:MAX_ASSUMPTIONS])
    if len(report.assumptions) > MAX_ASSUMPTIONS:
        yield f"assumption: … and {len(report.assumptions) - MAX_ASSUMPTIONS} more in report.assumptions"
    yield from (f"warning: {warning}" for warning in report.warnings)


def _heading(report: ReportData) -> RenderableType:
    parameters = sum(report.parameters.values())
    trainable = sum(size for name, size in report.parameters.items() if name in report.info.trainable)
    table = Table.grid(padding=(0, 2))
    table.add_row("model", Text(in_line(report.model), style="bold"))
    active = report.active_parameters
    subsets = [(trainable, "trainable"), (active, "active")]
    numbers = [f"{parameters:,}", *(f"{number:,} {name}" for number, name in subsets if number != parameters)]
    table.add_row("parameters", ", ".join(numbers))
    table.add_row("input", Text(in_line(", ".join(f"{name} {spec}" for name, spec in report.inputs.items())) or "none"))
    table.add_row("convention", Text(safe(f"{report.convention.name}: {report.convention.about}")))
    return table


def _rates(report: ReportData) -> Iterator[str]:
    """Lines on the given rates and on routed modules without one, grouped by rate."""
    for rate in dict.fromkeys(report.rates.values()):
        paths = [path or report.model for path, path_rate in report.rates.items() if path_rate == rate]
        yield f"rate {rate}: {first_of(paths)}"
    for share in dict.fromkeys(report.routed_modules.values()):
        paths = [
            path for path, counted in report.routed_modules.items() if counted == share and path not in report.rates
        ]
        if paths:
            rows = "all rows" if share == 1 else f"balanced routing ({share} of the rows each)"
            yield f"routing: assuming {rows}; set rates= to change: {first_of(paths)}"


def _totals(report: ReportData) -> Table:
    flops, works = _of_phases(report), {phase: report.work(phase) for phase in PHASES}
    total = flops["total"]
    exponent = si_exponent(total)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("training step" if report.optimizer_name else "forward pass")
    unit = f"{report.convention.unit}s"
    has_bounds, has_rates = report.has_bounds, _has_rates(report)
    lower, upper = (_of_phases(report.lower_bound), _of_phases(report.upper_bound)) if has_bounds else (flops, flops)
    full = _of_phases(report.at_full_rate) if has_rates else flops
    extra = _extra_columns(has_bounds, has_rates)
    for heading in (si_unit(exponent, unit), "share", *extra, unit, *(() if unit == "MACs" else ("MACs",))):
        table.add_column(heading, justify="right", no_wrap=True)
    optimizer = f"optimizer ({report.optimizer_name})"
    rows: list[tuple[str, Query, str]] = [
        ("forward", "forward", ""),
        ("backward", "backward", ""),
        ("  activations (dgrad)", "dgrad", "dim"),
        ("  parameters (wgrad)", "wgrad", "dim"),
        ("recompute", "recompute", ""),
        (optimizer, "optimizer", ""),
        ("total", "total", "bold"),
    ]
    for name, query, style in rows:
        work = sum((works[phase] for phase in phases_of(query)), Work())
        if query == "recompute" and not work:
            continue
        if query == "optimizer" and not report.optimizer_name:
            continue
        numbers = (f"{flops[query]:,}", *(() if unit == "MACs" else (f"{int(work.macs):,}",)))
        bounds = _between(format_scaled(lower[query], exponent), format_scaled(upper[query], exponent))
        optional = (*((bounds,) if has_bounds else ()), *((format_scaled(full[query], exponent),) if has_rates else ()))
        share = percent(flops[query], total)
        table.add_row(name, format_scaled(flops[query], exponent), share, *optional, *numbers, style=style or None)
    if any(entry.useful for entry in report.entries):
        useful = report.causal_useful
        numbers = (format_scaled(useful, exponent), percent(useful, total), *("" for _ in extra), f"{useful:,}")
        table.add_row("without the masked half of causal attention", *numbers, style="dim")
    return table


def _extra_columns(has_bounds: bool, has_rates: bool) -> tuple[str, ...]:
    return (*(("lower – upper",) if has_bounds else ()), *(("full rate",) if has_rates else ()))


def _of_phases(report: ReportData) -> Mapping[Query, int]:
    """FLOPs of each phase, of backward and of the total, with one pass over the entries for each phase."""
    flops: dict[Query, int] = {phase: report.flops(phase) for phase in PHASES}
    flops["backward"] = sum(flops[phase] for phase in phases_of("backward"))
    flops["total"] = sum(flops[phase] for phase in phases_of("total"))
    return flops


def _between(lower: str, upper: str) -> str:
    return lower if lower == upper else f"{lower} – {upper}"


def _has_rates(report: ReportData) -> bool:
    """Whether an entry has a rate other than 1."""
    return any("full" in entry.ranges for entry in report.entries)


@dataclass(frozen=True)
class _Row:
    """A row of the tree: a module, or the work of one operator that a module does itself."""

    name: str
    flops: _Flops
    children: tuple[_Row, ...] = ()
    about: str = ""

    @cached_property
    def detail(self) -> tuple[object, ...]:
        """A key of rows that have equal subtrees."""
        children = ((child.name, child.detail) for child in self.children if not child.flops.is_zero)
        return self.about, self.flops.expected, self.flops.full, tuple(children)


class _Flops(NamedTuple):
    """FLOPs of each phase: expected, at full rate, at the lower and at the upper bound of the rates."""

    expected: tuple[int, ...]
    full: tuple[int, ...]
    lower: tuple[int, ...]
    upper: tuple[int, ...]

    @property
    def is_zero(self) -> bool:
        """Whether there is no work at any rate."""
        return not any(self.expected) and not any(self.full)

    def of(self, *phases: Phase) -> int:
        """The expected FLOPs of some phases."""
        return sum(self.expected[PHASES.index(phase)] for phase in phases)


def _sum(flops: Iterable[_Flops]) -> _Flops:
    columns = zip(*flops, strict=True)
    sums = [tuple(map(sum, zip(*column, strict=True))) for column in columns]
    return _Flops(*sums) if sums else _Flops(*(((0,) * len(PHASES),) * 4))


def _flops_of(entry: Entry, report: ReportData) -> _Flops:
    module = report.modules.get(entry.path, "")

    def by_phase(entry: Entry) -> tuple[int, ...]:
        return tuple(report.convention.of(entry, (phase,), module) for phase in PHASES)

    expected = by_phase(entry)
    if not entry.ranges:
        return _Flops(expected, expected, expected, expected)
    return _Flops(expected, by_phase(entry.at("full")), by_phase(entry.at("lower")), by_phase(entry.at("upper")))


def _tree(report: ReportData, width: int) -> Table:
    """The tree of modules; on a narrow line without the column of full rate, which the totals have."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("component")
    has_bounds, has_rates = report.has_bounds, _has_rates(report) and width >= WIDE_LINE
    for heading in ("forward", "backward", "optimizer", "total", "%", *_extra_columns(has_bounds, has_rates)):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(len(heading), 6))
    root = _row(report, "", report.model, [(entry, _flops_of(entry, report)) for entry in report.entries], 0)
    total = sum(root.flops.expected)
    for depth, row, same_as in _walk(root, 0):
        flops, row_total = row.flops, sum(row.flops.expected)
        numbers = [flops.of("forward"), flops.of("dgrad", "wgrad", "recompute"), flops.of("optimizer"), row_total]
        name = Text("  " * depth, no_wrap=True, overflow="ellipsis").append(
            in_line(row.name), style="bold" if depth <= 1 else ""
        )
        if row.about:
            name.append(f" {in_line(row.about)}", style="dim")
        if same_as:
            name.append(f" same as {in_line(same_as)}", style="dim italic")
        share = percent(row_total, total).removesuffix(" %")
        bounds = _between(format_si(sum(flops.lower)), format_si(sum(flops.upper)))
        optional = (*((bounds,) if has_bounds else ()), *((format_si(sum(flops.full)),) if has_rates else ()))
        table.add_row(name, *map(format_si, numbers), share, *optional, style="" if row.children else None)
    return table


def _row(report: ReportData, path: str, name: str, entries: list[tuple[Entry, _Flops]], depth: int) -> _Row:
    """The row of a module, with its children and its own work by operator."""
    prefix = f"{path}." if path else ""
    groups: dict[tuple[bool, str], list[tuple[Entry, _Flops]]] = {}
    for entry, flops in entries if depth < MAX_DEPTH else ():
        if entry.path == path:
            group = False, entry.part or entry.operator
        else:
            group = True, entry.path.removeprefix(prefix).partition(".")[0]
        groups.setdefault(group, []).append((entry, flops))
    children = []
    for (is_module, child), members in groups.items() if _has_structure(groups) else ():
        if is_module:
            children.append(_row(report, f"{prefix}{child}", child, members, depth + 1))
        else:
            children.append(_Row(f"· {child}", _sum(flops for _, flops in members)))
    about = report.modules.get(path, "") if path else ""
    total = _sum(child.flops for child in children) if children else _sum(flops for _, flops in entries)
    return _Row(name, total, tuple(children), f"{about} (routed)" if path in report.routed_modules else about)


def _has_structure(groups: Mapping[tuple[bool, str], list[tuple[Entry, _Flops]]]) -> bool:
    """Whether a module has children, or calls of several operators."""
    calls = [members for (is_module, _), members in groups.items() if is_module or members[0][0].kind == "call"]
    return len(calls) > 1 or any(is_module for is_module, _ in groups)


def _walk(row: _Row, depth: int) -> Iterator[tuple[int, _Row, str]]:
    """Depth and row, and the earlier sibling with an equal subtree, the most expensive children first.

    The cheapest of very many children share one row.
    """
    yield depth, row, ""
    printed: dict[object, str] = {}
    children = sorted(
        (child for child in row.children if not child.flops.is_zero), key=lambda child: -sum(child.flops.expected)
    )
    for child in children[:MAX_ROWS] if len(children) > MAX_ROWS + 1 else children:
        if child.children and child.detail in printed:
            yield depth + 1, child, printed[child.detail]
        else:
            printed[child.detail] = child.name
            yield from _walk(child, depth + 1)
    if len(children) > MAX_ROWS + 1:
        hidden = children[MAX_ROWS:]
        yield depth + 1, _Row(f"… and {len(hidden):,} more", _sum(child.flops for child in hidden)), ""


def explain(report: ReportData, entries: Iterable[Entry], name: str) -> str:
    """The formula, sizes, rule, source and numbers of each op, the optimizer's updates, and the total."""
    entries = list(entries)
    counted = [entry for entry in entries if entry.work]
    weights = ", ".join(f"{work_class} {weight}" for work_class, weight in report.convention.weights.items())
    lines = [f"{name or report.model}, convention {report.convention.name}: {weights}; other classes 0"]
    calls = [entry for entry in counted if entry.kind != "update"]
    for (_, rule), parts in groupby(calls, key=lambda entry: (entry.op, entry.rule)):
        lines += ["", *_op(list(parts), rule, report.convention)]
    updates = [entry for entry in counted if entry.kind == "update"]
    for rule, members in groupby(updates, key=lambda entry: entry.rule):
        lines += ["", *_updates(list(members), rule, report)]
    own_code = [(entry.target, entry.about) for entry in entries if entry.rule.startswith(OWN_CODE)]
    for target, about in dict.fromkeys(own_code):
        lines += ["", f"{target}: {about}"]
    lines += ["", "total" if counted else "no work: all ops are free by their rules"]
    for phase in PHASES:
        work = sum((entry.work.get(phase, Work()) for entry in counted), Work())
        if work:
            lines.append(_numbers(phase, work, report.convention))
    return safe("\n".join(lines))


def _op(parts: list[Entry], rule: str, convention: Convention) -> Iterator[str]:
    first = parts[0]
    path = first.path.removesuffix(f".{first.part}") if first.part else first.path
    yield f"{first.op}: {first.target} in {path or 'the model itself'}"
    yield f"    rule    {rule}"
    yield f"    about   {' '.join(first.about.split())}"
    if first.line:
        yield f"    source  {first.line}"
    if first.rate:
        yield f"    rate    {first.rate} of the formula"
    for part in parts:
        indent = "    "
        if part.part:
            yield f"    {part.part}"
            indent = "        "
        yield from (f"{indent}{line}" for line in _formula(part.formula))
        if part.formula.sizes:
            yield f"{indent}with {', '.join(f'{name} = {size:,}' for name, size in part.formula.sizes.items())}"
        yield from (f"{indent}{_numbers(phase, work, convention)}" for phase, work in part.work.items())


def _updates(updates: list[Entry], rule: str, report: ReportData) -> Iterator[str]:
    elements = sum(report.parameters.get(update.op, 0) for update in updates)
    work = sum((update.work["optimizer"] for update in updates), Work())
    yield f"{updates[0].target}: the update of {len(updates)} parameters, {elements:,} elements"
    yield f"    rule    {rule}"
    yield f"    about   {updates[0].about}"
    yield f"    {_numbers('optimizer', work, report.convention)}"


def _numbers(phase: str, work: Work, convention: Convention) -> str:
    counts = ", ".join(f"{name} {int(count):,}" for name, count in work.items())
    return f"{phase:<9} = {int(convention.flops(work)):,} FLOPs ({counts})"


def _formula(formula: Formula) -> Iterator[str]:
    if formula.forward != "0":
        yield f"forward: {formula.forward}"
    for key, text in formula.grads.items():
        if text != "0":
            yield f"gradient of {key}: {text}"
    for name, span in (("span", formula.span), ("span backward", formula.backward_span)):
        if span:
            yield f"{name}: {span} operations in sequence"
