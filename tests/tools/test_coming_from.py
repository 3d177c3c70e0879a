"""The table of docs/coming-from.md: each call is one that the counter has, and returns the number beside it."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
import shim  # noqa: E402, F401  # beside a CPU build of torch, torchvision imports only with it

pytestmark = [pytest.mark.filterwarnings("ignore")]

HOMES = {
    "FlopCountAnalysis": "fvcore.nn",
    "get_model_complexity_info": "ptflops",
    "profile": "thop",
    "summary": "torchinfo",
    "calculate_flops": "calflops",
    "get_model_profile": "deepspeed.profiling.flops_profiler",
    "measure_flops": "lightning_fabric.utilities.throughput",
}
PAGE = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")
ROWS = [
    tuple(re.findall("`([^`]+)`", cell)[0] for cell in row.split("|")[2:4])
    for row in PAGE.splitlines()
    if row.startswith("| ") and "`" in row.split("|")[2]
]
NUMBERS = [(call, replacement) for call, replacement in ROWS if replacement.endswith(".forward")]


class Network(nn.Module):
    """An image to ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 8, stride=8), nn.BatchNorm2d(4), nn.Linear(4 * 28 * 28, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.relu(self.norm(self.conv(x))).flatten(1))


def evaluated(call: str, replacement: str) -> tuple[Any, Any]:
    """The results of the other counter and of graphflops."""
    name = next((name for name in HOMES if call.startswith(f"{name}(")), None)
    assert name is not None, call
    pytest.importorskip(HOMES[name].partition(".")[0])
    function = getattr(import_module(HOMES[name]), name)
    model, x = Network().eval(), torch.randn(1, 3, 224, 224)
    report = analyze(model, (x,), training=False)
    return eval(call, {name: function, "model": model, "x": x}), eval(replacement, {"report": report})


@pytest.mark.parametrize(("call", "replacement"), NUMBERS)
def test_the_call_returns_the_number_of_the_convention(call: str, replacement: str) -> None:
    reported, number = evaluated(call, replacement)
    assert reported == number


def test_every_counter_has_a_row() -> None:
    assert {name for name in HOMES if any(call.startswith(name) for call, _ in NUMBERS)} == set(HOMES)


def test_fvcore_by_module() -> None:
    (row,) = [row for row in ROWS if ".by_module()" in row[0]]
    reported, numbers = evaluated(*row)
    assert reported == numbers


def test_fvcore_by_operator() -> None:
    (row,) = [row for row in ROWS if ".by_operator()" in row[0]]
    reported, numbers = evaluated(*row)
    assert sorted(number for number in reported.values() if number) == sorted(
        number for number in numbers.values() if number
    )
