"""The pytest plugin, in a pytest of its own: the fixture cost and the marker budget."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

MODULE = "graphflops.integrations.pytest_plugin"
TESTS = """
import sys

import pytest

TORCH_AT_START = "torch" in sys.modules


def model():
    from torch import empty, nn

    return nn.Linear(4, 8), (empty(2, 4),)


@pytest.mark.budget(forward=2 * 2 * 4 * 8, tolerance="1%")
def test_within(cost):
    assert cost(*model(), training=False).forward == 128


@pytest.mark.budget(forward="0.1 k", tolerance="1%")
def test_over(cost):
    cost(*model(), training=False)


def test_without_a_budget(cost):
    assert not TORCH_AT_START
    assert cost(*model(), optimizer=None).total == 2 * 128  # forward and wgrad


@pytest.mark.budget(total="1 G")
def test_that_counts_nothing():
    pass


@pytest.mark.budget(peak="1 GiB")
def test_of_memory(cost):
    pass
"""


@pytest.mark.slow
def test_the_fixture_and_the_marker(tmp_path: Path) -> None:
    (tmp_path / "test_costs.py").write_text(TESTS)
    is_installed = any(point.value == MODULE for point in entry_points(group="pytest11"))
    options = ["--strict-markers", "-p", "no:cacheprovider", *([] if is_installed else ["-p", MODULE]), "-rA", "-q"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", "."]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    summary = {name: outcome for outcome, name in re.findall(r"^([A-Z]+) test_costs.py::(\w+)", out, re.MULTILINE)}
    assert summary == {
        "test_within": "PASSED",
        "test_without_a_budget": "PASSED",
        "test_over": "FAILED",
        "test_that_counts_nothing": "FAILED",
        "test_of_memory": "ERROR",
    }, out
    assert "over budget: Linear: forward is 128; the budget is 100 + 1 %, over by 28.0 %" in out
    assert "the test has a budget and counts nothing: call the fixture cost(model, args)" in out
    assert "peak: memory is not counted yet" in out


@pytest.mark.parametrize("module", [MODULE, "graphflops.report.budgets"])
def test_the_plugin_imports_torch_when_it_counts(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
