"""A report as a pandas DataFrame, whose sums are exact. pandas is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphflops.core.errors import UsageError
from graphflops.report.data import ReportData
from graphflops.report.exports.rows import By, Cell, rows

if TYPE_CHECKING:
    import pandas

_MAX_INT64 = 2**63 - 1


def as_dataframe(report: ReportData, by: By = "module") -> pandas.DataFrame:
    """A report as a DataFrame: a row for each module or each op; ``attrs`` has the model, unit and convention.

    Columns of numbers are ``int64``, or ``Int64`` where a number is not known (``pandas.NA``). A column whose sum does
    not fit is of Python's integers, ``object``.

    Raises:
        UsageError: ``by`` is neither ``"module"`` nor ``"op"``, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError(
            "a DataFrame needs pandas: pip install 'graphflops[dataframe]', or to_csv(), which needs nothing"
        ) from error
    table = rows(report, by)
    columns: dict[str, Any] = {}
    for name in table.columns:
        cells = table.column(name)
        columns[name] = pandas.Series(cells, dtype=_dtype(cells))
    frame = pandas.DataFrame(columns)
    frame.attrs.update(model=report.model, unit=report.convention.unit, convention=report.convention.name)
    return frame


def _dtype(cells: list[Cell]) -> str:
    """The dtype of a column in which its cells, and their sum, are exact."""
    if any(isinstance(cell, str) for cell in cells):
        return "str"
    numbers = [cell for cell in cells if isinstance(cell, int)]
    if sum(numbers) > _MAX_INT64:
        return "object"
    return "int64" if len(numbers) == len(cells) else "Int64"
