"""Report: the answer of ``analyze``, printed, explained, compared, saved and read again."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Self, TextIO

from graphflops.report.conventions import Convention, convention_named
from graphflops.report.data import Query, ReportData
from graphflops.report.differences import Comparison, compare
from graphflops.report.files import write_whole
from graphflops.report.json_format import dumps, load


class Report(ReportData):
    """What one step of a model costs, where, and why. Numbers are exact integers, in FLOPs of ``convention``."""

    def explanation(self, what: str = "") -> str:
        """Why a number is what it is: for a module path, a component, an Op or an operator, each Op's formula, the
        sizes in it, the rule with file and line, and the source line of the call.

        Raises:
            UsageError: there is none of these.
        """
        if self.convention.counts:  # a tool's numbers have no formula of ours: how they come of ours, line by line
            return str(replace(self, entries=self.select(what)).under("standard").compared(self.convention))
        from graphflops.report.text import explained  # which needs rich

        return explained(self, self.select(what), what)

    def compared(self, convention: str | Path | Convention, phase: Query = "forward") -> Comparison:
        """From this report's number to that of another convention, line by line; ``print`` it, or read its ``lines``.

        Raises:
            UsageError: there is no such convention or phase.
        """
        return compare(self, convention_named(convention), phase)

    def explain(self, what: str = "", file: TextIO | None = None) -> None:
        """Print the ``explanation`` of a module path, a component or an Op."""
        print(self.explanation(what), file=file or sys.stdout)

    def to_json(self, path: str | Path) -> Path:
        """Write the whole report to a file, from which ``from_json`` makes an equal one.

        Raises:
            UsageError: the path cannot be written.
        """
        return write_whole(path, dumps(self))

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a report that ``to_json`` wrote, on a machine that need not have the model.

        Raises:
            UsageError: there is no such file, or it is not a report of a known version.
        """
        return load(path, cls)

    def __str__(self) -> str:
        from graphflops.report.text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"<Report of {self.model}: {self.total:,} FLOPs ({self.convention.name})>"
