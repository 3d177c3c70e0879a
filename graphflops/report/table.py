"""The table of a report: its modules, operators or roles, with the columns and rows that were chosen, or that fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from rich.text import Text

from graphflops.core.characters import in_line
from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value, one_line
from graphflops.core.units import format_si, percent
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.grid import GAP, Cell, Column, print_grid, print_line
from graphflops.report.roles import roles
from graphflops.report.terminal import Terminal, fitted, text_of
from graphflops.report.tree import MAX_DEPTH, MIN_SHARE, Line, Row, Selection, fitting, flat_tree, module_tree

By: TypeAlias = Literal["module", "operator", "role"]
Sort: TypeAlias = Literal["cost", "order"]

FULL_NAMES, SHORT_NAMES = 25, 16
"""characters of names that are left beside columns of details, and beside the numbers of phases"""
MOST_ROWS = 37
"""rows of a table that fit on a page of 40 lines with their headings"""
MAX_OUTPUT = 32
"""characters of an output's shapes, beyond which only the first of several is shown"""
_PHASES: tuple[Query, ...] = ("forward", "backward", "recompute", "dgrad", "wgrad", "optimizer", "total")
COLUMNS = ("output", "parameters", *_PHASES, "share", "bounds", "full")
"""names of columns, in their order"""


WITH_RECOMPUTE = "backward+"
"""heading of the backward pass with the forward work that it repeats"""
_ORDER = ("output", "parameters", "forward", "backward", WITH_RECOMPUTE, *_PHASES[2:], "share", "bounds", "full")


