"""A Report as JSON and back. Machines read plain integers, with unit, convention and schema version beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, get_args

from graphflops.core.codec import (
    Misread,
    Reader,
    format_data,
    fraction,
    listed,
    mapped,
    nullable,
    one_of,
    read_json,
    record,
    row,
    text,
    whole,
)
from graphflops.core.costs import WORK_CLASSES, Work
from graphflops.core.entries import PHASES, Amount, Entry, EntryKind, Formula, Range, Unknown
from graphflops.core.errors import UsageError
from graphflops.core.rate import Rate
from graphflops.report.conventions import as_data, read_data
from graphflops.report.data import Query, ReportData

R = TypeVar("R", bound=ReportData)

SCHEMA = "graphflops.report/2"
"""what is written; a file of the first version, which knew of no rates, is read as well"""
READABLE = ("graphflops.report/1", SCHEMA)
_QUERIES: tuple[Query, ...] = ("forward", "dgrad", "wgrad", "backward", "recompute", "optimizer", "total")


def dumps(report: ReportData) -> str:
    """The report as JSON text."""
    return json.dumps(as_dict(report), indent=1, ensure_ascii=False) + "\n"


def as_dict(report: ReportData) -> dict[str, Any]:
    """The report as plain dicts, lists, strings and ints: totals first, for people who look into the file."""
    by_component = {phase: report.by_component(phase) for phase in _QUERIES}
    full, least, most = report.full, report.least, report.most
    return {
        "schema": SCHEMA,
        "unit": report.convention.unit,
        "convention": as_data(report.convention),
        "model": report.model,
        "inputs": dict(report.inputs),
        "optimizer": report.optimizer_name,
        "total_flops": {phase: report.flops(phase) for phase in _QUERIES},
        "full_flops": {phase: full.flops(phase) for phase in _QUERIES},
        "interval_flops": {phase: [least.flops(phase), most.flops(phase)] for phase in _QUERIES},
        "macs": report.macs,
        "component_breakdown": {
            name: {phase: table[name] for phase, table in by_component.items()} for name in by_component["forward"]
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


def load(path: str | Path, make: Callable[..., R]) -> R:
    """Read the report in a file; ``make`` is called with its fields.

    Raises:
        UsageError: there is no such file, or it is not a whole report of a known version.
    """
    return read_json(path, "report", READABLE, lambda data: make(**_fields(data)))


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


# -- and back ----------------------------------------------------------------------------------------------------------

_DEEPEST_PATH = 1_000
"""modules in modules"""
_LONGEST_PATH = 20_000
_SIZE = whole(most=2**63)
_ANY_SIZE = whole(least=None)
_SHAPE = listed(_SIZE, most=64)
_TEXTS = listed(text)


def _path(value: Any) -> str:
    """A module's path."""
    if len(path := text(value)) > _LONGEST_PATH or path.count(".") > _DEEPEST_PATH:
        raise Misread(f"is {format_data(path)}, a path of too many parts")
    return path


def _rate(value: Any) -> Rate:
    numbers = listed(fraction, most=3)(value)
    try:
        return Rate(*numbers)
    except UsageError as error:
        raise Misread(f"is no rate: {error}") from error


def _share(value: Any) -> Fraction:
    if (share := fraction(value)) > 1:
        raise Misread(f"is {format_data(value)}, more than all")
    return share


def _formula_inside(depth: int) -> Reader[Formula]:
    """A formula; its parts may have parts, a few deep."""
    if depth == 0:

        def too_deep(value: Any) -> Formula:
            raise Misread("is a part of a part of too many parts")

        return too_deep
    needed = {
        "forward": text,
        "grads": mapped(text, text),
        "sizes": mapped(text, _ANY_SIZE),
        "parts": mapped(text, _formula_inside(depth - 1)),
    }
    return record(Formula, needed, {"span": text, "backward_span": text})


_WORK: Reader[Work] = record(Work, {}, dict.fromkeys(WORK_CLASSES, whole()))
_WORKS = mapped(one_of(PHASES, "phase"), _WORK)
_AMOUNT: Reader[Amount] = record(Amount, {"work": _WORKS, "useful": _WORKS})


