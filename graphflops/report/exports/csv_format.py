"""A report as CSV (RFC 4180 with LF): exact integers, and texts that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
import re

from graphflops.core.characters import in_line
from graphflops.report.data import ReportData
from graphflops.report.exports.rows import By, Cell, rows

_FORMULA = re.compile(r"(^|[;,])(\s*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001
r"""where a spreadsheet may take a text for a formula: at its beginning, and after what another locale separates by"""


def as_csv(report: ReportData, by: By = "module") -> str:
    """A report as CSV: a header, and a row for each module or each op. A number that is not known is empty.

    A name with a beginning such as ``=`` has a ``'`` before it, as spreadsheets write text. Control characters are
    escaped, so that a row is a line.

    Raises:
        UsageError: ``by`` is neither ``"module"`` nor ``"op"``.
    """
    table = rows(report, by)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_cell(cell) for cell in row] for row in table.rows)
    return file.getvalue()


def _cell(cell: Cell) -> Cell:
    return _FORMULA.sub(r"\1\2'", in_line(cell)) if isinstance(cell, str) else cell
