"""Many analyses in one process leave nothing behind, and say the same in any order; `make soak` runs the long ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("program.py")
MIB = 2**20


def ran(times: int, *, seed: int, hash_seed: int) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "COLUMNS": "100"}
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(times), str(seed)]
    process = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    outputs: dict[str, Any] = json.loads(process.stdout)
    return outputs


@pytest.mark.parametrize(
    "times", [pytest.param(60, marks=pytest.mark.slow), pytest.param(4000, marks=pytest.mark.soak)]
)  # half of them of new classes
def test_many_analyses_leave_nothing_behind_and_say_the_same_in_any_order(times: int) -> None:
    runs = [ran(times, seed=seed, hash_seed=seed) for seed in ((1, 2) if times < 1000 else (1, 2, 3))]
    for run in runs:
        assert all(len(messages) == 1 for messages in run["said"].values()), "an answer has changed on the way"
        assert run["said"] == runs[0]["said"]
        assert run["objects"] < 50
        assert run["bytes"] < 32 * MIB
