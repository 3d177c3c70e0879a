"""The icicle of a report as a picture: each module is as wide as its share of the FLOPs, its children lie below it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

from graphflops.core.characters import in_line
from graphflops.core.errors import UsageError
from graphflops.core.units import format_si, percent
from graphflops.report.data import Query, ReportData
from graphflops.report.exports.outline import OutlineRow, outline

FORMATS = ("svg", "png", "pdf")
WIDTH, LEVEL, FONT = 960, 26, 12
MAX_LEVELS = 10
MIN_WIDTH = 1.0
"""pixels; narrower modules are left out"""
CHARACTER = 6.8
"""pixels that a character takes, about"""
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#39a0a0", "#d4ac2b", "#9d755d")
OTHER = "#8a929c"
"""the colour of all further operators, as in ``page/page.css``"""


class Cell(NamedTuple):
    """A rectangle of the picture; ``left`` and ``width`` are pixels."""

    row: OutlineRow
    left: float
    width: float
    level: int

    @property
    def is_leaf(self) -> bool:
        """Whether nothing lies below: it has the colour of its operator."""
        return not self.row.children or self.level == MAX_LEVELS - 1

    @property
    def label(self) -> str:
        """The name, and class and number if there is room, cut to the width."""
        row = self.row
        full = row.title if self.level else row.name
        room = int((self.width - 10) / CHARACTER)
        short = full if len(full) <= room else row.name
        return short if len(short) <= room else f"{short[: room - 1]}…" if room > 3 else ""


def icicle(root: OutlineRow) -> list[Cell]:
    """The cells of the picture, from the model down."""
    return list(_cells(root, 0.0, 0, WIDTH / root.flops)) if root.flops else []


def _cells(row: OutlineRow, left: float, level: int, scale: float) -> Iterator[Cell]:
    yield Cell(row, left, row.flops * scale, level)
    for child in row.children if level + 1 < MAX_LEVELS else ():
        if child.flops * scale >= MIN_WIDTH:
            yield from _cells(child, left, level + 1, scale)
        left += child.flops * scale


def legend(root: OutlineRow) -> Mapping[str, tuple[str, int]]:
    """Operator → colour and FLOPs, the most expensive first; the others share one colour."""
    flops: Counter[str] = Counter()
    stack = [root]
    while stack:
        row = stack.pop()
        stack += row.children
        if not row.children:
            flops[row.operator] += row.flops
    return {
        operator: (COLOURS[i] if i < len(COLOURS) else OTHER, number)
        for i, (operator, number) in enumerate(flops.most_common())
    }


def icicle_svg(root: OutlineRow, title: str) -> str:
    """The icicle as an SVG element, in the text colour of the page that it is in."""
    cells, colours = icicle(root), legend(root)
    levels = max((cell.level for cell in cells), default=0) + 1
    height = levels * LEVEL + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'style="max-width:{WIDTH}px" role="img" aria-label="{_text(title)}" fill="currentColor" '
        f'font-family="system-ui, sans-serif" font-size="{FONT}">'
    ]
    for cell in cells:
        row, top = cell.row, cell.level * LEVEL
        colour = f'fill="{colours[row.operator][0]}" fill-opacity=".38"' if cell.is_leaf else 'fill-opacity=".08"'
        label = f'<text x="{cell.left + 5:.1f}" y="{top + 17}">{_text(cell.label)}</text>' if cell.label else ""
        hint = f"{row.name} {row.cls}: {format_si(row.flops)}, {percent(row.flops, root.flops)}"
        parts.append(
            f'<g><title>{_text(hint)}</title><rect x="{cell.left:.1f}" y="{top}" '
            f'width="{max(cell.width - 1, 0.5):.1f}" height="{LEVEL - 1}" rx="2" {colour}/>{label}</g>'
        )
    parts += _legend_svg(root, colours, height)
    return "".join([*parts, "</svg>"])


def _legend_svg(root: OutlineRow, colours: Mapping[str, tuple[str, int]], height: int) -> Iterator[str]:
    left = 0.0
    for operator, (colour, flops) in colours.items():
        text = f"{operator} {percent(flops, root.flops)}"
        if left + 16 + len(text) * CHARACTER > WIDTH or 1000 * flops < root.flops:
            return
        yield (
            f'<rect x="{left:.1f}" y="{height - 14}" width="10" height="10" rx="2" fill="{colour}"/>'
            f'<text x="{left + 15:.1f}" y="{height - 5}">{_text(text)}</text>'
        )
        left += 34 + len(text) * CHARACTER


def picture(report: ReportData, path: str | Path, phase: Query = "total") -> str | bytes:
    """The content of a file with the icicle of a phase, SVG, PNG or PDF by the ending of the path.

    Raises:
        UsageError: the ending is none of these, there is no such phase, or matplotlib, which draws PNG and PDF, is not
            installed.
    """
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise UsageError(f"cannot draw into {path}: give a name that ends in .{', .'.join(FORMATS)}")
    root = outline(report, phase)
    if kind != "svg":
        return _painted(root, kind)
    svg = icicle_svg(root, f"FLOPs of {report.model} by module")
    style = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#e4e6ea}}</style>"
    start, end = svg.split(">", 1)
    return f"{start}>{style}{end}\n"


def _painted(root: OutlineRow, kind: str) -> bytes:
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise UsageError("PNG and PDF need matplotlib: pip install 'graphflops[plot]', or draw an .svg") from error
    cells, colours = icicle(root), legend(root)
    levels = max((cell.level for cell in cells), default=0) + 1
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False}):
        figure = Figure(figsize=(WIDTH / 96, levels * LEVEL / 96), dpi=192)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(levels * LEVEL, 0))
        axes.set_axis_off()
        for cell in cells:
            colour, alpha = (colours[cell.row.operator][0], 0.38) if cell.is_leaf else ("#24292f", 0.08)
            top = cell.level * LEVEL
            size = max(cell.width - 1, 0.5), LEVEL - 1
            axes.add_patch(Rectangle((cell.left, top), *size, facecolor=colour, alpha=alpha, linewidth=0))
            axes.text(cell.left + 5, top + LEVEL / 2, cell.label, fontsize=7.5, va="center", color="#24292f")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
    return buffer.getvalue()


def _text(text: str) -> str:
    return escape(in_line(text))
