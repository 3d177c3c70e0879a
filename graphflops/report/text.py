"""A Report for people: tables on a terminal of any width, and the answer to "why this number?"."""

from __future__ import annotations

import io
import shutil
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
from graphflops.core.units import in_step, percent, si, step_of, unit
from graphflops.report.conventions import Convention
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.terminal import Terminal

WIDE = 96
"""characters of a line in which names have room beside all columns"""
ASSUMED = 5
"""how many of the places are printed where data decides"""
DEPTH = 5
"""how deep the tree of components is printed; deeper work is in the row of its parent"""
MOST_ROWS = 256
"""how many children of one module have rows of their own"""


def as_text(report: ReportData, width: int | None = None) -> str:
    """The report as plain text, as wide as the terminal unless told."""
    file = io.StringIO()
    print_report(report, Terminal(file, width=width or shutil.get_terminal_size((100, 24)).columns))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def print_report(report: ReportData, console: Console) -> None:
    """What was analysed, totals, the tree of components, coverage; and what has no rule, with a rule to paste."""
    coverage = Text(f"coverage   {report.coverage}", style="bold red" if report.unknown else "")
    console.print(
        Group(_heading(report), Text(), _totals(report), Text(), _tree(report, console.width), Text(), coverage)
    )
    for line in _rates(report):
        console.print(Text(safe(line), style="yellow"), soft_wrap=True)
    for line in report.capture:
        if line.endswith(BY_ITS_OWN_CODE):
            console.print(Text(safe(f"own code   {line}"), style="yellow"), soft_wrap=True)
    for line in report.assumed[:ASSUMED]:
        console.print(Text(safe(f"assumed    {line}"), style="yellow"), soft_wrap=True)
    if len(report.assumed) > ASSUMED:
        console.print(Text(f"assumed    and so on, in {len(report.assumed)} places: report.assumed", style="yellow"))
    for warning in report.warnings:
        console.print(Text(safe(f"warning    {warning}"), style="yellow"), soft_wrap=True)
    if report.unknown:
        console.print("\nThe totals are at least what is said here: some work has no rule.\n", style="bold red")
        stubs = safe(missing_rules(report.unknown))  # to be pasted
        console.print(stubs, soft_wrap=True, markup=False, highlight=False)


def _heading(report: ReportData) -> RenderableType:
    parameters = sum(report.parameters.values())
    trainable = sum(size for name, size in report.parameters.items() if name in report.trainable)
    table = Table.grid(padding=(0, 2))
    table.add_row("model", Text(in_line(report.model), style="bold"))
    active = report.active_parameters
    others = [(trainable, "trainable"), (active, "active")]
    said = [f"{parameters:,}", *(f"{number:,} {name}" for number, name in others if number != parameters)]
    table.add_row("parameters", ", ".join(said))
    table.add_row("input", Text(in_line(", ".join(f"{name} {spec}" for name, spec in report.inputs.items())) or "none"))
    table.add_row("convention", Text(safe(f"{report.convention.name}: {report.convention.about}")))
    return table


def _rates(report: ReportData) -> Iterator[str]:
    """The rates that were given, and what of routed work none was given for, by their numbers."""
    for rate in dict.fromkeys(report.rates.values()):
        paths = [path or report.model for path, its in report.rates.items() if its == rate]
        yield f"rate       {rate}: {_few(paths)}"
    for share in dict.fromkeys(report.routed.values()):
        paths = [path for path, its in report.routed.items() if its == share and path not in report.rates]
        if paths:
            taken = "all of them" if share == 1 else f"{share} of them, evenly"
            yield f"routed     data decides on which rows; taken are {taken}, as no rate is given: {_few(paths)}"


