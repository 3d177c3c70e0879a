"""A stopwatch run of a newcomer: from `pip install` to an HTML page of a model of one's own.

``python tests/versions/newcomer.py docs/newcomer.md`` builds the wheel, installs it and PyTorch in an empty
environment, follows the steps, and writes what each took.
"""

import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCH = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
LIMIT = 300
"""seconds that all steps may take"""

MODEL = '''\
import torch
from torch import nn


class Classifier(nn.Module):
    """A small image classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 3, stride=2), nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, 64, 3)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.norm(self.first(x)).relu()).mean((2, 3)))
'''


@dataclass(frozen=True)
class Step:
    """A command that the newcomer types."""

    about: str
    command: str
    seconds: float = 0.0


STEPS = (
    Step("an environment", "python -m venv .venv"),
    Step("PyTorch, its CPU build", f"pip install torch=={TORCH}"),
    Step("graphflops", "pip install graphflops"),
    Step("the numbers", "graphflops classifier.py:Classifier --input x=8x3x224x224"),
    Step("the page to share", "graphflops classifier.py:Classifier --input x=8x3x224x224 --html report.html"),
)


def main(page: Path) -> int:
    """Run the steps and write the page; 1 if they took too long."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run("build", [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", here, ROOT], here)
        (wheel,) = here.glob("*.whl")
        (here / "classifier.py").write_text(MODEL, encoding="utf-8")
        steps = []
        for step in STEPS:
            program, *arguments = step.command.split()
            path = sys.executable if program == "python" else here / ".venv/bin" / program
            start = time.perf_counter()
            run(step.command, [path, *(wheel if word == "graphflops" else word for word in arguments)], here)
            steps.append(Step(step.about, step.command, time.perf_counter() - start))
        html = (here / "report.html").read_text(encoding="utf-8")
        assert "Classifier" in html
        total = sum(step.seconds for step in steps)
        page.write_text("\n".join(written(steps, total, len(html.encode()))) + "\n", encoding="utf-8")
    print(f"{total:.0f} s; wrote {page}")
    return int(total > LIMIT)


def run(name: str, command: list[object], folder: Path) -> None:
    """Run a command in a folder; an error shows its output."""
    result = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{name} failed:\n{result.stdout}{result.stderr}")


def written(steps: list[Step], total: float, size: int) -> list[str]:
    """The lines of the page."""
    rows = [f"| {step.about} | `{step.command}` | {step.seconds:.1f} |" for step in steps]
    machine = f"Python {platform.python_version()}, PyTorch {TORCH}, on {platform.machine()}"
    return [
        "# Five minutes",
        "",
        "From an empty folder to a page that can be sent to others. The model of one's own is a file:",
        "",
        '```python title="classifier.py"',
        *MODEL.splitlines(),
        "```",
        "",
        "| step | command | seconds |",
        "|---|---|--:|",
        *rows,
        f"| all | | {total:.1f} |",
        "",
        f"`report.html` is one file of {size / 1000:.0f} kB, which needs no network: [The HTML page](html-page.md).",
        "",
        f"Written by `make newcomer`, with {machine}. In place of the package on PyPI it",
        "installs the wheel that it builds from the repository. Downloads are as fast as pip's cache and network. It",
        "fails if all steps take more than five minutes.",
    ]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
