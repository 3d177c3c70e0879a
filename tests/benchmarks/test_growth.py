"""Language models called with tokens alone, which then make a cache: blocks of one kind are looked at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
sys.path.append(str(Path(__file__).parents[1] / "conformance"))
from growth import calls_recorded, language_model

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs
from graphflops.report.json_format import dumps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral", "olmo_hybrid", "pegasus"])
def test_no_more_calls_in_twenty_blocks_than_in_four(name) -> None:
    recorded = []
    for depth in (4, 20):
        with calls_recorded() as calls:
            analyze(language_model(name, depth), (torch.zeros(1, 16, dtype=torch.long),))
        recorded.append(len(calls))
    assert recorded[1] <= 1.1 * recorded[0]  # what makes a cache may be a call for each block


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral", "olmo_hybrid", "pegasus"])
def test_the_same_report_as_if_each_ran(name) -> None:
    model, tokens = language_model(name, 5), torch.zeros(1, 16, dtype=torch.long)
    folded, unfolded = (analyze(model, (tokens,), fold=fold) for fold in (True, False))
    assert dumps(folded) == dumps(unfolded)
    dispatched = count_macs(model, (tokens,), {})
    report = analyze(model, (tokens,), attention="math")
    assert [int(report.work(phase).macs) for phase in ("forward", "backward")] == [
        dispatched.forward,
        dispatched.backward,
    ]
