"""Text of generations: the prompt, a table of steps at lengths of the cache, the whole, the cache, and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from graphflops.analysis.generation.data import GenerationData
from graphflops.analysis.generation.law import LengthLaw
from graphflops.analysis.scaling.notation import format_components, format_polynomial
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.core.characters import in_line, safe
from graphflops.core.units import format_si
from graphflops.report.terminal import text_of

SIZES = ("batch", "prompt", "new_tokens", "length")


def generation_text(generation: GenerationData, width: int | None = None) -> str:
    """The answer as plain text, by default as wide as the terminal."""
    return text_of(lambda console: print_generation(generation, console), width)


def lengths_to_show(generation: GenerationData) -> list[int]:
    """Lengths of the cache from the first step to the last: at most five, equally spaced."""
    first, steps = generation.sizes["length"], max(0, generation.sizes["new_tokens"] - 2)
    return sorted({first + steps * i // 4 for i in range(5)})


def print_generation(generation: GenerationData, console: Console) -> None:
    """Print the totals, the steps, the cache and the expressions of a generation."""
    console.print(_heading(generation))
    console.print(Group(Text(), _steps(generation)))
    if generation.tensors:
        console.print(Group(Text(), _cache(generation)))
    console.print(Group(Text(), _expressions(generation)))
    for note in _notes(generation):
        console.print(Text(safe(note), style="yellow"), soft_wrap=True)


def _heading(generation: GenerationData) -> Table:
    law, sizes = generation.law, generation.sizes
    batch, new, unit = sizes["batch"], sizes["new_tokens"], f"{law.convention.unit}s"
    total, prefill = generation.total, law.prefill(batch=batch, prompt=generation.prompt)
    table = Table.grid(padding=(0, 2))
    table.add_row("generation", Text(in_line(generation.model), style="bold"))
    table.add_row("sizes", f"batch = {batch:,}, prompt = {generation.prompt:,}, new tokens = {new:,}")
    table.add_row("counts", Text(safe(f"{unit}, {law.convention.name}: {law.convention.about}")))
    table.add_row("prefill", f"{format_si(prefill)}{unit} ({prefill:,}), which give the first new token")
    table.add_row("decode", f"{format_si(total - prefill)}{unit} ({total - prefill:,}) in {new - 1:,} steps")
    table.add_row("total", Text(f"{format_si(total)}{unit} ({total:,})", style="bold"))
    return table


def _steps(generation: GenerationData) -> Table:
    """FLOPs and bytes at some lengths of the cache."""
    law, sizes = generation.law, generation.sizes
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("cache length", "step", "a token", "cache, bytes", "cache, bytes a token"):
        table.add_column(heading, justify="right", no_wrap=True)
    for length in lengths_to_show(generation):
        flops = law.decode(batch=sizes["batch"], length=length, prompt=generation.prompt)
        cache = generation.cache_bytes(length=length)
        token = format_si(round(flops / sizes["batch"]))
        table.add_row(f"{length:,}", format_si(flops), token, f"{cache:,}", f"{cache / (sizes['batch'] * length):,.1f}")
    return table


def _cache(generation: GenerationData) -> Table:
    """The bytes of the cache by kind, as expressions."""
    table = _grid("cache, bytes by kind")
    law = generation.law.cache_law
    for kind in law.components:
        for condition, polynomial in by_pieces(law, kind):
            constant = ", whatever the length" if "length" not in polynomial.sizes else ""
            table.add_row(f"  {in_line(kind)}{condition}", Text(format_polynomial(polynomial, SIZES) + constant))
    held, reached = (sum(sizes) for sizes in zip(*((t.held_nbytes, t.nbytes) for t in generation.tensors), strict=True))
    if held != reached:
        table.add_row(
            "  after the prompt", f"{reached:,} bytes, in storages of {held:,}: tensors are views of larger ones"
        )
    return table


def _expressions(generation: GenerationData) -> Table:
    law = generation.law
    table = _grid("a step, by component")
    for label, condition, polynomial in _by_component(law.decode_law):
        table.add_row(f"  {in_line(label)}{condition}", Text(format_polynomial(polynomial, SIZES)))
    for condition, polynomial in by_pieces(law.decode_law):
        table.add_row(f"  a step{condition}", Text(format_polynomial(polynomial, SIZES)))
    table.add_row(Text("a generation", style="bold"))
    for condition, polynomial in law.closed_forms():
        where = f", {condition}" if condition else ""
        table.add_row(f"  total{where}", Text(format_polynomial(polynomial, SIZES)))
    fitted, validated = law.traces - 2 * len(law.validated), len(law.validated)
    table.add_row(Text("fitted", style="bold"), f"from {fitted} traces, validated on {validated} other points")
    return table


def by_pieces(law: LengthLaw, component: str | None = None) -> list[tuple[str, Polynomial]]:
    """A condition on the length, and the polynomial, of each piece in which it is another one."""
    runs: list[tuple[int, int, Polynomial]] = []
    for piece in law.pieces:
        polynomial = law.polynomial(piece, component)
        if runs and runs[-1][2] == polynomial:
            runs[-1] = (runs[-1][0], piece.last, polynomial)
        else:
            runs.append((piece.first, piece.last, polynomial))
    return [(_condition(first, last, law.first, law.last), polynomial) for first, last, polynomial in runs]


def _by_component(law: LengthLaw) -> Iterator[tuple[str, str, Polynomial]]:
    """Label, condition and polynomial; consecutive components with equal polynomials are one row."""
    groups: list[tuple[list[str], list[tuple[str, Polynomial]]]] = []
    for component in law.components:
        rows = by_pieces(law, component)
        if not any(polynomial for _, polynomial in rows):
            continue
        if groups and groups[-1][1] == rows and "," not in format_components([groups[-1][0][-1], component]):
            groups[-1][0].append(component)
        else:
            groups.append(([component], rows))
    for components, rows in groups:
        label = format_components(components) + (", each" if len(components) > 1 else "")
        for condition, polynomial in rows:
            yield label, condition, polynomial


def _condition(first: int, last: int, least: int, most: int) -> str:
    if first == last and least < most:
        return f", length = {first:,}"
    parts = [f"length ≥ {first:,}"] * (first > least) + [f"length ≤ {last:,}"] * (last < most)
    return f", {', '.join(parts)}" if parts else ""


def _grid(title: str) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(title, style="bold"))
    return table


def _notes(generation: GenerationData) -> Sequence[str]:
    law = generation.law
    notes = [f"note: {note}" for note in generation.notes]
    if law.followed < law.decode_law.last:
        notes.append(f"note: each token is a call of its own: lengths above {law.followed:,} were not traced")
    notes += [f"no rule: {target}: the numbers are lower bounds" for target in generation.prefill.unsupported_ops()]
    notes += [f"assumption: {line}" for line in generation.prefill.assumptions[:5]]
    return notes
