"""Text of laws: the expressions by component, and a table of the costs over a size."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from graphflops.analysis.scaling.law_terms import LawPhase, LawTerms
from graphflops.analysis.scaling.notation import format_components, format_pieces
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import PARAMETERS
from graphflops.core.characters import in_line, safe
from graphflops.core.units import format_si
from graphflops.report.terminal import text_of

COLOURS = ("blue", "dark_orange", "green", "magenta")
FILLS = ("█", "▓", "▒", "░")
"""of the components in a bar, for terminals without colours"""
MIN_BAR_CHARACTERS = 16
COLUMN_CHARACTERS = 14


# -- expressions -------------------------------------------------------------------------------------------------


def law_text(law: LawTerms, width: int | None = None) -> str:
    """The law as plain text, by default as wide as the terminal."""
    return text_of(lambda console: print_law(law, console), width)


def print_law(law: LawTerms, console: Console) -> None:
    """Print the model, the sizes and the validation, then each phase by component."""
    console.print(_heading(law))
    for phase in law.phases:
        console.print(Group(Text(), _phase(law, phase)))
    if law.rejected:
        line = f"\nrejected   {len(law.rejected)} points by the model, such as {law.rejected[0]}"
        console.print(Text(line, style="dim"), soft_wrap=True)
    for target in law.unknown:
        console.print(Text(f"no rule    {target}: the law is a lower bound", style="bold red"))


def _heading(law: LawTerms) -> Table:
    fitted, validated = law.traces - len(law.validated), len(law.validated)
    table = Table.grid(padding=(0, 2))
    table.add_row("law of", Text(in_line(law.model), style="bold"))
    table.add_row("sizes", Text(", ".join(_format_size(law, name) for name in law.sizes)))
    table.add_row("counts", Text(safe(f"{law.convention.unit}s, {law.convention.name}: {law.convention.about}")))
    table.add_row("fitted", Text(f"from {fitted} traces, validated on {validated}"))
    return table


def _format_size(law: LawTerms, name: str) -> str:
    size = law.sizes[name]
    values = f" ({size})" if size.multiple_of > 1 or size.max or size.min else ""
    return f"{name} = {size.base:,}{values}"


def _phase(law: LawTerms, phase: LawPhase) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("parameters, elements" if phase == PARAMETERS else phase, style="bold"))
    names = tuple(law.sizes)
    for label, components, polynomial in group_components(law, phase):
        per_component = ", each" if len(components) > 1 else ""
        table.add_row(f"  {in_line(label)}{per_component}", Text("\n".join(format_pieces(polynomial, names))))
    table.add_row("  total", Text("\n".join(format_pieces(law.polynomial(phase), names))))
    return table


def group_components(law: LawTerms, phase: LawPhase) -> list[tuple[str, list[str], Polynomial]]:
    """Label, components and polynomial; consecutive numbered components with equal polynomials are one group."""
    groups: list[tuple[list[str], Polynomial]] = []
    for component in law.components:
        polynomial = law.polynomial(phase, component)
        previous = groups[-1] if groups else None
        if previous and previous[1] == polynomial and "," not in format_components([previous[0][-1], component]):
            previous[0].append(component)
        elif polynomial:
            groups.append(([component], polynomial))
    return [(format_components(components), components, polynomial) for components, polynomial in groups]


# -- costs over a size -------------------------------------------------------------------------------------------


def print_sweep(law: LawTerms, size: str, values: Sequence[int], console: Console, phase: LawPhase = "total") -> None:
    """Print a table of the costs at each value of a size: the phases, the growth, and a bar of the components."""
    phases: list[LawPhase] = [column for column in law.phases if column != PARAMETERS] if phase == "total" else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (size, *phases, phase, "×"):
        table.add_column(heading, justify="right", no_wrap=True)
    bar_characters = max(MIN_BAR_CHARACTERS, console.width - COLUMN_CHARACTERS * (len(phases) + 2) - 8)
    table.add_column(f"{law.convention.unit}s", no_wrap=True)
    components = component_costs(law, size, values, phase)[: len(COLOURS)]
    totals = law.sweep(size, values, phase)
    columns = [law.sweep(size, values, column) for column in phases]
    for i, value in enumerate(values):
        row = [f"{value:,}", *(format_si(column[i]) for column in columns), format_si(totals[i])]
        growth = f"{totals[i] / totals[i - 1]:.2f}" if i and totals[i - 1] else ""
        bar = _bar([costs[i] for _, costs in components], totals[i], max(totals), bar_characters)
        table.add_row(*row, growth, bar)
    console.print(table)
    legend = Text("  ")
    for (label, _), colour, fill in zip(components, COLOURS, FILLS, strict=False):
        legend.append(f"{fill * 2} ", style=colour).append(f"{in_line(label)}   ")
    console.print(legend)


def component_costs(law: LawTerms, size: str, values: Sequence[int], phase: LawPhase) -> list[tuple[str, list[int]]]:
    """Label and costs of the components at the values of a size, the largest first; equal ones are one group."""
    groups = []
    for label, components, _ in group_components(law, phase):
        by_component = [law.sweep(size, values, phase, name) for name in components]
        costs = [sum(at_value) for at_value in zip(*by_component, strict=True)]
        label = label.replace("layer_*", "all layers")
        groups.append((label if len(components) == 1 else f"{label} ({len(components)})", costs))
    return sorted(groups, key=lambda group: -group[1][-1])


def _bar(parts: Sequence[int], total: int, largest: int, characters: int) -> Text:
    """A bar in the colours of the parts, with dots for the remainder; the largest total has all characters."""
    bar = Text()
    if not largest:
        return bar
    drawn = cost = 0
    for part, colour, fill in zip(parts, COLOURS, FILLS, strict=False):
        cost += part
        end = round(characters * cost / largest)
        bar.append(fill * (end - drawn), style=colour)
        drawn = end
    bar.append("·" * (round(characters * total / largest) - drawn), style="dim")
    return bar
