"""Line charts as SVG, in the colours of the page that they are in: light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from graphflops.core.characters import in_line
from graphflops.core.units import format_si

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 132, 12, 44
COLOURS = ("currentColor", "#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#39a0a0", "#d4ac2b")
MIN_GAP = 15.0
"""pixels between the names of two curves"""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) in the order of x, all positive on a logarithmic axis."""

    name: str
    points: Sequence[tuple[float, float]]
    only_points: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over a common axis; the first is drawn bold."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False


def chart_svg(chart: Chart) -> str:
    """A chart as an SVG element that scales with its page; nothing if there are no points."""
    curves = [curve for curve in chart.curves if curve.points]
    if not curves:
        return ""
    points = [point for curve in curves for point in curve.points]
    x = _Axis([x for x, _ in points], chart.log_x, LEFT, WIDTH - RIGHT)
    y = _Axis([y for _, y in points], chart.log_y, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{_text(chart.title)}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
    ]
    for value in y.ticks:
        at = y.place(value)
        parts.append(
            f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" opacity=".7">{_number(value)}</text>'
        )
    for value in _x_ticks(chart, x):
        at, below = x.place(value), HEIGHT - BOTTOM
        parts.append(
            f'<path d="M{at:.1f} {below}v4" stroke="currentColor" stroke-opacity=".5"/>'
            f'<text x="{at:.1f}" y="{below + 17}" text-anchor="middle" opacity=".7">{_whole(value)}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{_text(chart.x)}</text>'
        f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{_text(chart.y)}</text>"
    )
    ends = _apart([y.place(curve.points[-1][1]) for curve in curves])
    for i, (curve, end) in enumerate(zip(curves, ends, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        places = [(x.place(a), y.place(b), a, b) for a, b in curve.points]
        if not curve.only_points:
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b, _, _ in places)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{1.5 if i else 2.5}"/>'
            )
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"><title>{_text(curve.name)}: '
            f"{_whole(value_x)}, {_number(value_y)}</title></circle>"
            for a, b, value_x, value_y in places
        ]
        parts.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{end + 4:.1f}" fill="{colour}">{_text(_short(curve.name))}</text>'
        )
    return "".join([*parts, "</svg>"])


def _x_ticks(chart: Chart, axis: _Axis) -> Sequence[float]:
    """The values of the points themselves on a logarithmic axis, if they are few."""
    values = sorted({x for curve in chart.curves for x, _ in curve.points})
    return values if chart.log_x and len(values) <= 9 else axis.ticks


class _Axis:
    """Values on a line of pixels, linear from zero or logarithmic."""

    def __init__(self, values: Sequence[float], is_log: bool, start: float, end: float) -> None:
        self.is_log, self.start, self.end = is_log, start, end
        if is_log:
            self.low, self.high = math.log10(min(values)), math.log10(max(values))
        else:
            self.low, self.high = min(0.0, *map(float, values), 0.0), float(max(values))
        if self.low == self.high:
            self.high = self.low + 1

    def place(self, value: float) -> float:
        """The pixel of a value."""
        position = math.log10(value) if self.is_log else float(value)
        return self.start + (self.end - self.start) * (position - self.low) / (self.high - self.low)

    @property
    def ticks(self) -> list[float]:
        """At most seven round values in the range."""
        if not self.is_log:
            step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
            step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
            return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        powers = [10.0**i for i in range(math.ceil(self.low), math.floor(self.high) + 1)]
        if len(powers) >= 3:
            return powers[:: math.ceil(len(powers) / 7)]
        first = 2.0 ** math.ceil(self.low / math.log10(2))
        doubled = [first * 2**i for i in range(64) if math.log10(first * 2**i) <= self.high + 1e-9]
        return doubled[:: math.ceil(len(doubled) / 7)]


def _apart(places: Iterable[float]) -> list[float]:
    """Places with at least ``MIN_GAP`` between them, in the same order from above."""
    moved = list(places)
    last = -math.inf
    for i in sorted(range(len(moved)), key=moved.__getitem__):
        moved[i] = last = max(moved[i], last + MIN_GAP)
    return moved


def _number(value: float) -> str:
    return format_si(round(value)) if value >= 10 or value == int(value) else f"{value:.3g}"


def _whole(value: float) -> str:
    return f"{int(value):,}" if value == int(value) and value < 1e6 else _number(value)


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _text(text: str) -> str:
    return escape(in_line(text))
