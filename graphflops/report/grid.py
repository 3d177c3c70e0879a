"""Columns of text as lines: aligned, as wide as they need or cut to a width, in the characters of the encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.text import Text

from graphflops.report.terminal import fitted

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
"""blanks between columns"""
MIN_NAME = 12
"""characters of the first column that are left, however narrow the line is"""

Cell: TypeAlias = "str | tuple[tuple[str, str], ...]"
"""a text, or parts of one, each with its style"""


@dataclass
class Column:
    """A column: its heading, and a cell for each row."""

    heading: str
    cells: Sequence[Cell]
    is_left: bool = False
    """whether cells are aligned to the left"""
    has_paths: bool = False
    """whether cells are paths, which are cut at their beginning"""

    def width(self, console: Console) -> int:
        """Characters of the widest cell, as a console shows it."""
        return max(_text(cell, console).cell_len for cell in (self.heading, *self.cells))


def print_grid(
    columns: Sequence[Column], console: Console, width: int | None = None, styles: Sequence[str] = ()
) -> None:
    """Print columns below their headings and a rule; the first column is cut if a line would be wider than ``width``.

    No line has blanks at its end, and none is wrapped. ``styles`` are those of the rows.
    """
    widths = [column.width(console) for column in columns]
    gaps = GAP * (len(columns) - 1)
    if width is not None and (excess := sum(widths) + gaps - width) > 0:
        widths[0] = max(widths[0] - excess, min(widths[0], MIN_NAME))

    def line(cells: Sequence[Cell]) -> Text:
        text = Text()
        for column, cell, size in zip(columns, cells, widths, strict=True):
            part = _cut_path(cell, size, console) if column.has_paths else _shortened(cell, size, console)
            blanks = " " * (size - part.cell_len)
            text.append_text(Text.assemble(part, blanks) if column.is_left else Text.assemble(blanks, part))
            text.append(" " * GAP)
        text.rstrip()
        return text

    print_line(line([column.heading for column in columns]), console)
    print_line(Text("─" * (sum(widths) + gaps), style="dim"), console)
    for number, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        text = line(cells)
        text.stylize_before(styles[number] if styles else "")
        print_line(text, console)


def grid_width(columns: Sequence[Column], console: Console) -> int:
    """Characters of the lines of a grid that is not cut."""
    return sum(column.width(console) for column in columns) + GAP * (len(columns) - 1)


def print_line(text: Text | str, console: Console, width: int | None = None) -> None:
    """Print a line that is not wrapped; it is cut if it would be wider than ``width``."""
    text = Text(text) if isinstance(text, str) else text
    text = Text.assemble((fitted(text.plain, console.file), text.style)) if not text.spans else text
    console.print(text if width is None else _cut(text, width, console), soft_wrap=True, highlight=False)


def _text(cell: Cell, console: Console) -> Text:
    """A cell in the characters that a console has."""
    parts = ((cell, ""),) if isinstance(cell, str) else cell
    return Text.assemble(*((fitted(text, console.file), style) for text, style in parts))


def _shortened(cell: Cell, width: int, console: Console) -> Text:
    """A cell of a number of characters at most; of several parts, the second is cut first."""
    text = _text(cell, console)
    if isinstance(cell, tuple) and (excess := text.cell_len - width) > 0:
        first, second, *others = (_text((part,), console) for part in cell)
        text = Text.assemble(first, _cut(second, max(second.cell_len - excess, 2), console), *others)
    return _cut(text, width, console)


def _cut_path(cell: Cell, width: int, console: Console) -> Text:
    text, ellipsis = _text(cell, console), fitted("…", console.file)
    if text.cell_len <= width:
        return text
    path = text.plain.lstrip()
    indent = text.plain[: len(text.plain) - len(path)]
    return Text(indent + ellipsis + path[len(path) - max(width - len(indent) - len(ellipsis), 0) :])


def _cut(text: Text, width: int, console: Console) -> Text:
    if text.cell_len > width:
        ellipsis = fitted("…", console.file)
        text.truncate(max(width - len(ellipsis), 0))
        text.append(ellipsis)
    return text
