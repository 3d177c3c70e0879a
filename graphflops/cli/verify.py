"""The command that verifies the rules of a model: verify."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphflops.cli import options
from graphflops.core.errors import VerificationFailed
from graphflops.report.terminal import Terminal, say

if TYPE_CHECKING:
    from rich.table import Table

    from graphflops.models.published import Published
    from graphflops.verify.rule_check import Direction, Verification


def verify(
    target: options.Target = None,
    inputs: options.Inputs = None,
    batch: options.Batch = None,
    seq: options.Seq = None,
    image: options.Image = None,
    rules: options.Rules = None,
) -> None:
    """Verify the rules of a model against two independent counts: scalar ops, and multiply-adds autograd dispatches.

    Exit code 4 if multiply-adds differ. Differences in other classes of work are printed with the rule's explanation.
    """
    from graphflops.cli import targets
    from graphflops.models import published
    from graphflops.verify import rule_check

    loaded = targets.model_and_inputs(target, inputs, batch=batch, seq=seq, image=image)
    targets.print_notes(loaded)
    verification = rule_check.verify(*loaded, rules=rules)
    console = Terminal(highlight=False)
    console.print(_comparison_table(verification))
    for line in _remarks(verification):
        say(line)
    if target is None:
        console.print(_published_table(published.PUBLISHED))
    if not verification.passed:
        raise VerificationFailed("multiply-adds of the rules are not those autograd dispatches: see the last lines")


def _comparison_table(verification: "Verification") -> "Table":
    from graphflops.core.costs import WORK_CLASSES
    from graphflops.verify.rule_check import DIRECTIONS

    table = _new_table("operation", "", "class of work")
    for name in ("rule", "scalar ops", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for check in verification.checks:
        name = f"{check.calls}× {check.target}"
        for direction in DIRECTIONS:
            for kind in WORK_CLASSES:
                by_rule = int(getattr(check.rule_work[direction], kind))
                measured = int(getattr(check.measured[direction], kind))
                if by_rule or measured:
                    difference = _difference(measured - by_rule)
                    table.add_row(name, direction, kind, f"{by_rule:,}", f"{measured:,}", difference)
                    name = ""  # once per op
    return table


def _new_table(*names: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _difference(count: int) -> str:
    return f"{count:+,}".replace("-", "−") if count else "0"


def _remarks(verification: "Verification") -> Iterator[str]:
    """The explanations of rules that differ, operations that are not counted, and the multiply-adds of the model."""
    differing = [check for check in verification.checks if not check.agrees]
    if differing:
        yield ""
        yield "rules that differ, with their explanation:"
    for check in differing:
        yield f"    {check.target}" + (f": rule {check.rule}" if check.rule else "")
        yield from (f"        {line}" for line in textwrap.wrap(" ".join(check.about.split()), 104))
    for reason in verification.not_counted:
        yield f"not counted: {reason}"
    for missing in verification.unknown:
        yield f"unsupported: {missing.target}, {missing.why}"
    yield ""
    for direction, (by_rules, dispatched) in verification.macs.items():
        verdict = "equal" if by_rules == dispatched else f"difference {_difference(dispatched - by_rules)}"
        yield f"multiply-adds {direction}: rules {by_rules:,}, dispatched by autograd {dispatched:,}: {verdict}"
    yield ""


def _published_table(published: tuple["Published", ...]) -> "Table":
    """The published formulas and what the code executes, as polynomials."""
    from graphflops.verify.rule_check import DIRECTIONS

    table = _new_table("per row", "", "published", "executed", "difference", "by class")
    for formula in published:
        for direction in DIRECTIONS:
            table.add_row(formula.name, direction, *_formula_cells(formula, direction))
    return table


def _formula_cells(published: "Published", direction: "Direction") -> Iterator[str]:
    import sympy

    from graphflops.core.costs import Work
    from graphflops.models.published import executed_formula
    from graphflops.report.conventions import STANDARD

    executed = executed_formula(published, direction)
    size = sympy.Symbol(published.size, integer=True, positive=True)
    claimed = getattr(published, direction) * size
    total = sum(formula * STANDARD.flops(Work(**{name: 1})) for name, formula in executed.items())
    classes = ", ".join(f"{name} {_format_formula(formula)}" for name, formula in executed.items())
    return map(str, (*map(_format_formula, (claimed, total, sympy.expand(total - claimed))), classes))


def _format_formula(formula: object) -> str:
    return str(formula).replace("**", "^").replace("*", "·").replace("-", "−")
