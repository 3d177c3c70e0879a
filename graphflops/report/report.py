"""Report: the result of ``analyze``, to print, explain, compare, save and read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, overload

from graphflops.core.retired import renamed
from graphflops.report.conventions import Convention, convention_named
from graphflops.report.data import Query, ReportData
from graphflops.report.differences import ConventionDiff, compare
from graphflops.report.exports.rows import By
from graphflops.report.files import write_atomic
from graphflops.report.json_format import dumps, load

if TYPE_CHECKING:
    import pandas

    from graphflops.report.exports.sections import Section


class Report(ReportData):
    """The FLOPs of one training step or forward pass. Numbers are exact integers, in the unit of ``convention``."""

    def explain(self, name: str = "") -> str:
        """Explain the numbers of a module path, a component, an op or an operator, or of all that a pattern matches.

        The text lists the formula of each op with its sizes, the rule with file and line, and the source line of the
        call. Under the convention of a tool, it lists the differences to the standard convention.

        Raises:
            UsageError: there is no module, component, op or operator of this name.
        """
        entries = self.select(name)
        if self.convention.counts:  # the numbers of a tool have no formula here
            return str(self.with_entries(entries).with_convention("standard").diff(self.convention))
        from graphflops.report.explanation import explain

        return explain(self, entries, name)

    def diff(self, convention: str | Path | Convention, phase: Query = "forward") -> ConventionDiff:
        """Compare the numbers of a phase under this and another convention, row by row.

        Raises:
            UsageError: there is no such convention or phase.
        """
        return compare(self, convention_named(convention), phase)

    def by_role(self, phase: Query = "forward") -> dict[str, int]:
        """Role → FLOPs, with the total as their sum: attention, MLP, norm, …; see ``graphflops.report.roles``."""
        from graphflops.report.roles import by_role

        return by_role(self, phase)

    def table(
        self,
        *,
        depth: int | None = None,
        top: int | None = None,
        min_share: float | None = None,
        sort: Literal["cost", "order"] = "cost",
        phase: Query = "total",
        columns: Sequence[str] | None = None,
        by: Literal["module", "operator", "role"] = "module",
        width: int | None = None,
    ) -> str:
        """The table of modules as text; equal blocks are one row, and rows below 0.1 % are summed.

        Args:
            depth: levels of modules below the model; without any choice of rows, as many as fit on a page.
            top: rows of each module; the others are summed in one row.
            min_share: share of the FLOPs, and of the parameters, below which rows are summed in one row.
            sort: ``"cost"``, the most expensive first, or ``"order"``, as in the model.
            phase: the phase that is shown, sorted by, and of which the shares are.
            columns: names from ``graphflops.report.table.COLUMNS``; by default those that there is room for.
            by: what the rows are.
            width: characters of a line; by default those of the terminal.

        Raises:
            UsageError: an argument has a value that is not accepted.
        """
        from graphflops.report.table import TableOptions, table_text

        return table_text(self, TableOptions(depth, top, min_share, sort, phase, columns, by), width)

    def to_json(self, path: str | Path) -> Path:
        """Write the report to a file, from which ``from_json`` reads an equal one.

        Raises:
            UsageError: the path cannot be written.
        """
        return write_atomic(path, dumps(self))

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a report that ``to_json`` wrote; neither the model nor torch is needed.

        Raises:
            UsageError: there is no such file, or it is not a report of a known version.
        """
        return load(path, cls)

    @overload
    def to_csv(self, path: None = None, *, by: By = "module") -> str: ...
    @overload
    def to_csv(self, path: str | Path, *, by: By = "module") -> Path: ...
    def to_csv(self, path: str | Path | None = None, *, by: By = "module") -> str | Path:
        """Return the report as CSV, a row for each module or each op (``by="op"``), or write it to a file.

        Raises:
            UsageError: there are no such rows, or the path cannot be written.
        """
        from graphflops.report.exports.csv_format import as_csv

        return _deliver(as_csv(self, by), path)

    def to_dataframe(self, *, by: By = "module") -> pandas.DataFrame:
        """Return the report as a pandas DataFrame, a row for each module or each op (``by="op"``).

        Raises:
            UsageError: there are no such rows, or pandas is not installed.
        """
        from graphflops.report.exports.dataframe import as_dataframe

        return as_dataframe(self, by)

    @overload
    def to_html(self, path: None = None, *, sections: Iterable[Section] = ()) -> str: ...
    @overload
    def to_html(self, path: str | Path, *, sections: Iterable[Section] = ()) -> Path: ...
    def to_html(self, path: str | Path | None = None, *, sections: Iterable[Section] = ()) -> str | Path:
        """Return the report as a page that needs no other file and no network, or write it to a file.

        ``sections`` are added to the page.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.report.exports.html import html_page

        return _deliver(html_page(self, sections), path)

    @overload
    def to_trace(self, path: None = None) -> str: ...
    @overload
    def to_trace(self, path: str | Path) -> Path: ...
    def to_trace(self, path: str | Path | None = None) -> str | Path:
        """Return the report as trace events for Perfetto and ``chrome://tracing``, or write them to a file.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.report.exports.trace import as_trace

        return _deliver(as_trace(self), path)

    def to_picture(self, path: str | Path, *, phase: Query = "total") -> Path:
        """Draw the modules into an SVG, PNG or PDF file: each is as wide as its share of the FLOPs of a phase.

        Raises:
            UsageError: the name ends in another way, there is no such phase, the path cannot be written, or matplotlib,
                which PNG and PDF need, is not installed.
        """
        from graphflops.report.exports.pictures import picture

        return write_atomic(path, picture(self, path, phase))

    @overload
    def to_markdown(self, path: None = None) -> str: ...
    @overload
    def to_markdown(self, path: str | Path) -> Path: ...
    def to_markdown(self, path: str | Path | None = None) -> str | Path:
        """Return the report as Markdown that fits in a pull request, or write it to a file.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.report.exports.markdown import as_markdown

        return _deliver(as_markdown(self), path)

    @overload
    def to_dot(self, path: None = None) -> str: ...
    @overload
    def to_dot(self, path: str | Path) -> Path: ...
    def to_dot(self, path: str | Path | None = None) -> str | Path:
        """Return the tree of modules in the DOT language of Graphviz, coloured by share, or write it to a file.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.report.exports.dot import as_dot

        return _deliver(as_dot(self), path)

    explanation, compared = renamed("explain"), renamed("diff")

    def __str__(self) -> str:
        from graphflops.report.text import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from graphflops.report.exports.notebook import notebook_html

        return notebook_html(self)

    def __repr__(self) -> str:
        return f"<Report of {self.model}: {self.total:,} FLOPs ({self.convention.name})>"


def _deliver(text: str, path: str | Path | None) -> str | Path:
    """The text, or the path of the file that it was written to."""
    return text if path is None else write_atomic(path, text)
