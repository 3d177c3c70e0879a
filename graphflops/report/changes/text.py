"""A difference of two reports as text of at most 80 columns, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from graphflops.core.characters import in_line, safe
from graphflops.core.units import format_scaled, format_si, percent, si_exponent, si_unit
from graphflops.report.changes.groups import Group, groups_of
from graphflops.report.changes.rows import DiffData
from graphflops.report.data import Query

WIDTH = 80
MAX_GROUPS = 24
"""groups of rows that are printed; all rows are in the JSON file"""
MAX_DETAILS = 3
"""operators of a group whose sizes are printed"""
_PHASES: tuple[Query, ...] = ("forward", "backward", "recompute", "optimizer", "total")


def as_text(diff: DiffData) -> str:
    """A difference as plain text."""
    before, after = (_shortened(in_line(name), 34) for name in diff.names)
    exponent = _exponent(diff)
    scope = "a training step" if diff.is_training else "a forward pass"
    lines = [
        f"from {before} to {after}",
        f"{si_unit(exponent, diff.convention.unit)}s of {scope}, {in_line(diff.convention.name)}",
        "",
        f"  {'':<14}{'before':>14}{'after':>14}{'difference':>16}",
    ]
    for name, old, new, change, share in _totals(diff):
        lines.append(f"  {name:<14}{old:>14}{new:>14}{change:>16}  {share:>9}".rstrip())
    groups, free = groups_of(diff)
    lines.append("")
    for group in groups[:MAX_GROUPS]:
        lines += _group_lines(group)
    lines += [f"  {line}" for line in _rest(diff, groups, len(free))]
    lines += ["", *_notes(diff)] if diff.notes else []
    return safe("\n".join(line.rstrip() for line in lines))


def _totals(diff: DiffData) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of the table of totals: name, before, after, difference, share."""
    exponent = _exponent(diff)
    for phase in _PHASES:
        old, new = diff.before(phase), diff.after(phase)
        if old or new or phase == "total":
            numbers = format_scaled(old, exponent), format_scaled(new, exponent), _signed(new - old, exponent)
            yield phase, *numbers, _share(new - old, old)
    old, new = diff.parameters
    yield "parameters", format_si(old), format_si(new), _signed_si(new - old), _share(new - old, old)
    if any(diff.unknown):
        old, new = diff.unknown
        yield "unsupported", str(old), str(new), f"{new - old:+}" if new != old else "0", ""


def _group_lines(group: Group) -> Iterator[str]:
    """The line of a group, and indented lines on its sizes."""
    times = f" ×{group.blocks}" if group.blocks > 1 else ""
    change = "" if group.kind == "renamed" else _signed_si(group.difference())
    label = _shortened(in_line(group.label), 56 - len(times)) + times
    yield f"  {group.kind:<8} {label:<57}{change:>10}"
    indent = " " * 11
    for detail in _detail_lines(group):
        lines = wrap(
            in_line(detail),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            max_lines=2,
            placeholder=" …",
        )
        yield from lines


def _detail_lines(group: Group) -> Iterator[str]:
    lines = group.details or tuple(filter(None, [group.about]))
    yield from lines[:MAX_DETAILS]
    if len(lines) > MAX_DETAILS:
        yield f"… and {len(lines) - MAX_DETAILS} more operators"


def _rest(diff: DiffData, groups: tuple[Group, ...], free: int) -> Iterator[str]:
    """Sentences on rows that are not printed."""
    if rest := groups[MAX_GROUPS:]:
        change = _signed_si(sum(group.difference() for group in rest))
        yield f"… and {len(rest)} more groups of rows, {change} together; --json has all"
    if free:
        yield f"{free} operator{'s' if free > 1 else ''} without FLOPs (views, sums of gradients) came, went or changed"
    if diff.is_empty:
        names = ", apart from names" if diff.renamed else ""
        yield f"no difference{names}: all {diff.unchanged + len(diff.renamed):,} operators are equal"
    elif diff.unchanged:
        yield f"{diff.unchanged:,} operators are unchanged"


def _notes(diff: DiffData) -> list[str]:
    """Notes, wrapped to the width."""
    return [
        line
        for note in diff.notes
        for line in wrap(f"note: {in_line(note)}", WIDTH, subsequent_indent="      ", break_on_hyphens=False)
    ]


def as_markdown(diff: DiffData) -> str:
    """A difference as Markdown: the totals, then a row for each group, all in one unit."""
    before, after = map(_code, diff.names)
    unit = f"{si_unit(_exponent(diff), diff.convention.unit)}s"
    scope = "training step" if diff.is_training else "forward pass"
    lines = [
        f"### FLOPs: {before} → {after}",
        "",
        f"| {scope}, {unit} | before | after | difference | |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        "| " + " | ".join((f"**{row[0]}**" if row[0] == "total" else row[0], *row[1:])) + " |" for row in _totals(diff)
    ]
    groups, free = groups_of(diff)
    if groups:
        lines += ["", "| | module | | difference |", "|---|---|---|--:|"]
    for group in groups[:MAX_GROUPS]:
        times = f" ×{group.blocks}" if group.blocks > 1 else ""
        change = "" if group.kind == "renamed" else _signed_si(group.difference())
        cell = "<br>".join(map(_cell, _detail_lines(group)))
        lines.append(f"| {group.kind} | {_code(group.label)}{times} | {cell} | {change} |")
    lines += ["", *_rest(diff, groups, len(free))]
    lines += ["", *(f"- {_cell(note)}" for note in diff.notes)] if diff.notes else []
    return safe("\n".join(lines)) + "\n"


def _code(text: str) -> str:
    """A name as code in a cell of a table, whatever characters it has."""
    text = in_line(text).replace("|", "\\|")
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def _cell(text: str) -> str:
    """A text in a cell of a table: characters of Markdown and HTML are escaped."""
    text = in_line(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for character in "|`*_[]":
        text = text.replace(character, f"\\{character}")
    return text


def _exponent(diff: DiffData) -> int:
    return si_exponent(max(diff.before(), diff.after()))


def _signed(number: int, exponent: int) -> str:
    return "0" if number == 0 else f"{'+' if number > 0 else '−'}{format_scaled(abs(number), exponent)}"


def _signed_si(number: int) -> str:
    return "0" if number == 0 else f"{'+' if number > 0 else '−'}{format_si(abs(number))}"


def _share(part: int, total: int) -> str:
    if not total or not part:
        return ""
    return f"{'+' if part > 0 else '−'}{percent(abs(part), total)}"


def _shortened(text: str, width: int) -> str:
    """A text of at most so many characters: its beginning is cut off, as paths differ at their end."""
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"
