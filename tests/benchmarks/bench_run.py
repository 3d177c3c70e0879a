"""Runs each measurement in a fresh process, and keeps the results in a file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

Measured = dict[str, Any]

LIMIT = 600
"""seconds that one process may take"""


def code_state() -> str:
    """A name for the state of the code: the page marks measurements of an earlier one."""
    digest = hashlib.sha256()
    for file in sorted([*(ROOT / "graphflops").rglob("*.py"), *(ROOT / "rules").glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


class Measurements:
    """Measurements by row, in a JSON file that is written after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.rows: dict[str, Measured] = json.loads(path.read_text())
        except (OSError, ValueError):  # not there yet, or cut off: it is measured again
            self.rows = {}

    def keep(self, name: str, measured: Measured) -> None:
        """Keep a row, on disk at once."""
        self.rows[name] = measured
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".half")
        half.write_text(json.dumps(self.rows, indent=1))
        half.replace(self.path)


def measured_apart(kind: str, row: str, *options: str) -> Measured:
    """The measurements of a fresh process, or under ``failed`` the reason that it has none."""
    command = [sys.executable, str(Path(__file__).parent), "--measure", kind, row, *options]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        if process.returncode == 0:
            return json.loads(process.stdout.splitlines()[-1])
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1][:200]
    except subprocess.TimeoutExpired:
        reason = f"took longer than {LIMIT} s"
    return {"failed": {kind: reason}}


def measure_row(name: str, *, rounds: int, tools: bool, step: Callable[[str], None]) -> Measured:
    """All of one row: rounds that alternate which counter is first, memory, other counters."""
    runs = []
    for number in range(rounds):
        step(f"{name}: round {number + 1}")
        runs.append(measured_apart("seconds", name, *(["--graphflops-first"] if number % 2 == 0 else [])))
    step(f"{name}: memory")
    measured = {"code": code_state(), "runs": runs, "memory": measured_apart("memory", name)}
    if tools:
        step(f"{name}: other counters")
        measured["tools"] = measured_apart("tools", name, "--rounds", str(rounds))
    return measured


# -- commands -----------------------------------------------------------------------------------------------------

PYTHON, TORCH = "python -c pass", "import torch"


def commands(report: Path) -> dict[str, Sequence[str]]:
    """The commands of the start-up, by the name that the page has for them."""
    model, inputs = "torch.nn.Linear(3, 4)", "torch.zeros(2, 3)"
    counter = "from torch.utils.flop_counter import FlopCounterMode"
    return {
        PYTHON: ["-c", "pass"],
        TORCH: ["-c", "import torch"],
        "import graphflops": ["-c", "import graphflops"],
        "import torch, graphflops": ["-c", "import torch, graphflops"],
        "from graphflops import analyze": ["-c", "from graphflops import analyze"],
        "analyze one layer": ["-c", f"import torch; from graphflops import analyze; analyze({model}, ({inputs},))"],
        "torch's counter, one layer": ["-c", f"import torch\n{counter}\nwith FlopCounterMode(): {model}({inputs})"],
        "graphflops --help": ["-m", "graphflops", "--help"],
        "graphflops rules list": ["-m", "graphflops", "rules", "list"],
        "graphflops show report.json": ["-m", "graphflops", "show", str(report)],
        "Report.from_json": ["-c", f"from graphflops import Report; Report.from_json({str(report)!r}).total"],
    }


BY_NAME = {
    "ResNet-50": "torchvision:resnet50",
    "ViT-B/16": "torchvision:vit_b_16",
    "Llama 3 8B": "hf:llama?hidden_size=4096&num_hidden_layers=32&num_key_value_heads=8&intermediate_size=14336&"
    "vocab_size=128256",
    "Mixtral": "hf:mixtral",
    "Whisper": "hf:whisper",
    "UNet": "diffusers:UNet2DConditionModel",
}
"""public models, and the names by which a command finds them"""
SECONDS_BY_NAME = 10


def commands_by_name() -> dict[str, Sequence[str]]:
    """The commands that analyze a model by its name, of the libraries that are installed, beside ``import torch``."""
    started: dict[str, Sequence[str]] = {TORCH: ["-c", TORCH]}
    for name, target in BY_NAME.items():
        library = target.partition(":")[0]
        if find_spec("transformers" if library == "hf" else library):
            started[name] = ["-m", "graphflops", target]
    return started


def timed(started: Mapping[str, Sequence[str]], *, rounds: int, step: Callable[[str], None]) -> Measured:
    """Seconds from start to end of each command, round by round."""
    runs: list[dict[str, float]] = []
    failed: dict[str, str] = {}
    for number in range(-1, rounds):  # before the first round each runs once, for the caches of files
        step(f"commands: round {number + 1}")
        run = {}
        for name, arguments in started.items():
            start = time.perf_counter()
            process = subprocess.run(
                [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
            )
            run[name] = time.perf_counter() - start
            if process.returncode:
                failed[name] = (process.stderr.strip().splitlines() or ["failed"])[-1][:200]
        if number >= 0:
            runs.append(run)
    return {"code": code_state(), "runs": runs, "failed": failed}


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar; each call is one step, with its description."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description:32.32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("benchmarks", total=total, completed=-1)
        yield lambda text: bar.update(task, advance=1, description=text)
        bar.update(task, advance=1, description="benchmarks")


def steps_of(tools: Mapping[str, bool], rounds: int) -> int:
    """How many steps ``measure_row`` takes for these rows."""
    return sum(rounds + 1 + has for has in tools.values())
