"""The command that holds rules to witnesses: graphflops verify."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphflops.report.terminal import Terminal, say

if TYPE_CHECKING:
    from rich.table import Table

    from graphflops.models.published import Published
    from graphflops.verify.rule_check import Direction, Verification


def verify(
    target: Annotated[
        str | None, typer.Argument(help="PACKAGE.MODULE:FACTORY; ResNet-BK if left out", show_default=False)
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE, or NAME:=VALUE; once for each")
    ] = None,
    rules: Annotated[list[Path] | None, typer.Option(help="a file or folder of rules of your own")] = None,
) -> None:
    """Hold the rules of a model to two witnesses: single operations, and the products that autograd dispatches.

    Exit code 4 if multiply-adds differ; a difference in other classes is printed with what the rule says of it.
    """
    from graphflops.cli import targets
    from graphflops.core.errors import VerificationFailed
    from graphflops.models import published
    from graphflops.verify import rule_check

    model, args, kwargs = targets.model_and_inputs(target, inputs)
    found = rule_check.verify(model, args, kwargs, rules=rules)
    console = Terminal(highlight=False)
    console.print(_table(found))
    for line in _remarks(found):
        say(line)
    if target is None:
        console.print(_laws(published.PUBLISHED))
    if not found.passed:
        raise VerificationFailed(
            "multiply-adds of the rules are not those that autograd dispatches: see the last lines"
        )


def _table(found: Verification) -> Table:
    from graphflops.core.costs import WORK_CLASSES
    from graphflops.verify.rule_check import DIRECTIONS

    table = _new_table("operation", "", "class of work")
    for name in ("rule", "primitives", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found.checks:
        first = True
        for way in DIRECTIONS:
            for kind in WORK_CLASSES:
                rule_work, measured = int(getattr(each.rule_work[way], kind)), int(getattr(each.measured[way], kind))
                if rule_work or measured:
                    name = f"{each.calls}× {each.target}" if first else ""
                    table.add_row(name, way, kind, f"{rule_work:,}", f"{measured:,}", _difference(measured - rule_work))
                    first = False
    return table


def _new_table(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _difference(amount: int) -> str:
    return f"{amount:+,}".replace("-", "−") if amount else "0"


def _remarks(found: Verification) -> Iterator[str]:
    """What rules say of themselves where they differ; what is in no number; the products of the whole model."""
    differing = [each for each in found.checks if not each.agrees]
    if differing:
        yield ""
        yield "where they differ, the rule says:"
    for each in differing:
        yield f"    {each.target}" + (f": rule {each.rule}" if each.rule else "")
        yield from (f"        {line}" for line in textwrap.wrap(" ".join(each.about.split()), 104))
    for reason in found.not_counted:
        yield f"not counted: {reason}"
    for missing in found.unknown:
        yield f"unknown: {missing.target}, {missing.why}"
    yield ""
    for way, (rule_work, seen) in found.macs.items():
        verdict = "the same" if rule_work == seen else f"differs by {_difference(seen - rule_work)}"
        yield f"multiply-adds {way}: rules {rule_work:,}, dispatched by autograd {seen:,}: {verdict}"
    yield ""


def _laws(published: tuple[Published, ...]) -> Table:
    """The published formulas beside what the code executes, as polynomials."""
    from graphflops.verify.rule_check import DIRECTIONS

    table = _new_table("of one row", "", "published", "executed", "difference", "by class")
    for each in published:
        for way in DIRECTIONS:
            table.add_row(each.name, way, *_law(each, way))
    return table


def _law(published: Published, way: Direction) -> Iterator[str]:
    import sympy

    from graphflops.core.costs import Work
    from graphflops.models.published import executed_law
    from graphflops.report.conventions import STANDARD

    law = executed_law(published, way)
    size = sympy.Symbol(published.size, integer=True, positive=True)
    rule_work = getattr(published, way) * size
    weighed = sum(each * STANDARD.flops(Work(**{name: 1})) for name, each in law.items())
    classes = ", ".join(f"{name} {_written(each)}" for name, each in law.items())
    return map(str, (_written(rule_work), _written(weighed), _written(sympy.expand(weighed - rule_work)), classes))


def _written(law: object) -> str:
    return str(law).replace("**", "^").replace("*", "·").replace("-", "−")
