"""A Law for people: its expressions by component, on a terminal of any width."""

from __future__ import annotations

import io
import shutil

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from graphflops.analysis.scaling.laws import Law, Query
from graphflops.analysis.scaling.measurement import PARAMETERS
from graphflops.analysis.scaling.notation import ranges_of, written
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.core.characters import in_line, safe
from graphflops.report.terminal import Terminal


def as_text(law: Law, width: int | None = None) -> str:
    """The law as plain text, as wide as the terminal unless told."""
    file = io.StringIO()
    print_law(law, Terminal(file, width=width or shutil.get_terminal_size((100, 24)).columns))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def print_law(law: Law, console: Console) -> None:
    """What the law is of and how it was held to the model, then each phase by component."""
    console.print(_heading(law))
    for phase in phases_of(law):
        console.print(Group(Text(), _phase(law, phase)))
    if law.refused:
        said = f"left out   {len(law.refused)} points that the model refuses, such as {law.refused[0]}"
        console.print(Text(f"\n{said}", style="dim"), soft_wrap=True)
    for target in law.unknown:
        console.print(Text(f"unknown    {target}: the law is at least what is said here", style="bold red"))


def phases_of(law: Law) -> list[Query]:
    """The phases that have a law."""
    known: tuple[Query, ...] = ("forward", "backward", "recompute", "optimizer", "parameters")
    return [phase for phase in known if law.polynomial(phase)]


def _heading(law: Law) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("law of", Text(in_line(law.model), style="bold"))
    table.add_row("in", Text(", ".join(_size(law, name) for name in law.sizes)))
    table.add_row("counts", Text(safe(f"{law.convention.unit}s, {law.convention.name}: {law.convention.about}")))
    table.add_row("found", Text(f"from {law.traces} traces, {len(law.checked)} of them at sizes only to hold it to"))
    return table


def _size(law: Law, name: str) -> str:
    each = law.sizes[name]
    kinds = f" ({each})" if each.of > 1 or each.most else ""
    return f"{name} = {each.at:,}{kinds}"


def _phase(law: Law, phase: Query) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("parameters, numbers" if phase == PARAMETERS else phase, style="bold"))
    names = tuple(law.sizes)
    for label, members, each in runs(law, phase):
        table.add_row(f"  {in_line(label)}{', each' if len(members) > 1 else ''}", Text(written(each, names)))
    table.add_row("  in all", Text(written(law.polynomial(phase), names)))
    return table


def runs(law: Law, phase: Query) -> list[tuple[str, list[str], Polynomial]]:
    """Components and their laws; numbered ones in a row that have the same stand together, as ``layer_0 … layer_3``."""
    found: list[tuple[list[str], Polynomial]] = []
    for component in law.components:
        each = law.polynomial(phase, component)
        if found and found[-1][1] == each and "," not in ranges_of([found[-1][0][-1], component]):
            found[-1][0].append(component)
        elif each:
            found.append(([component], each))
    return [(ranges_of(members), members, each) for members, each in found]