def _entry_of(**fields: Any) -> Entry:
    entry = Entry(**fields)
    works = {"work": entry.work, "useful": entry.useful}
    for name, amount in entry.ranges.items():
        works |= {f"ranges.{name}.work": amount.work, f"ranges.{name}.useful": amount.useful}
    for place, work in works.items():
        if entry.kind == "update" and not work.keys() <= {"optimizer"}:
            raise Misread("is of an update, which has no phase but optimizer", f".{place}")
    if not (entry.target if entry.kind == "call" else True):
        raise Misread("is empty", ".target")
    return entry


_ENTRY: Reader[Entry] = record(
    _entry_of,
    {
        "kind": one_of(get_args(EntryKind), "kind of entry"),
        "path": _path,
        "op": text,
        "target": text,
        "part": text,
        "line": text,
        "work": _WORKS,
        "rule": text,
        "about": text,
        "formula": _formula_inside(8),
    },
    {
        "elements": whole(),
        "nbytes": whole(),
        "operands": mapped(text, _SHAPE),
        "outputs": listed(_SHAPE),
        "flags": _TEXTS,
        "useful": _WORKS,
        "dtype": text,
        "rate": text,
        "ranges": mapped(one_of(get_args(Range), "end of a range"), _AMOUNT),
    },
)
_UNKNOWN: Reader[Unknown] = record(
    Unknown,
    {"op": text, "target": text, "owner": text, "line": text, "inputs": _TEXTS, "outputs": _TEXTS, "why": text},
    {"elements": whole(), "nbytes": whole()},
)


def _by_phase(read: Reader[Any]) -> Reader[Any]:
    return record(dict, {}, dict.fromkeys(_QUERIES, read))


_SHARES: Reader[dict[str, int]] = record(dict, {}, dict.fromkeys(("counted", "zero", "unknown"), whole()))
_FOR_PEOPLE: Mapping[str, Reader[Any]] = {
    "unit": text,
    "total_flops": _by_phase(whole()),
    "full_flops": _by_phase(whole()),
    "interval_flops": _by_phase(row(whole(), whole())),
    "macs": whole(),
    "component_breakdown": mapped(text, _by_phase(whole())),
    "coverage": record(
        dict, {}, {**dict.fromkeys(("counted", "zero", "unknown"), whole()), "elements": _SHARES, "nbytes": _SHARES}
    ),
    "active_parameters": whole(),
}
"""what is in a file for those who look into it, and made anew of the entries"""


def _fields_of(schema: str, optimizer: str | None, trainable: Any, called: Any, **fields: Any) -> dict[str, Any]:
    for name in _FOR_PEOPLE:
        fields.pop(name, None)
    modules, parameters = fields["modules"], fields["parameters"]
    if "" not in modules:
        raise Misread('has no module of the name "", the model itself', ".modules")
    for name, names, known in (
        ("trainable", trainable, parameters),
        ("called", called, modules),
        ("routed", fields.get("routed", ()), modules),
    ):
        for each in names:
            if each not in known:
                raise Misread(f"names {format_data(each)}, which this model does not have", f".{name}")
    return {"optimizer_name": optimizer, "trainable": frozenset(trainable), "called": frozenset(called), **fields}


_fields: Reader[dict[str, Any]] = record(
    _fields_of,
    {
        "schema": text,
        "convention": read_data,
        "model": text,
        "inputs": mapped(text, text),
        "optimizer": nullable(text),
        "parameters": mapped(_path, whole()),
        "trainable": listed(_path),
        "modules": mapped(_path, text),
        "called": listed(_path),
        "entries": listed(_ENTRY),
        "unknown": listed(_UNKNOWN),
    },
    {
        "warnings": _TEXTS,
        "capture": _TEXTS,
        "assumed": _TEXTS,
        "rates": mapped(_path, _rate),
        "routed": mapped(_path, _share),
        **_FOR_PEOPLE,
    },
)
