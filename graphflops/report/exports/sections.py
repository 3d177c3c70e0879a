"""Sections of the HTML page beside the modules: charts, tables and notes of any analysis, as plain records.

A section is drawn without JavaScript. ``SECTIONS`` lists the functions that make one of a report; an analysis that
needs more than a report, such as a law, hands its sections to ``to_html``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from graphflops.core.characters import in_line, safe
from graphflops.report.data import ReportData
from graphflops.report.exports.charts import Chart, chart_svg


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, a line on it, and what it shows; texts are plain, not HTML."""

    title: str
    about: str = ""
    charts: Sequence[Chart] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    """the rows of a table under ``header``"""
    notes: Sequence[str] = ()


def section_html(section: Section) -> str:
    """A section as HTML; every text is escaped."""
    parts = [f"<h2>{_text(section.title)}</h2>"]
    if section.about:
        parts.append(f'<p class="about">{_text(section.about)}</p>')
    if section.charts:
        figures = (
            f"<figure><figcaption>{_text(chart.title)}</figcaption>{chart_svg(chart)}</figure>"
            for chart in section.charts
        )
        parts.append(f'<div class="charts">{"".join(figures)}</div>')
    if section.rows:
        head = "".join(f'<th scope="col">{_text(name)}</th>' for name in section.header)
        rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
        parts.append(
            f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    if section.notes:
        notes = "".join(f"<li>{_text(note)}</li>" for note in section.notes)
        parts.append(f'<ul class="notes">{notes}</ul>')
    return f"<section>{''.join(parts)}</section>"


def notes_of(report: ReportData) -> Section | None:
    """Rates, assumptions and warnings: they say how far the numbers hold."""
    notes = [f"rate of {path or report.model}: {rate}" for path, rate in report.rates.items()]
    routed = [path for path in report.routed_modules if path not in report.rates]
    if routed:
        notes.append(f"routing is assumed to be balanced in {len(routed)} modules, such as {routed[0]}")
    notes += [f"assumption: {note}" for note in report.assumptions]
    notes += [f"warning: {note}" for note in report.warnings]
    notes += report.capture_notes
    return Section("Notes", f"coverage: {report.coverage}", notes=notes)


def _text(text: str) -> str:
    return escape(in_line(safe(text)))


SECTIONS: list[Callable[[ReportData], Section | None]] = [notes_of]
"""makers of the sections that a report has by itself; None where there is nothing to show"""