def _few(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _totals(report: ReportData) -> Table:
    flops, works = _of_phases(report), {phase: report.work(phase) for phase in PHASES}
    total = flops["total"]
    step = step_of(total)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("one step" if report.optimizer_name else "one pass")
    counted = f"{report.convention.unit}s"
    ranged, rated = report.is_interval, _is_rated(report)
    least, most = (_of_phases(report.least), _of_phases(report.most)) if ranged else (flops, flops)
    full = _of_phases(report.full) if rated else flops
    beside = (*(("least – most",) if ranged else ()), *(("full",) if rated else ()))
    for heading in (unit(step, counted), "share", *beside, counted, *(() if counted == "MACs" else ("MACs",))):
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
    for name, phase, style in rows:
        work = sum((works[each] for each in phases_of(phase)), Work())
        if phase == "recompute" and not work:
            continue
        if phase == "optimizer" and not report.optimizer_name:
            continue
        numbers = (f"{flops[phase]:,}", *(() if counted == "MACs" else (f"{int(work.macs):,}",)))
        bounds = _between(in_step(least[phase], step), in_step(most[phase], step))
        others = (*((bounds,) if ranged else ()), *((in_step(full[phase], step),) if rated else ()))
        share = percent(flops[phase], total)
        table.add_row(name, in_step(flops[phase], step), share, *others, *numbers, style=style or None)
    if any(entry.useful for entry in report.entries):
        useful = report.useful
        numbers = (in_step(useful, step), percent(useful, total), *("" for _ in beside), f"{useful:,}")
        table.add_row("useful: causal attention as its triangle", *numbers, style="dim")
    return table


def _of_phases(report: ReportData) -> Mapping[Query, int]:
    """The FLOPs of every phase, and of those that are several, each entry looked at once for each."""
    flops: dict[Query, int] = {phase: report.flops(phase) for phase in PHASES}
    flops["backward"] = sum(flops[phase] for phase in phases_of("backward"))
    flops["total"] = sum(flops[phase] for phase in phases_of("total"))
    return flops


def _between(least: str, most: str) -> str:
    return least if least == most else f"{least} – {most}"


def _is_rated(report: ReportData) -> bool:
    """Whether data has something not always run, so that active and total are two numbers."""
    return any("full" in entry.ranges for entry in report.entries)


@dataclass(frozen=True)
class _Row:
    """A row of the tree: a module, or the work of one kind that a module does itself."""

    name: str
    costs: _Costs
    children: tuple[_Row, ...] = ()
    about: str = ""

    @cached_property
    def detail(self) -> tuple[object, ...]:
        """In what rows are equal that are opened once."""
        inside = ((child.name, child.detail) for child in self.children if not child.costs.is_nothing)
        return self.about, self.costs.now, self.costs.full, tuple(inside)


class _Costs(NamedTuple):
    """The FLOPs of each phase, and where data decides, those if everything ran, at the least and at the most."""

    now: tuple[int, ...]
    full: tuple[int, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]

    @property
    def is_nothing(self) -> bool:
        """Whether there is no work, at any rate."""
        return not any(self.now) and not any(self.full)

    def of(self, *phases: Phase) -> int:
        """The FLOPs of some phases."""
        return sum(self.now[PHASES.index(phase)] for phase in phases)


def _together(costs: Iterable[_Costs]) -> _Costs:
    """What several cost."""
    columns = zip(*costs, strict=True)
    summed = [tuple(map(sum, zip(*column, strict=True))) for column in columns]
    return _Costs(*summed) if summed else _Costs(*(((0,) * len(PHASES),) * 4))


def _costs_of(entry: Entry, report: ReportData) -> _Costs:
    module = report.modules.get(entry.path, "")

    def phases(entry: Entry) -> tuple[int, ...]:
        return tuple(report.convention.of(entry, (phase,), module) for phase in PHASES)

    now = phases(entry)
    if not entry.ranges:
        return _Costs(now, now, now, now)
    return _Costs(now, phases(entry.at("full")), phases(entry.at("least")), phases(entry.at("most")))


def _tree(report: ReportData, width: int) -> Table:
    """Row by row; where a line is narrow, names have the room of what everything would cost, which the totals say."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("component")
    ranged, rated = report.is_interval, _is_rated(report) and width >= WIDE
    beside = (*(("least – most",) if ranged else ()), *(("full",) if rated else ()))
    for heading in ("forward", "backward", "optimizer", "total", "%", *beside):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(len(heading), 6))
    root = _row(report, "", report.model, [(entry, _costs_of(entry, report)) for entry in report.entries], 0)
    total = sum(root.costs.now)
    for depth, row, same_as in _walk(root, 0):
        costs = row.costs
        numbers = [costs.of("forward"), costs.of("dgrad", "wgrad", "recompute"), costs.of("optimizer"), sum(costs.now)]
        name = Text("  " * depth, no_wrap=True, overflow="ellipsis").append(
            in_line(row.name), style="bold" if depth <= 1 else ""
        )
        if row.about:
            name.append(f" {in_line(row.about)}", style="dim")
        if same_as:
            name.append(f" as {in_line(same_as)}", style="dim italic")
        share = percent(numbers[-1], total).removesuffix(" %")
        bounds = _between(si(sum(costs.least)), si(sum(costs.most)))
        others = (*((bounds,) if ranged else ()), *((si(sum(costs.full)),) if rated else ()))
        table.add_row(name, *(si(number) for number in numbers), share, *others, style="" if row.children else None)
    return table


def _row(report: ReportData, path: str, name: str, entries: list[tuple[Entry, _Costs]], depth: int) -> _Row:
    """A module's row: below it its children, and its own work operator by operator."""
    prefix = f"{path}." if path else ""
    groups: dict[tuple[bool, str], list[tuple[Entry, _Costs]]] = {}
    for entry, costs in entries if depth < DEPTH else ():
        if entry.path == path:
            group = False, entry.part or entry.operator
        else:
            group = True, entry.path.removeprefix(prefix).partition(".")[0]
        groups.setdefault(group, []).append((entry, costs))
    children = []
    for (is_module, child), members in groups.items() if _worth_opening(groups) else ():
        if is_module:
            children.append(_row(report, f"{prefix}{child}", child, members, depth + 1))
        else:
            children.append(_Row(f"· {child}", _together(costs for _, costs in members)))
    about = report.modules.get(path, "") if path else ""
    costs = _together(each.costs for each in children) if children else _together(costs for _, costs in entries)
    return _Row(name, costs, tuple(children), f"{about}, routed" if path in report.routed else about)


def _worth_opening(groups: Mapping[tuple[bool, str], list[tuple[Entry, _Costs]]]) -> bool:
    """Not if a module holds no other and does one kind of thing: its row says it all."""
    kinds = [members for (is_module, _), members in groups.items() if is_module or members[0][0].kind == "call"]
    return len(kinds) > 1 or any(is_module for is_module, _ in groups)


def _walk(row: _Row, depth: int) -> Iterator[tuple[int, _Row, str]]:
    """Rows in the order of their cost; of siblings that cost the same in every detail, the first is opened.

    Of very many siblings, those that cost least share one row.
    """
    yield depth, row, ""
    opened: dict[object, str] = {}
    children = sorted(
        (each for each in row.children if not each.costs.is_nothing), key=lambda each: -sum(each.costs.now)
    )
    for child in children[:MOST_ROWS] if len(children) > MOST_ROWS + 1 else children:
        if child.children and child.detail in opened:
            yield depth + 1, child, opened[child.detail]
        else:
            opened[child.detail] = child.name
            yield from _walk(child, depth + 1)
    if len(children) > MOST_ROWS + 1:
        rest = children[MOST_ROWS:]
        yield depth + 1, _Row(f"… and {len(rest):,} more", _together(each.costs for each in rest)), ""


def explained(report: ReportData, entries: Iterable[Entry], what: str) -> str:
    """Each Op's formula, sizes, rule, source and numbers; the optimizer's updates together; and what it adds up to."""
    entries = list(entries)
    chosen = [entry for entry in entries if entry.work]
    weights = ", ".join(f"{name} {weight}" for name, weight in report.convention.weights.items())
    lines = [f"{what or report.model}, convention {report.convention.name}: {weights}; other classes 0"]
    for (_, rule), parts in groupby(
        (each for each in chosen if each.kind != "update"), key=lambda each: (each.op, each.rule)
    ):
        lines += ["", *_op(list(parts), rule, report.convention)]
    for rule, updates in groupby((each for each in chosen if each.kind == "update"), key=lambda each: each.rule):
        lines += ["", *_updates(list(updates), rule, report)]
    for target, about in dict.fromkeys((each.target, each.about) for each in entries if each.rule.startswith(OWN_CODE)):
        lines += ["", f"{target}: {about}"]
    lines += ["", "in all" if chosen else "no work: every op here is zero by its rule"]
    for phase in PHASES:
        work = sum((entry.work.get(phase, Work()) for entry in chosen), Work())
        if work:
            lines.append(_numbers(phase, work, report.convention))
    return safe("\n".join(lines))


def _op(parts: list[Entry], rule: str, convention: Convention) -> Iterator[str]:
    first = parts[0]
    path = first.path.removesuffix(f".{first.part}") if first.part else first.path
    yield f"{first.op}: {first.target} in {path or 'the model itself'}"
    yield f"    rule       {rule}"
    yield f"    says       {' '.join(first.about.split())}"
    if first.line:
        yield f"    called at  {first.line}"
    if first.rate:
        yield f"    rate       {first.rate}, of what the formula says"
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
    elements = sum(report.parameters.get(each.op, 0) for each in updates)
    work = sum((each.work["optimizer"] for each in updates), Work())
    yield f"{updates[0].target}: the update of {len(updates)} parameters, {elements:,} numbers"
    yield f"    rule       {rule}"
    yield f"    says       {updates[0].about}"
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
            yield f"{name}: {span} operations, one after the other"
