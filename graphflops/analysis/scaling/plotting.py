"""A picture of a law, for a slide: the cost over a size, both on logarithmic scales, and what it is made of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphflops.analysis.scaling.law_text import runs
from graphflops.analysis.scaling.notation import exponent, written
from graphflops.core.errors import UsageError
from graphflops.core.units import si
from graphflops.report.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from graphflops.analysis.scaling.laws import Law, Query

FORMATS = ("png", "svg", "pdf")
SHOWN = 4
"""how many components are drawn beside the whole"""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""told apart by everybody (Okabe and Ito)"""
INK, FAINT = "#222222", "#8a8a8a"


def plot(law: Law, size: str, values: Sequence[int], path: str | Path, phase: Query = "total") -> Path:
    """Draw what a phase costs over the values of a size, and its largest components, into a PNG, SVG or PDF.

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
        axes = figure.add_subplot()
        _draw(axes, law, size, values, phase)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
        figure.savefig(buffer, format=kind, metadata=metadata)
    return write_whole(path, buffer.getvalue())


def _draw(axes: Axes, law: Law, size: str, values: Sequence[int], phase: Query) -> None:
    whole: str = "whole step" if phase == "total" else phase
    lines = [(whole, law.along(size, values, phase))]
    parts = [each for each in grouped(law, size, values, phase) if all(each[1])]
    if len(parts) > 1:
        lines += parts[:SHOWN]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ends = []
    for i, (label, costs) in enumerate(lines):
        colour = INK if i == 0 else COLOURS[i - 1]
        axes.plot(
            values, costs, color=colour, linewidth=3 if i == 0 else 1.8, marker="o", markersize=5 if i == 0 else 3.5
        )
        ends.append((costs[-1], f"{label}  {si(costs[-1])}", colour, i == 0))
    lowest, highest = min(min(costs) for _, costs in lines), max(max(costs) for _, costs in lines)
    axes.set_ylim(lowest / 1.6, highest * 2)
    _label_ends(axes, values[-1], ends)
    axes.set_xticks(list(values), [f"{each:,}" for each in values])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: si(round(value)))
    axes.set_xlabel(size, color=INK)
    axes.set_ylabel(f"{law.convention.unit}s", color=INK)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.tick_params(color=FAINT, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    degree = law.polynomial(phase).degree(size)
    grows = f"grows as O({size}{exponent(degree)})" if degree else f"does not depend on {size}"
    what = "a training step" if phase == "total" else phase
    others = ", ".join(f"{name} = {each.at:,}" for name, each in law.sizes.items() if name != size)
    axes.set_title(f"{law.model}: {what} {grows}", loc="left", fontsize=15, fontweight="bold", color=INK, pad=26)
    fixed = law.polynomial(phase).put({name: each.at for name, each in law.sizes.items() if name != size})
    formula = f"{written(fixed, [size])} {law.convention.unit}s"
    axes.text(
        0,
        1.02,
        f"{formula}" + (f"  at {others}" if others else ""),
        transform=axes.transAxes,
        color=FAINT,
        fontsize=10.5,
    )


def grouped(law: Law, size: str, values: Sequence[int], phase: Query) -> list[tuple[str, list[int]]]:
    """What components cost at the values of a size, the largest first; equal ones in a row together."""
    found = []
    for label, members, _ in runs(law, phase):
        each_of = (law.along(size, values, phase, name) for name in members)
        costs = [sum(at_once) for at_once in zip(*each_of, strict=True)]
        label = label.replace("layer_*", "all layers")
        found.append((label if len(members) == 1 else f"{label} ({len(members)})", costs))
    return sorted(found, key=lambda each: -each[1][-1])


def _label_ends(axes: Axes, x: int, ends: Sequence[tuple[int, str, str, bool]]) -> None:
    """Names at the ends of the lines, moved apart where they would lie on each other."""
    from math import log10

    low, high = (log10(each) for each in axes.get_ylim())
    gap = (high - low) * 0.062
    placed: list[float] = []
    for cost, label, colour, bold in sorted(ends, key=lambda each: -each[0]):
        at = log10(cost)
        if placed:
            at = min(at, placed[-1] - gap)
        placed.append(at)
        axes.annotate(
            label,
            (x, 10**at),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold" if bold else "normal",
            annotation_clip=False,
        )
