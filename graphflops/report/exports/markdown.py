"""A report as Markdown for a pull request: totals and modules as tables of GitHub Flavored Markdown."""

from __future__ import annotations

import re

from graphflops.core.characters import in_line
from graphflops.core.entries import Phase
from graphflops.core.units import format_si, percent
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.exports.blocks import Block, blocks

MAX_ROWS = 40
"""rows of modules, unless even the first level has more"""
MAX_NOTES = 5
"""assumptions that are listed"""
_PLAIN = re.compile(r"[\w .,:;/()\[\]×…–·=+-]*")
_COLUMNS: tuple[tuple[str, Query], ...] = (
    ("forward", "forward"),
    ("backward", "backward"),
    ("recompute", "recompute"),
    ("optimizer", "optimizer"),
)


def as_markdown(report: ReportData) -> str:
    """A report as Markdown: the model, the totals by phase, and its modules, as deep as fits in ``MAX_ROWS`` rows.

    The rows of a module sum to it. Names are literal, whatever characters are in them.
    """
    root = blocks(report)
    unit = f"{report.convention.unit}s"
    columns = [(name, phases_of(query)) for name, query in _COLUMNS if report.flops(query)]
    inputs = ", ".join(f"{name} {spec}" for name, spec in report.inputs.items())
    parameters = f"{sum(report.parameters.values()):,} parameters"
    step = f"training step, {report.optimizer_name}" if report.optimizer_name else "forward pass"
    facts = [literal(step), *([f"input {literal(inputs)}"] if inputs else []), parameters]
    lines = [f"**{literal(report.model)}**: {' · '.join(facts)}, convention {literal(report.convention.name)}", ""]
    lines += [f"| | {unit} | % |", "|---|--:|--:|"]
    lines += [_row(name, f"{root.of(*phases):,}", percent(root.of(*phases), root.total)) for name, phases in columns]
    lines += [_row("**total**", f"**{root.total:,}**", percent(root.total, root.total)), ""]
    if report.has_bounds:
        lower, upper = report.bounds()
        lines += [f"The total lies between {lower:,} and {upper:,} {unit}: rates have bounds.", ""]
    warning = "**Totals are lower bounds: some ops have no FLOP rule.** " if report.unknown else ""
    lines += [f"{warning}coverage: {report.coverage}", "", *_notes(report), *_modules(root, columns, unit)]
    return "\n".join(lines) + "\n"


def literal(text: str) -> str:
    """A text as code: neither Markdown, nor HTML, nor a mention of somebody.

    >>> literal("layers.0"), literal("a|b"), literal("`")
    ('`layers.0`', '<code>a&#124;b</code>', '<code>&#96;</code>')
    """
    text = in_line(text)
    if text.strip() == text and text and _PLAIN.fullmatch(text):
        return f"`{text}`"
    return f"<code>{''.join(char if char.isalnum() else f'&#{ord(char)};' for char in text)}</code>"


def _notes(report: ReportData) -> list[str]:
    """A list of the assumptions and warnings that the numbers come with."""
    assumed = {path: share for path, share in report.routed_modules.items() if path not in report.rates and share != 1}
    notes = [
        f"- assumption: balanced routing, {share} of the rows in {[*assumed.values()].count(share):,} modules"
        for share in dict.fromkeys(assumed.values())
    ]
    notes += [f"- assumption: {literal(note)}" for note in report.assumptions[:MAX_NOTES]]
    if len(report.assumptions) > MAX_NOTES:
        notes.append(f"- assumption: and {len(report.assumptions) - MAX_NOTES:,} more in `report.assumptions`")
    notes += [f"- warning: {literal(note)}" for note in report.warnings]
    return [*notes, ""] if notes else []


def _modules(root: Block, columns: list[tuple[str, tuple[Phase, ...]]], unit: str) -> list[str]:
    """The table of modules."""
    depth, rows = 1, [*root.walk(1)]
    while len(deeper := [*root.walk(depth + 1)]) <= MAX_ROWS and len(deeper) > len(rows):
        depth, rows = depth + 1, deeper
    phases = columns if len(columns) > 1 else []
    lines = [
        _row("module", "parameters", "output", *(name for name, _ in phases), unit, "%"),
        "|---|--:|---" + "|--:" * (len(phases) + 2) + "|",
    ]
    for level, block in rows:
        name = "&emsp;" * level + literal(block.name) + (f" ×{block.count:,}" if block.count > 1 else "")
        parameters = format_si(block.parameters) if block.parameters else ""
        numbers = [format_si(block.of(*of_phases)) for _, of_phases in phases]
        share = percent(block.total, root.total)
        output = literal(block.output) if block.output else ""
        lines.append(_row(name, parameters, output, *numbers, f"{block.total:,}", share))
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
