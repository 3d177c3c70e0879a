"""Traces: slices nest as modules do, follow each other, and sum to the report."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from made_reports import FEW, reports
from torch import nn

from graphflops import Report, analyze
from graphflops.cli import main
from graphflops.core.components import parents
from graphflops.core.entries import PHASES


def events_of(report: Report) -> list[dict[str, Any]]:
    return json.loads(report.to_trace())["traceEvents"]  # type: ignore[no-any-return]


def ops_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "X" and event["cat"] != "module"]


def end_of(event: dict[str, Any]) -> int:
    return round(1000 * event["ts"]) + round(1000 * event["dur"])


@FEW
@given(reports())
def test_the_slices_of_ops_sum_to_the_report_in_each_phase(report: Report) -> None:
    sums: Counter[str] = Counter()
    for event in ops_of(events_of(report)):
        sums[event["cat"]] += int(event["args"]["flops"])
    assert {phase: sums[phase] for phase in PHASES} == {phase: report.flops(phase) for phase in PHASES}


@FEW
@given(reports())
def test_the_slices_of_a_module_are_around_its_ops_and_sum_to_its_flops(report: Report) -> None:
    sums: Counter[str] = Counter()
    slices = [event for event in events_of(report) if event["ph"] == "X"]
    for index, event in enumerate(slices):
        if event["cat"] == "module":
            sums[event["args"]["module"]] += int(event["args"]["flops"])
            continue
        path = event["args"]["module"]
        around = {outer["args"]["module"] for outer in slices[:index] if contains(outer, event)}
        assert {path, *parents(path)} <= around
    assert {path: sums[path] for path in report.modules} == report.by_module("total")


def contains(outer: dict[str, Any], event: dict[str, Any]) -> bool:
    is_module = outer["cat"] == "module" and outer["tid"] == event["tid"]
    return is_module and outer["ts"] <= event["ts"] and end_of(event) <= end_of(outer)


def test_the_step_is_a_timeline_of_three_tracks() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)))
    report = analyze(model, (torch.ones(2, 8),))
    events = events_of(report)
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(tracks.values()) == ["forward", "backward", "optimizer"]
    ops = ops_of(events)
    assert [end_of(event) for event in ops[:-1]] == [round(1000 * event["ts"]) for event in ops[1:]]
    assert [round(1000 * event["dur"]) for event in ops] == [event["args"]["flops"] for event in ops]
    order = [event["name"] for event in ops if event["cat"] != "optimizer"]
    assert order == ["linear", "relu", "linear", "linear", "linear", "relu", "linear"]
    modules = [event for event in events if event.get("cat") == "module"]
    names = [event["name"] for event in modules if tracks[event["tid"]] == "forward"]
    assert names == ["Sequential", "0 Linear", "1 Sequential", "0 ReLU", "1 Linear"]
    assert modules[0]["args"]["flops"] == report.forward
    assert end_of(ops[-1]) == report.total


def test_a_very_long_step_fits_a_timeline() -> None:
    with torch.device("meta"):
        model = nn.Linear(10**6, 10**6)
    report = analyze(model, (torch.empty(10**6, 10**6, device="meta"),))
    (forward, *_) = ops_of(events_of(report))
    assert report.forward > 2**53
    assert int(forward["args"]["flops"]) == report.forward
    assert forward["args"]["flops"] == str(report.forward)
    assert end_of(forward) == report.forward // 10**9


@FEW
@given(reports())
def test_an_op_without_a_rule_is_an_instant(report: Report) -> None:
    (instant,) = [event for event in events_of(report) if event["ph"] == "i"]
    assert instant["args"]["why"] == "no rule"


def test_the_command_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    assert main(["analyze", "torch.nn:GELU", "--input", "input=2x3", "--trace", str(path)]) == 0
    assert [event["name"] for event in ops_of(json.loads(path.read_text())["traceEvents"])] == ["gelu"]
