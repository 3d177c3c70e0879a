"""A report as text for a terminal of any width: the model, the totals, the table, the coverage and the notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from graphflops.core.characters import in_line, safe
from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import BY_ITS_OWN_CODE, PHASES, Phase, missing_rules
from graphflops.core.messages import first_of
from graphflops.core.units import format_scaled, percent, si_exponent, si_unit
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.grid import Column, grid_width, print_grid, print_line
from graphflops.report.table import PAGE as PAGE_OPTIONS
from graphflops.report.table import TableOptions, print_table
from graphflops.report.terminal import Terminal, fitted, text_of, wrapped

MAX_ASSUMPTIONS = 5
"""assumptions that are printed"""
PAGE = 40
"""lines of a report whose rows are not chosen"""
MIN_ROWS = 8
"""rows of the table, however many lines the rest has"""
_LABEL = 12
"""characters of the labels in the heading"""


def as_text(report: ReportData, width: int | None = None, options: TableOptions = PAGE_OPTIONS) -> str:
    """A report as plain text, by default as wide as the terminal."""
    return text_of(lambda console: print_report(report, console, options), width)


def print_report(
    report: ReportData, console: Terminal, options: TableOptions = PAGE_OPTIONS, *, lines_above: int = 0
) -> None:
    """Print the model, the totals, the table, the coverage and the notes of a report: a page, if no rows are chosen.

    ``lines_above`` are the lines of the page that are printed already.
    """
    heading = [*_heading(report, console)]
    columns, styles = _totals(report)
    coverage = wrapped(f"coverage: {report.coverage}", console)
    notes = [line for note in _notes(report) for line in wrapped(note, console)]
    most = PAGE - lines_above - len(heading) - len(styles) - len(coverage) - len(notes)
    most -= 8  # headings, rules, blank lines, legend
    for line in heading:
        print_line(line, console)
    console.print()
    _print_totals(columns, styles, console)
    console.print()
    print_table(report, console, options, max(most, MIN_ROWS) if options.is_default else None)
    console.print()
    for text in coverage:
        print_line(Text(text, "bold red" if report.unknown else ""), console)
    for text in notes:
        print_line(Text(text, "yellow"), console)
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


def _heading(report: ReportData, console: Terminal) -> Iterator[Text]:
    parameters = sum(report.parameters.values())
    trainable = sum(size for name, size in report.parameters.items() if name in report.info.trainable)
    subsets = [(trainable, "trainable"), (report.active_parameters, "active")]
    numbers = [f"{parameters:,}", *(f"{number:,} {name}" for number, name in subsets if number != parameters)]
    yield Text.assemble("model".ljust(_LABEL), (fitted(in_line(report.model), console.file), "bold"))
    texts = {
        "parameters": ", ".join(numbers),
        "input": in_line(", ".join(f"{name} {spec}" for name, spec in report.inputs.items())) or "none",
        "convention": f"{report.convention.name}: {report.convention.about}",
    }
    for label, text in texts.items():
        lines = wrapped(label.ljust(_LABEL) + text, console, " " * _LABEL)
        yield from map(Text, lines)


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


def _totals(report: ReportData) -> tuple[list[Column], list[str]]:
    """The columns of the totals, the most important first, and the styles of their rows: the phases with work."""
    flops, works = _of_phases(report), {phase: report.work(phase) for phase in PHASES}
    total = flops["total"]
    exponent = si_exponent(total)
    unit = f"{report.convention.unit}s"
    candidates: list[tuple[str, Query, str]] = [
        ("forward", "forward", ""),
        ("backward", "backward", ""),
        ("  activations (dgrad)", "dgrad", "dim"),
        ("  parameters (wgrad)", "wgrad", "dim"),
        ("recompute", "recompute", ""),
        (f"optimizer ({in_line(report.optimizer_name or '')})", "optimizer", ""),
        ("total", "total", "bold"),
    ]
    rows = [(name, query, style) for name, query, style in candidates if query == "forward" or _work(works, query)]
    rows = rows[:1] if len(rows) == 2 and rows[0][1] == "forward" else rows  # a forward pass alone

    def scaled(numbers: Mapping[Query, int]) -> list[str]:
        return [format_scaled(numbers[query], exponent) for _, query, _ in rows]

    queries = [query for _, query, _ in rows]
    columns = [
        Column("training step" if report.optimizer_name else "forward pass", [row[0] for row in rows], is_left=True),
        Column(si_unit(exponent, unit), scaled(flops)),
        Column("share", [percent(flops[query], total) for query in queries]),
    ]
    if report.has_bounds:
        lower, upper = scaled(_of_phases(report.lower_bound)), scaled(_of_phases(report.upper_bound))
        bounds = [a if a == b else f"{a} – {b}" for a, b in zip(lower, upper, strict=True)]
        columns.append(Column("lower – upper", bounds))
    if any("full" in entry.ranges for entry in report.entries):
        columns.append(Column("full rate", scaled(_of_phases(report.at_full_rate))))
    columns.append(Column(unit, [f"{flops[query]:,}" for query in queries]))
    if unit != "MACs":
        columns.append(Column("MACs", [f"{int(_work(works, query).macs):,}" for query in queries]))
    styles = [style for _, _, style in rows]
    if any(entry.useful for entry in report.entries):
        useful = report.causal_useful
        cells = {0: "causal mask skipped", 1: format_scaled(useful, exponent), 2: percent(useful, total)}
        for place, column in enumerate(columns):
            text = f"{useful:,}" if column.heading == unit and place > 2 else cells.get(place, "")
            column.cells = [*column.cells, text]
        styles.append("dim")
    return columns, styles


def _print_totals(columns: list[Column], styles: list[str], console: Terminal) -> None:
    """Print the totals; on a narrow line without the last columns, whose numbers are the same in other units."""
    width = console.line_width
    while width is not None and len(columns) > 3 and grid_width(columns, console) > width:
        columns = columns[:-1]
    print_grid(columns, console, width, styles)


def _work(works: Mapping[Phase, Work], query: Query) -> Work:
    return sum((works[phase] for phase in phases_of(query)), ZERO)


def _of_phases(report: ReportData) -> Mapping[Query, int]:
    """FLOPs of each phase, of backward and of the total, with one pass over the entries for each phase."""
    flops: dict[Query, int] = {phase: report.flops(phase) for phase in PHASES}
    flops["backward"] = sum(flops[phase] for phase in phases_of("backward"))
    flops["total"] = sum(flops[phase] for phase in phases_of("total"))
    return flops
