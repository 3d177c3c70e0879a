"""Runs entries in worker processes: one row of JSON for each, with both counts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from page import FINE, verdict
from zoo import Entry, entries, installed

sys.path.append(str(Path(__file__).parents[1] / "tracing"))  # for state.py

Row = dict[str, Any]


def measure(entry: Entry, rules: Sequence[str] = (), *, unfold: bool = False) -> Row:
    """The row of an entry, which includes any error and the stage that raised it.

    With ``unfold``, the report is compared with the report without folding.
    """
    import sympy  # noqa: F401, which adds a filter of warnings when it is first imported
    from state import differences, state_of

    from graphflops import analyze
    from graphflops.analysis.mac_counter import count_macs
    from graphflops.report.json_format import dumps

    row: Row = {"family": entry.family, "name": entry.name}
    if entry.refused:
        return {**row, "refused": entry.refused}
    if entry.package and not (version := installed(entry.package)):
        return {**row, "failed": "zoo", "error": f"{entry.package} is not installed"}
    if entry.package:
        row["version"] = version
    stage = "zoo"
    try:
        case = entry.build()
        call = case.model, case.args, case.kwargs
        before = state_of(*call, files=False)
        stage, start = "graphflops", time.perf_counter()

        def analyzed(fold: bool) -> Any:  # from one line, the source line of models that only torch defines
            options = {"attention": "math", "rules": rules or None, "fold": fold}
            return analyze(case.model, case.args, case.kwargs, **options)

        report = analyzed(fold=True)
        row["seconds"] = round(time.perf_counter() - start, 2)
        if unfold:
            unfolded = analyzed(fold=False)
            row["unfolded"] = (
                "the same" if unfolded == report and dumps(unfolded) == dumps(report) else "another report"
            )
        coverage = report.coverage
        row |= {"ops": coverage.ops, "counted": coverage.counted, "zero": coverage.zero}
        row["unknown"] = dict(report.unsupported_ops())
        row["capture"] = list(report.capture_notes)
        row["assumed"] = len(report.assumptions)
        stage = "reference"
        dispatched = count_macs(case.model, case.args, case.kwargs)
        # a checkpoint's recomputed forward is dispatched during backward
        backward = report.work("backward") + report.work("recompute")
        row["forward"] = [int(report.work("forward").macs), dispatched.forward]
        row["backward"] = [int(backward.macs), dispatched.backward]
        stage = "isolation"
        row["changed"] = differences(before, state_of(*call, files=False))[:3]
        if entry.published is not None:
            row["published"] = [round(row["forward"][0] / 1e9, 3), entry.published]
    except Exception as error:
        row |= {"failed": stage, "error": one_line(error)}
    return row


def one_line(error: Exception) -> str:
    """The message of an error without line breaks and without absolute paths."""
    text = str(error)
    fields = dict(re.findall(r"^ {4}(where|reason) +(.*)$", text, re.MULTILINE))
    text = " ".join(text.split())
    if fields.keys() == {"where", "reason"}:
        text = f"{fields['reason']} (in {fields['where']})"
    else:
        text = f"{type(error).__name__}: {text}"
    text = re.sub(r"(?:/[^\s/:]+)+/(?:site-packages|lib/python[\d.]+)/", "", text)
    for folder in (*filter(None, sys.path), Path(__file__).parents[2]):
        text = text.replace(f"{folder}/", "")
    return text if len(text) <= 400 else text[:399] + "…"


# -- in the worker -------------------------------------------------------------------------------------------------


def run_worker(rules: Sequence[str], *, unfold: bool = False) -> None:
    """Read keys of entries from standard input, and write the row of each to standard output, and nothing else."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    entries_by_key: dict[str, Entry] = {}
    for line in sys.stdin:
        family, _, _ = (key := line.strip()).partition("/")
        if key not in entries_by_key:
            entries_by_key |= {entry.key: entry for entry in entries([family])}
        print(json.dumps(measure(entries_by_key[key], rules, unfold=unfold)), file=output, flush=True)


# -- in the parent -------------------------------------------------------------------------------------------------


@dataclass
class Runner:
    """Runs entries in ``jobs`` workers, and replaces a worker that dies or takes longer than ``limit`` seconds."""

    jobs: int = 2
    limit: float = 60
    rules: Sequence[str] = ()
    unfold: bool = False
    starting: float = 60
    """seconds for the imports of a family, in addition to the limit of its first entry"""

    def run(self, chosen: Sequence[Entry], on_row: Callable[[Row], None]) -> None:
        """Call ``on_row`` with each row, in this thread, as it finishes."""
        pending: Queue[Entry] = Queue()
        finished: Queue[Row] = Queue()
        for entry in chosen:
            pending.put(entry)
        threads = [Thread(target=self._work, args=(pending, finished), daemon=True) for _ in range(self.jobs)]
        for thread in threads:
            thread.start()
        for _ in chosen:
            on_row(finished.get())
        for thread in threads:
            thread.join()

    def _work(self, pending: Queue[Entry], finished: Queue[Row]) -> None:
        worker: Worker | None = None
        while True:
            try:
                entry = pending.get_nowait()
            except Empty:
                break
            if entry.refused:
                finished.put(measure(entry))
                continue
            worker = worker or Worker(self.rules, self.starting, unfold=self.unfold)
            row = worker.measure(entry, self.limit)
            if "failed" in row and row["failed"] == "worker":
                worker.dismiss()
                worker = None
            finished.put(row)
        if worker:
            worker.dismiss()


class Worker:
    """A process that measures one entry after the other."""

    def __init__(self, rules: Sequence[str], starting: float, *, unfold: bool = False) -> None:
        self.starting = starting
        options = [part for path in rules for part in ("--rules", path)] + ["--unfold"] * unfold
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent), "--worker", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.replies: Queue[str] = Queue()
        self.families: set[str] = set()
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                self.replies.put(line)
        self.replies.put("")

    def measure(self, entry: Entry, limit: float) -> Row:
        """The row of an entry."""
        fresh = entry.family not in self.families
        self.families.add(entry.family)
        reason = f"took longer than {limit:g} s"
        try:
            print(entry.key, file=self.process.stdin, flush=True)
            if reply := self.replies.get(timeout=limit + (self.starting if fresh else 0)):
                return json.loads(reply)
            reason = f"the process died, with code {self.process.wait()}"
        except Empty:
            pass
        except OSError as error:
            reason = f"the process died: {error}"
        return {"family": entry.family, "name": entry.name, "failed": "worker", "error": reason}

    def dismiss(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        with suppress(OSError):
            self.process.stdin.close()


class Rows:
    """The finished rows, in a file of JSON lines: finished rows are not run again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_key: dict[str, Row] = {}
        text = path.read_text() if path.exists() else ""
        self.cut_off = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            with suppress(json.JSONDecodeError):  # the line that an interruption cut off
                self._keep(json.loads(line))

    def add(self, row: Row) -> None:
        """Keep a row, on disk at once; a later row of the same entry replaces an earlier one."""
        self._keep(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write("\n" * self.cut_off + json.dumps(row) + "\n")
        self.cut_off = False

    def _keep(self, row: Row) -> None:
        self.by_key[f"{row['family']}/{row['name']}"] = row


@contextmanager
def progress(total: int) -> Iterator[Callable[[Row], None]]:
    """A bar on a terminal, a line for each row elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("{task.description:32.32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("the zoo", total=total)

        def step(row: Mapping[str, Any]) -> None:
            bar.update(task, advance=1, description=row["name"])
            if verdict(row) not in FINE:
                console.print(f"{row['family']}/{row['name']}: {verdict(row)}", markup=False)

        yield step
