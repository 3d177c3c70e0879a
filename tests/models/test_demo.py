"""The demonstration runs, and each of its chapters shows what its title says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "docs/examples/flops_counter_demo.py"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(DEMO)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60), folder


@pytest.fixture
def chapters(demo: tuple[subprocess.CompletedProcess[str], Path]) -> dict[str, str]:
    return dict(re.findall(r"^\d\. ([^\n]+)\n─+\n(.*?)(?=\n\n\n\d|\Z)", demo[0].stdout, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.slow
def test_it_runs_without_a_complaint_and_leaves_nothing(demo: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    result, folder = demo
    assert (result.returncode, result.stderr) == (0, "")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("FLOPs of a training step", r"Total +48\.9 GFLOPs"),
        ("FLOPs of a training step", r"forward +16,297,377,792 FLOPs"),
        ("FLOPs by component", r"lm_head +15,728,640,000 +31,457,280,000"),
        ("FLOPs by component", "add up to 48,938,227,896 FLOPs: the total, exactly"),
        ("Comparison of two models", r"needs 3\.42 times the FLOPs of the second"),
        ("Saved as JSON", "model_config .*'vocab_size': 30000.*\n.*'total': 48938227896"),
        ("Ten thousand steps", r"489\.38 TFLOPs"),
        ("AdamW and SGD", r"7\.5 times as much"),
        ("The three bottlenecks", r"lm_head +96\.5 %.*\n.*layer_0 +0\.9 %.*\n.*layer_1 +0\.9 %"),
        ("Growth with the sequence length", r"N = 1024 .*2\.00 × the previous"),
        ("Explanation of a number", r"forward: macs = out₀·out₁·out₂·weight₁"),
    ],
)
def test_a_chapter_shows(chapters: dict[str, str], title: str, shown: str) -> None:
    assert re.search(shown, chapters[title]), chapters[title]
