"""A plot of a law: the cost over a size on logarithmic axes, with its largest components."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphflops.analysis.scaling.law_terms import LawPhase, LawTerms
from graphflops.analysis.scaling.law_text import component_costs
from graphflops.analysis.scaling.notation import format_degree, format_polynomial
from graphflops.analysis.scaling.one_size import degree
from graphflops.core.errors import UsageError
from graphflops.core.units import format_si
from graphflops.report.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg", "pdf")
MAX_COMPONENTS = 4
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""distinguishable with any colour vision (Okabe and Ito)"""
INK, FAINT = "#222222", "#8a8a8a"
LABEL_GAP = 0.062
"""between labels, as a share of the axis"""


def plot(law: LawTerms, size: str, values: Sequence[int], path: str | Path, phase: LawPhase = "total") -> Path:
    """Plot the cost of a phase over the values of a size, and its largest components, as a PNG, SVG or PDF.

    Raises:
        UsageError: matplotlib is not installed, the format is none of these, or the path cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise UsageError(f"cannot plot into {path}: give a name that ends in .{', .'.join(FORMATS)}")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib: pip install 'graphflops[plot]'") from error

    with matplotlib.rc_context({"svg.hashsalt": "graphflops", "font.size": 11, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(9.6, 5.4), dpi=200, layout="constrained")
        _draw(figure.add_subplot(), law, size, values, phase)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
        figure.savefig(buffer, format=kind, metadata=metadata)
    return write_atomic(path, buffer.getvalue())


def _draw(axes: Axes, law: LawTerms, size: str, values: Sequence[int], phase: LawPhase) -> None:
    label: str = "whole step" if phase == "total" else phase
    curves = [(label, law.sweep(size, values, phase))]
    components = [component for component in component_costs(law, size, values, phase) if all(component[1])]
    if len(components) > 1:
        curves += components[:MAX_COMPONENTS]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    labels = []
    for i, (label, costs) in enumerate(curves):
        colour = INK if i == 0 else COLOURS[i - 1]
        axes.plot(
            values, costs, color=colour, linewidth=3 if i == 0 else 1.8, marker="o", markersize=5 if i == 0 else 3.5
        )
        labels.append((costs[-1], f"{label}  {format_si(costs[-1])}", colour, i == 0))
    lowest, highest = min(min(costs) for _, costs in curves), max(max(costs) for _, costs in curves)
    axes.set_ylim(lowest / 1.6, highest * 2)
    _label_lines(axes, values[-1], labels)
    axes.set_xticks(list(values), [f"{value:,}" for value in values])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: format_si(round(value)))
    axes.set_xlabel(size, color=INK)
    axes.set_ylabel(f"{law.convention.unit}s", color=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.tick_params(color=FAINT, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    order = degree(law.polynomial(phase), size)
    growth = f"grows as {format_degree(order, size)}" if any(order) else f"does not depend on {size}"
    cost = "a training step" if phase == "total" else phase
    axes.set_title(f"{law.model}: {cost} {growth}", loc="left", fontsize=15, fontweight="bold", color=INK, pad=26)
    fixed = {name: size_range.base for name, size_range in law.sizes.items() if name != size}
    formula = f"{format_polynomial(law.polynomial(phase).substitute(fixed), [size])} {law.convention.unit}s"
    condition = ", ".join(f"{name} = {value:,}" for name, value in fixed.items())
    subtitle = f"{formula}  at {condition}" if condition else formula
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, color=FAINT, fontsize=10.5)


def _label_lines(axes: Axes, x: int, labels: Sequence[tuple[int, str, str, bool]]) -> None:
    """Draw the names at the ends of the lines, moved apart where they would overlap."""
    from math import log10

    low, high = (log10(limit) for limit in axes.get_ylim())
    gap = (high - low) * LABEL_GAP
    placed: list[float] = []
    for cost, label, colour, bold in sorted(labels, key=lambda item: -item[0]):
        y = log10(cost)
        if placed:
            y = min(y, placed[-1] - gap)
        placed.append(y)
        axes.annotate(
            label,
            (x, 10**y),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold" if bold else "normal",
            annotation_clip=False,
        )