@dataclass(frozen=True)
class TableOptions:
    """The choice of rows and columns; None for those that fit.

    Raises:
        UsageError: an option has a value that is not accepted.
    """

    depth: int | None = None
    """levels of modules below the model"""
    top: int | None = None
    """rows of each module; the others are summed in one row"""
    min_share: float | None = None
    """rows with a smaller share of the FLOPs, and of the parameters, are summed in one row"""
    sort: Sort = "cost"
    phase: Query = "total"
    columns: Sequence[str] | None = None
    by: By = "module"

    def __post_init__(self) -> None:
        for name, number, least in (("depth", self.depth, 0), ("top", self.top, 1)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
                raise UsageError(f"{name} is {format_value(number)}: pass a whole number, {least} or more")
        share = self.min_share
        is_number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if share is not None and not (is_number and 0 <= share <= 1):
            raise UsageError(f"min_share is {format_value(share)}: pass a share from 0 to 1, such as 0.01")
        phases_of(self.phase)
        for name, value, allowed in (("sort", self.sort, get_args(Sort)), ("by", self.by, get_args(By))):
            if value not in allowed:
                raise UsageError(f"{name} is {format_value(value)}: pass {' or '.join(map(repr, allowed))}")
        if isinstance(self.columns, str) or not all(name in COLUMNS for name in self.columns or ()):
            raise UsageError(f"columns are {format_value(self.columns)}: pass names from {', '.join(COLUMNS)}")

    @property
    def smallest_share(self) -> float:
        """The share of rows that are shown: there are few roles, and all have a row."""
        if self.min_share is not None:
            return self.min_share
        return 0.0 if self.by == "role" else MIN_SHARE

    @property
    def is_default(self) -> bool:
        """Whether the rows are those that fit on a page."""
        return self.depth is None and self.top is None and self.min_share is None


PAGE = TableOptions()
"""rows and columns that fit"""


def print_table(report: ReportData, console: Terminal, options: TableOptions, most: int | None = None) -> None:
    """Print the table and a legend in one line, by default with at most ``most`` lines below the heading."""
    root = _root(report, options)
    chosen = options.columns
    selection = Selection(
        weight=lambda row: row.flops.of(options.phase),
        with_parameters=options.phase == "total" if chosen is None else "parameters" in chosen,
        depth=MAX_DEPTH if options.depth is None else options.depth,
        top=options.top,
        min_share=options.smallest_share,
        by_cost=options.sort == "cost",
    )
    if options.depth is None and most is not None:
        selection = fitting(selection, root, most)
    lines = selection.lines(root)
    columns = _columns(report, root, lines, options, console)
    print_grid(columns, console, console.line_width)
    if legend := _legend(lines, columns, selection):
        print_line(Text(fitted(legend, console.file), style="dim"), console, console.line_width)


def table_text(report: ReportData, options: TableOptions, width: int | None = None) -> str:
    """The table as plain text, by default as wide as the terminal."""
    most = MOST_ROWS if options.is_default else None
    return text_of(lambda console: print_table(report, console, options, most), width)


def _root(report: ReportData, options: TableOptions) -> Row:
    if options.by == "module":
        return module_tree(report)
    if options.by == "operator":
        return flat_tree(report, lambda entry: entry.operator, {})
    role = roles(report)
    parameters: Counter[str] = Counter()
    for name, size in report.parameters.items():
        parameters[role.of_module(name.rpartition(".")[0])] += size
    return flat_tree(report, role.of, parameters)


def _columns(
    report: ReportData, root: Row, lines: Sequence[Line], options: TableOptions, console: Terminal
) -> list[Column]:
    """The columns that were chosen, or those that there is something in and room for."""
    width = console.line_width
    names = Column("component" if options.by == "module" else options.by, [_name(line) for line in lines], is_left=True)
    cells = _cells(root, options.phase, None if width is None else MAX_OUTPUT)

    def column(name: str) -> Column:
        return Column(_HEADINGS.get(name, name), [cells[name](line.row) for line in lines], name == "output")

    if options.columns is not None:
        return [names, *map(column, options.columns)]
    room, needed = 10**9 if width is None else width, names.width(console)
    shown: dict[str, Column] = {}
    for name, least in _default_columns(report, root, options):
        candidate = column(name)
        size = candidate.width(console) + GAP
        if room - size >= min(needed, least) and any(candidate.cells):
            room -= size
            shown[name] = candidate
    return [names, *(shown[name] for name in _ORDER if name in shown)]


def _default_columns(report: ReportData, root: Row, options: TableOptions) -> Iterator[tuple[str, int]]:
    """The columns with something in them, the most important first, and the characters of names left beside each."""
    backward = WITH_RECOMPUTE if root.flops.of("recompute") else "backward"
    phases = [phase for phase in ("forward", backward, "optimizer") if _flops_of(root, phase)]
    total = options.phase if options.phase != "total" or len(phases) != 1 else phases[0]
    yield from ((total, 0), ("share", 0))
    if total == "total":
        yield from ((phase, SHORT_NAMES) for phase in phases)
    if report.has_bounds:
        yield "bounds", SHORT_NAMES
    if any("full" in entry.ranges for entry in report.entries):
        yield "full", FULL_NAMES
    if options.by != "operator":
        yield "parameters", FULL_NAMES
    if options.by == "module":
        yield "output", FULL_NAMES


_HEADINGS = {"parameters": "params", "share": "%", "bounds": "lower – upper", "full": "full rate"}


def _cells(root: Row, phase: Query, longest_output: int | None) -> Mapping[str, Callable[[Row], str]]:
    """Name of a column → the text of a row in it."""
    total = root.flops.of(phase)

    def flops_of(column: str) -> Callable[[Row], str]:
        return lambda row: format_si(_flops_of(row, column))

    def bounds(row: Row) -> str:
        lower, upper = (format_si(flops.of(phase)) for flops in (row.flops.at("lower"), row.flops.at("upper")))
        return lower if lower == upper else f"{lower} – {upper}"

    return {
        **{query: flops_of(query) for query in (*_PHASES, WITH_RECOMPUTE)},
        "output": lambda row: shortened_output(row.output, longest_output),
        "parameters": lambda row: format_si(row.parameters) if row.parameters else "",
        "share": lambda row: percent(row.flops.of(phase), total).removesuffix(" %"),
        "bounds": bounds,
        "full": lambda row: format_si(row.flops.at("full").of(phase)),
    }


def shortened_output(shapes: str, limit: int | None = None) -> str:
    """The first of several shapes and the number of the others, where all of them are long; cut to about a limit.

    >>> shortened_output("float32[8, 64], float32[2, 64]")
    'float32[8, 64], float32[2, 64]'
    >>> shortened_output("float32[2, 320, 64, 64], float32[2, 320, 32, 32], float32[2, 640, 32, 32]")
    'float32[2, 320, 64, 64] + 2 more'
    """
    first, *others = shapes.split("], ")
    rest = ""
    if others and len(shapes) > MAX_OUTPUT:
        shapes = f"{first}]"
        rest = f" + {len(others)} more" if others[-1] != "…" else " + more"
    return one_line(shapes, len(shapes) if limit is None else limit - len(rest)) + rest


def _flops_of(row: Row, column: str) -> int:
    queries: tuple[Query, ...] = ("backward", "recompute") if column == WITH_RECOMPUTE else (cast("Query", column),)
    return sum(map(row.flops.of, queries))


def _name(line: Line) -> Cell:
    row = line.row
    about = f" {in_line(row.about)}" if row.about else ""
    count = f" ×{row.count:,}" if row.count > 1 else ""
    return (("  " * line.depth + in_line(row.name), "bold" if line.depth <= 1 else ""), (about, "dim"), (count, "cyan"))


def _legend(lines: Sequence[Line], columns: Sequence[Column], selection: Selection) -> str:
    """The signs in a table, explained in one line."""
    texts = ["backward+: with recompute"] if any(column.heading == WITH_RECOMPUTE for column in columns) else []
    if any(line.row.count > 1 for line in lines):
        texts.append("×N: sum of N equal blocks")
    if any(line.row.name.startswith("· ") for line in lines):
        texts.append("·: own operators")
    if any(line.depth == selection.depth and line.row.children for line in lines):
        texts.append(f"depth {selection.depth} (--depth)")
    return " | ".join(texts)
