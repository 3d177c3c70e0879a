"""A Report as JSON and back. Machines read plain integers, with unit, convention and schema version beside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from graphflops.conventions import as_data, from_data
from graphflops.costs import Work
from graphflops.files import read_whole
from graphflops.ledger import Amount, Entry, Formula, Unknown
from graphflops.rates.numbers import Rate
from graphflops.report import Query, Report

SCHEMA = "graphflops.report/2"
"""what is written; a file of the first version, which knew of no rates, is read as well"""
READABLE = ("graphflops.report/1", SCHEMA)


def dumps(report: Report) -> str:
    """The report as JSON text."""
    return json.dumps(as_dict(report), indent=1, ensure_ascii=False) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """The report as plain dicts, lists, strings and ints: totals first, for people who look into the file."""
    phases: tuple[Query, ...] = ("forward", "dgrad", "wgrad", "backward", "recompute", "optimizer", "total")
    return {
        "schema": SCHEMA,
        "unit": report.convention.unit,
        "convention": as_data(report.convention),
        "model": report.model,
        "inputs": dict(report.inputs),
        "optimizer": report.optimizer_name,
        "total_flops": {phase: report.flops(phase) for phase in phases},
        "full_flops": {phase: report.full.flops(phase) for phase in phases},
        "interval_flops": {phase: list(report.interval(phase)) for phase in phases},
        "macs": report.macs,
        "component_breakdown": {
            name: {phase: report.by_component(phase)[name] for phase in phases} for name in report.by_component()
        },
        "coverage": asdict(report.coverage),
        "parameters": dict(report.parameters),
        "active_parameters": report.active_parameters,
        "trainable": sorted(report.trainable),
        "modules": dict(report.modules),
        "called": sorted(report.called),
        "entries": [_plain_entry(entry) for entry in report.entries],
        "unknown": [asdict(each) for each in report.unknown],
        "warnings": list(report.warnings),
        "capture": list(report.capture),
        "assumed": list(report.assumed),
        "rates": {path: list(map(str, rate.bounds)) for path, rate in report.rates.items()},
        "routed": {path: str(share) for path, share in report.routed.items()},
    }


def load(path: str | Path) -> Report:
    """The report in a file.

    Raises:
        UsageError: there is no such file, or it is not a report of a known version.
    """
    return read_whole(path, "report", READABLE, _report)


def _report(data: dict[str, Any]) -> Report:
    return Report(
        model=data["model"],
        inputs=data["inputs"],
        parameters=data["parameters"],
        trainable=frozenset(data["trainable"]),
        optimizer_name=data["optimizer"],
        convention=from_data(data["convention"]),
        modules=data["modules"],
        called=frozenset(data["called"]),
        entries=tuple(_entry(each) for each in data["entries"]),
        unknown=tuple(_unknown(each) for each in data["unknown"]),
        warnings=tuple(data.get("warnings", ())),
        capture=tuple(data.get("capture", ())),
        assumed=tuple(data.get("assumed", ())),
        rates={path: Rate(*bounds) for path, bounds in data.get("rates", {}).items()},
        routed={path: Fraction(share) for path, share in data.get("routed", {}).items()},
    )


def _plain_entry(entry: Entry) -> dict[str, Any]:
    plain = {name: getattr(entry, name) for name in Entry.__slots__}
    for name in ("work", "useful"):
        plain[name] = _plain_phases(plain[name])
    plain["ranges"] = {
        name: {"work": _plain_phases(amount.work), "useful": _plain_phases(amount.useful)}
        for name, amount in entry.ranges.items()
    }
    plain["formula"] = _plain_formula(entry.formula)
    return plain


def _plain_phases(phases: Any) -> dict[str, dict[str, int]]:
    return {phase: {each: int(count) for each, count in work.items()} for phase, work in phases.items()}


def _plain_formula(formula: Formula) -> dict[str, Any]:
    plain = {name: getattr(formula, name) for name in Formula.__slots__}
    return {**plain, "parts": {name: _plain_formula(part) for name, part in formula.parts.items()}}


def _entry(data: dict[str, Any]) -> Entry:
    work = _phases(data["work"])
    shapes = {
        "operands": {name: tuple(shape) for name, shape in data.get("operands", {}).items()},
        "outputs": tuple(map(tuple, data.get("outputs", ()))),
        "flags": tuple(data.get("flags", ())),
        "useful": _phases(data.get("useful", {})),
        "ranges": {
            name: Amount(_phases(amount["work"]), _phases(amount["useful"]))
            for name, amount in data.get("ranges", {}).items()
        },
    }
    return Entry(**{**data, **shapes, "work": work, "formula": _formula(data["formula"])})


def _phases(data: dict[str, Any]) -> dict[Any, Work]:
    return {phase: Work(**counts) for phase, counts in data.items()}


def _formula(data: dict[str, Any]) -> Formula:
    return Formula(**{**data, "parts": {name: _formula(part) for name, part in data["parts"].items()}})


def _unknown(data: dict[str, Any]) -> Unknown:
    return Unknown(**{**data, "inputs": tuple(data["inputs"]), "outputs": tuple(data["outputs"])})
