"""A law at a range of sizes, for a terminal: a table, a bar for each value, and what the bars are made of."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphflops.analysis.scaling.law_text import phases_of
from graphflops.analysis.scaling.laws import Law, Query
from graphflops.analysis.scaling.plotting import grouped
from graphflops.core.characters import in_line
from graphflops.core.units import si

COLOURS = ("blue", "dark_orange", "green", "magenta")
FILLS = ("█", "▓", "▒", "░")
"""and without colours the components are told apart too"""


def print_growth(law: Law, size: str, values: Sequence[int], console: Console, phase: Query = "total") -> None:
    """The cost at each value of a size: each phase, the whole, how it grows, and a bar of its largest components."""
    shown: list[Query] = [each for each in phases_of(law) if each != "parameters"] if phase == "total" else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (size, *shown, phase, "×"):
        table.add_column(heading, justify="right", no_wrap=True)
    room = max(16, console.width - 14 * (len(shown) + 2) - 8)
    table.add_column(f"{law.convention.unit}s", no_wrap=True)
    parts = grouped(law, size, values, phase)[: len(COLOURS)]
    totals = law.along(size, values, phase)
    columns = [law.along(size, values, each) for each in shown]
    for i, value in enumerate(values):
        row = [f"{value:,}", *(si(column[i]) for column in columns), si(totals[i])]
        grown = f"{totals[i] / totals[i - 1]:.2f}" if i and totals[i - 1] else ""
        table.add_row(*row, grown, _bar([costs[i] for _, costs in parts], totals[i], max(totals), room))
    console.print(table)
    legend = Text("  ")
    for (label, _), colour, fill in zip(parts, COLOURS, FILLS, strict=False):
        legend.append(f"{fill * 2} ", style=colour).append(f"{in_line(label)}   ")
    console.print(legend)


def _bar(parts: Sequence[int], whole: int, most: int, room: int) -> Text:
    """A bar as long as a cost is large, in the colours of its parts; what is left over is the last one's neighbour."""
    bar = Text()
    if not most:
        return bar
    drawn = done = 0
    for part, colour, fill in zip(parts, COLOURS, FILLS, strict=False):
        done += part
        end = round(room * done / most)
        bar.append(fill * (end - drawn), style=colour)
        drawn = end
    bar.append("·" * (round(room * whole / most) - drawn), style="dim")
    return bar
