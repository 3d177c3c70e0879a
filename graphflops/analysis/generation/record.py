"""The answer of a generation, to print, save and read again. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from graphflops.analysis.generation.data import GenerationData
from graphflops.report.files import write_atomic


class GenerationRecord(GenerationData):
    """The cost of a generation: its reports, its law, and the cache. Numbers are in the unit of the convention."""

    def to_json(self, path: str | Path) -> Path:
        """Write the reports, the law and the cache to a file, from which ``GenerationRecord.from_json`` reads them.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.analysis.generation.generation_json import dumps

        return write_atomic(path, dumps(self))

    @staticmethod
    def from_json(path: str | Path) -> GenerationRecord:
        """Read what ``to_json`` wrote; needs neither the model nor torch.

        Raises:
            UsageError: there is no such file, or it is not a generation of a known version.
        """
        from graphflops.analysis.generation.generation_json import load

        return load(path, GenerationRecord)

    def __str__(self) -> str:
        from graphflops.analysis.generation.generation_text import generation_text

        return generation_text(self)
