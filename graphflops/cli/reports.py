"""Reports of what a command names: a model, a saved report, or one of them at a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from graphflops.cli.commits import files_of, save_report_at, split_commit
from graphflops.cli.options import is_saved_report, optimizer_or_none
from graphflops.core.errors import UsageError
from graphflops.report.report import Report


@dataclass(frozen=True)
class Analysis:
    """The options of an analysis, as on the command line."""

    inputs: Sequence[str] = ()
    batch: int | None = None
    seq: int | None = None
    image: str | None = None
    optimizer: str = "adamw"
    inference: bool = False
    convention: str = "standard"
    attention: str = "flash"
    rules: Sequence[Path] = ()
    rates: Sequence[str] = ()

    def report(self, target: str) -> Report:
        """The report of a model, a saved report, or one of them as ``TARGET@COMMIT``.

        Raises:
            GraphflopsError: as for ``analyze`` and ``Report.from_json``, or there is no such commit.
        """
        target, commit = split_commit(target)
        if commit:
            return self._report_at(target, commit)
        return self._saved(target) if is_saved_report(target) else self._analyzed(target)

    @property
    def model_options(self) -> dict[str, object]:
        """The options that need a model, by name, where they are given."""
        given = {"--input": self.inputs, "--batch": self.batch, "--seq": self.seq, "--image": self.image}
        return {name: value for name, value in {**given, "--rules": self.rules, "--rate": self.rates}.items() if value}

    def _saved(self, path: str | Path) -> Report:
        return Report.from_json(path).with_convention(self.convention)

    def _analyzed(self, target: str) -> Report:
        from graphflops.analysis import pipeline
        from graphflops.cli import targets

        loaded = targets.model_and_inputs(
            target, self.inputs, batch=self.batch, seq=self.seq, image=self.image, training=not self.inference
        )
        targets.print_notes(loaded)
        return pipeline.analyze(
            *loaded,
            optimizer=optimizer_or_none(self.optimizer),
            training=not self.inference,
            rules=self.rules,
            convention=self.convention,
            attention=self.attention,  # type: ignore[arg-type]
            rates=targets.parse_rates(self.rates),
        )

    def _report_at(self, target: str, commit: str) -> Report:
        if is_saved_report(target):
            with files_of(commit) as (folder, _):
                return self._saved(folder / target)
        with TemporaryDirectory(prefix="graphflops-") as temporary:
            path = Path(temporary) / "report.json"
            save_report_at(target, commit, self._arguments(), path)
            return self._saved(path)

    def _arguments(self) -> list[str]:
        """The options as arguments of ``graphflops analyze``; rules are the files as they are now."""
        sizes = {"--batch": self.batch, "--seq": self.seq, "--image": self.image}
        named = {**sizes, "--optimizer": self.optimizer, "--attention": self.attention}
        repeated = {
            "--input": self.inputs,
            "--rate": self.rates,
            "--rules": [path.resolve() if path.exists() else path for path in self.rules],
        }
        return [
            *(f"{name}={value}" for name, value in named.items() if value is not None),
            *(f"{name}={value}" for name, values in repeated.items() for value in values),
            *(["--inference"] if self.inference else []),
        ]


def refuse_for_saved_reports(analysis: Analysis, *given: str) -> None:
    """Refuse options that need a model if only saved reports are given.

    Raises:
        UsageError: there are such options.
    """
    if analysis.model_options and all(is_saved_report(split_commit(target)[0]) for target in given):
        names = ", ".join(analysis.model_options)
        raise UsageError(f"{names}: not for saved reports; analyze the models again")
