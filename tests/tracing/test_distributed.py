"""Models that torch.distributed has wrapped or sharded: counted as the modules themselves, by one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

PROGRAM = Path(__file__).parent / "distributed_program.py"


@pytest.fixture(scope="module")
def program_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the first of two processes, by model."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no processes to talk to")
    store = tmp_path_factory.mktemp("store") / "store"
    command = [sys.executable, str(PROGRAM)]
    second = subprocess.Popen([*command, "1", "2", str(store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        first = subprocess.run([*command, "0", "2", str(store)], capture_output=True, text=True, timeout=240)
        assert first.returncode == 0, first.stderr
        assert second.wait(240) == 0
    finally:
        second.kill()
        second.wait()
    results: dict[str, Any] = json.loads(first.stdout.splitlines()[-1])  # gloo prints a greeting in some versions
    return results


@pytest.fixture(scope="module")
def alone() -> list[Any]:
    """The same results for the module itself, which agree with what autograd runs."""
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 2)), torch.ones(3, 4)
    report, dispatched = analyze(model, (x,)), count_macs(model, (x,))
    assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
    return [report.forward, report.backward, report.optimizer, list(report.parameters.values())]


@pytest.mark.parametrize(
    "name",
    [
        *(f"{kind} {steps}" for kind in ("ddp", "static") for steps in range(3)),
        "inside",
        *(f"{kind} {steps}" for kind in ("fully_shard", "fully_shard of layers") for steps in range(2)),
        "tensor parallel",
    ],
)
def test_a_wrapped_model_costs_the_same_as_its_module_and_is_not_modified(
    program_results: dict[str, Any], alone: list[Any], name: str
) -> None:
    *costs, notes, unchanged = program_results[name]
    assert costs == alone
    assert unchanged
    assert len(notes) == 1
    assert notes[0].endswith("counted as the unsharded model on one process; communication is not counted")


def test_flat_parameters_and_local_parts_are_errors(program_results: dict[str, Any]) -> None:
    assert program_results["flat"].startswith("the model is wrapped by FullyShardedDataParallel (FSDP)")
    assert "the local part of a distributed tensor (DTensor, to_local)" in program_results["part"]
    assert "FakeTensor" not in program_results["flat"] + program_results["part"]
