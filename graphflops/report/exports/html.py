"""A report as one HTML file that needs nothing else: no network, no other file.

The page has an icicle and a table of the modules, and for a selected one its formulas, sizes, rules and lines. The data
are in it as JSON, and its script adds them up (``page/``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from graphflops.core.characters import in_line
from graphflops.core.entries import PHASES, missing_rules
from graphflops.core.units import format_si
from graphflops.report.data import Query, ReportData, phases_of
from graphflops.report.exports.module_tree import module_tree
from graphflops.report.exports.sections import SECTIONS, Section, section_html

_SCRIPTS = ("tree", "format", "icicle", "table", "detail", "main")
_QUERIES: tuple[Query, ...] = ("total", "forward", "backward", "dgrad", "wgrad", "recompute", "optimizer")
_COLUMNS: tuple[Query, ...] = ("forward", "backward", "recompute", "optimizer")
_DETAILS: tuple[Query, ...] = ("forward", "backward", "dgrad", "wgrad", "recompute", "optimizer", "total")


def html_page(report: ReportData, sections: Iterable[Section] = ()) -> str:
    """A report as the text of an HTML file, with further sections at its end."""
    own_sections = [section for make in SECTIONS if (section := make(report)) is not None]
    return Template(_file("page.html")).substitute(
        title=_text(f"{report.model} · graphflops"),
        model=_text(report.model),
        about=_text(_about(report)),
        banner=_banner(report),
        figures="".join(_figures(report)),
        style=_file("page.css"),
        script="\n".join(_file(f"{name}.js") for name in _SCRIPTS),
        sections="".join(section_html(section) for section in (*sections, *own_sections)),
        footer=_text(
            f"graphflops · numbers are exact, in {report.convention.unit}s of the convention {report.convention.name}"
        ),
        data=script_json(page_data(report)),
    )


def page_data(report: ReportData) -> Mapping[str, Any]:
    """The data of the page: the tree of modules, and which numbers it shows."""
    tree = module_tree(report)
    phases = [query for query in _COLUMNS if report.work(query)] or ["forward"]
    if any(entry.ranges for entry in report.entries):
        variants = ["full", *(("lower", "upper") if report.has_bounds else ())]
    else:
        variants = []
    return {
        "model": in_line(report.model),
        "unit": report.convention.unit,
        "phases": PHASES,
        "queries": {query: [PHASES.index(phase) for phase in phases_of(query)] for query in _QUERIES},
        "choices": ["total", *phases] if len(phases) > 1 else [],
        "columns": ["total", *phases] if len(phases) > 1 else phases,
        "details": _DETAILS if len(phases) > 1 else phases,
        "variants": variants,
        "hasOutputs": any(report.info.output_shapes.values()),
        "texts": tree.texts,
        "ops": tree.ops,
        "nodes": tree.nodes,
    }


def script_json(data: Any) -> str:
    r"""JSON that may stand in a ``<script>`` element: no text in it ends the element or starts a comment.

    >>> script_json({"model": "</script>"})
    '{"model":"\\u003c/script>"}'
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _about(report: ReportData) -> str:
    step = f"training step with {report.optimizer_name}" if report.optimizer_name else "forward pass"
    inputs = ", ".join(f"{name} {spec}" for name, spec in report.inputs.items()) or "no inputs"
    return f"{step} · {inputs} · {report.convention.name}: {report.convention.about}"


def _figures(report: ReportData) -> Iterable[str]:
    """The totals, readable without the script."""
    unit = f"{report.convention.unit}s"
    phases = [query for query in _COLUMNS if report.flops(query)]
    shown: Sequence[tuple[str, int, str]] = [
        (f"total {unit}", report.total, "total"),
        *((query, report.flops(query), query) for query in phases if len(phases) > 1),
        *((("MACs of forward", report.macs, "macs"),) if unit == "FLOPs" else ()),
        ("parameters", sum(report.parameters.values()), "parameters"),
    ]
    for name, number, key in shown:
        yield f'<div data-figure="{key}"><dt>{name}</dt><dd>{format_si(number)}<small>{number:,}</small></dd></div>'


def _banner(report: ReportData) -> str:
    if not report.unknown:
        return ""
    message = f"Totals are lower bounds: some ops have no FLOP rule.\n\n{missing_rules(report.unknown)}"
    lines = (_text(line) for line in message.splitlines())
    return f'<details class="banner"><summary>{next(lines)}</summary>{"&#10;".join(lines)}</details>'


def _text(text: str) -> str:
    return escape(in_line(text))


@cache
def _file(name: str) -> str:
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")
