"""A report in a notebook: a line, the icicle, and the largest modules; static HTML without a script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from graphflops.core.characters import in_line
from graphflops.core.units import format_si, percent
from graphflops.report.data import Query, ReportData
from graphflops.report.exports.outline import OutlineRow, outline
from graphflops.report.exports.pictures import icicle_svg

MAX_ROWS = 18
_PHASES: tuple[Query, ...] = ("forward", "backward", "recompute", "optimizer")


def notebook_html(report: ReportData) -> str:
    """The HTML of a report for a notebook, a few kilobytes."""
    root = outline(report)
    unit = f"{report.convention.unit}s"
    flops = {phase: number for phase in _PHASES if (number := report.flops(phase))}
    phases = ", ".join(f"{phase} {format_si(number)}" for phase, number in flops.items()) if len(flops) > 1 else ""
    facts = [
        f"<strong>{_text(report.model)}</strong>",
        f'<span title="{report.total:,}">{format_si(report.total)}{" " if report.total < 1000 else ""}{unit}</span>',
        _text(phases),
        f"{format_si(sum(report.parameters.values()))} parameters",
        f"convention {_text(report.convention.name)}",
    ]
    warning = f"{len(report.unknown)} ops have no FLOP rule: totals are lower bounds" if report.unknown else ""
    rows = "".join(_table_row(row, depth, root) for depth, row in _largest(root))
    return (
        f'<div style="max-width:960px"><p>{" · ".join(filter(None, facts))}</p>'
        + (f'<p style="color:#d9480f">{_text(warning)}</p>' if warning else "")
        + icicle_svg(root, f"FLOPs of {report.model} by module")
        + '<details><summary>table</summary><table style="font-variant-numeric:tabular-nums;text-align:right">'
        + f'<tr><th style="text-align:left">module</th><th>{unit}</th><th>share</th><th>parameters</th></tr>'
        + f"{rows}</table></details></div>"
    )


def _largest(root: OutlineRow) -> Iterator[tuple[int, OutlineRow]]:
    """At most ``MAX_ROWS`` rows with their depths, in order: the most expensive are unfolded first."""
    unfolded, queue, count = set(), [root], 1
    while queue:
        row = max(queue, key=lambda row: row.flops)
        queue.remove(row)
        if row.children and count + len(row.children) <= MAX_ROWS:
            unfolded.add(id(row))
            count += len(row.children)
            queue += row.children
    stack = [(0, root)]
    while stack:
        depth, row = stack.pop()
        yield depth, row
        if id(row) in unfolded:
            stack += [(depth + 1, child) for child in reversed(row.children)]


def _table_row(row: OutlineRow, depth: int, root: OutlineRow) -> str:
    name = row.title if depth else row.name
    numbers = (format_si(row.flops), percent(row.flops, root.flops), format_si(row.params) if row.params else "")
    cells = "".join(f"<td>{_text(number)}</td>" for number in numbers)
    return f'<tr><td style="text-align:left;padding-left:{8 + 16 * depth}px">{_text(name)}</td>{cells}</tr>'


def _text(text: str) -> str:
    return escape(in_line(text))
