"""A law as a section of the HTML page of a report: a curve over each size, and the expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from graphflops.analysis.scaling.law_terms import LawPhase, LawTerms
from graphflops.analysis.scaling.law_text import component_costs, group_components
from graphflops.analysis.scaling.notation import format_polynomial
from graphflops.report.exports.charts import Chart, Curve
from graphflops.report.exports.sections import Section

MAX_COMPONENTS = 4
"""curves of a chart beside that of the whole"""
DOUBLINGS = 4
"""below and above the base value, where no values are given"""


def law_section(law: LawTerms, values: Mapping[str, Sequence[int]], phase: LawPhase = "total") -> Section:
    """A chart over each size with its values, the others at their base values, and the expression of each component.

    Raises:
        UsageError: there is no such size or phase, or a size may not have a value.
    """
    law.check_sizes(values)
    names = tuple(law.sizes)
    return Section(
        "Scaling law",
        f"{law.convention.unit}s of {law.model} at any sizes, exact; fitted from {law.traces - len(law.validated)} "
        f"traces, validated on {len(law.validated)}; base values "
        + ", ".join(f"{name} = {size.base:,}" for name, size in law.sizes.items()),
        charts=[chart for name in values or names for chart in _charts(law, name, values.get(name, ()), phase)],
        header=("component", phase),
        rows=[
            *(
                (f"{label}, each" if len(components) > 1 else label, format_polynomial(polynomial, names))
                for label, components, polynomial in group_components(law, phase)
            ),
            ("total", format_polynomial(law.polynomial(phase), names)),
        ],
        notes=[f"no rule for {target}: the law is a lower bound" for target in law.unknown],
    )


def _charts(law: LawTerms, name: str, values: Sequence[int], phase: LawPhase) -> Iterator[Chart]:
    """The chart over a size, unless nothing depends on it."""
    size = law.sizes[name]
    factors = (2.0**power for power in range(-DOUBLINGS, DOUBLINGS + 1))
    values = values or sorted({size.round_down(max(1, int(size.base * factor))) for factor in factors})
    totals = law.sweep(name, values, phase)
    if len(set(totals)) == 1:
        return
    curves = [("all", totals)]
    components = component_costs(law, name, values, phase)
    curves += components[:MAX_COMPONENTS] if len(components) > 1 else []
    yield Chart(
        f"{law.model}, {phase}, by {name}",
        name,
        f"{law.convention.unit}s",
        [
            Curve(label, [(value, cost) for value, cost in zip(values, costs, strict=True) if cost])
            for label, costs in curves
            if any(costs)
        ],
        log_x=True,
        log_y=True,
    )
