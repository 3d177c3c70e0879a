"""Reports as JSON: plain integers, with their unit, convention and schema version."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from graphflops.core.codec import (
    InvalidData,
    Reader,
    format_data,
    fraction,
    integer,
    list_of,
    nullable,
    one_of,
    read_json,
    record,
    table_of,
    text,
    tuple_of,
)
from graphflops.core.costs import WORK_CLASSES, Work
from graphflops.core.entries import PHASES, Entry, EntryKind, Formula, Phase, PhaseWork, Range, Unknown
from graphflops.core.errors import UsageError
from graphflops.core.rate import Rate
from graphflops.report.conventions import Convention, as_data, read_data
from graphflops.report.data import Query, ReportData
from graphflops.report.parts import Costs, ModelInfo, Notes, Versions

R = TypeVar("R", bound=ReportData)

SCHEMA = "graphflops.report/2"
"""the version that is written; version 1, which had no rates, can be read too"""
_READABLE = ("graphflops.report/1", SCHEMA)
_QUERIES: tuple[Query, ...] = ("forward", "dgrad", "wgrad", "backward", "recompute", "optimizer", "total")


def dumps(report: ReportData) -> str:
    """A report as JSON text."""
    return json.dumps(as_dict(report), indent=1, ensure_ascii=False) + "\n"


def as_dict(report: ReportData) -> dict[str, Any]:
    """A report as plain dicts, lists, strings and ints; totals come first, for people who read the file."""
    by_component = {phase: report.by_component(phase) for phase in _QUERIES}
    full, lower, upper = report.at_full_rate, report.lower_bound, report.upper_bound
    return {
        "schema": SCHEMA,
        "unit": report.convention.unit,
        "convention": as_data(report.convention),
        "model": report.model,
        "inputs": dict(report.inputs),
        "optimizer": report.optimizer_name,
        "versions": asdict(report.costs.versions),
        "total_flops": {phase: report.flops(phase) for phase in _QUERIES},
        "full_flops": {phase: full.flops(phase) for phase in _QUERIES},
        "interval_flops": {phase: [lower.flops(phase), upper.flops(phase)] for phase in _QUERIES},
        "macs": report.macs,
        "component_breakdown": {
            name: {phase: table[name] for phase, table in by_component.items()} for name in by_component["forward"]
        },
        "coverage": asdict(report.coverage),
        "parameters": dict(report.parameters),
        "active_parameters": report.active_parameters,
        "trainable": sorted(report.info.trainable),
        "modules": dict(report.modules),
        "called": sorted(report.info.called),
        "output_shapes": dict(report.info.output_shapes),
        "module_parameters": report.parameters_by_module(),
        "entries": [_plain_entry(entry) for entry in report.entries],
        "unknown": [asdict(op) for op in report.unknown],
        "warnings": list(report.warnings),
        "capture": list(report.capture_notes),
        "assumed": list(report.assumptions),
        "rates": {path: list(map(str, rate.bounds)) for path, rate in report.rates.items()},
        "routed": {path: str(share) for path, share in report.routed_modules.items()},
    }


def load(path: str | Path, make: Callable[..., R]) -> R:
    """Read the report in a file; ``make`` is called with its parts.

    Raises:
        UsageError: there is no such file, or it is not a complete report of a known version.
    """
    return read_json(path, "report", _READABLE, lambda data: make(*parts_of(data)))


_RANGE_NAMES: Mapping[Range, str] = {"full": "full", "lower": "least", "upper": "most"}
"""rate of an entry's variant → its name in the file"""


def _plain_entry(entry: Entry) -> dict[str, Any]:
    plain = {name: getattr(entry, name) for name in Entry.__slots__}
    plain["work"], plain["useful"] = _plain_work(entry.work), _plain_work(entry.useful)
    plain["ranges"] = {
        _RANGE_NAMES[name]: {"work": _plain_work(work), "useful": _plain_work(useful)}
        for name, (work, useful) in entry.ranges.items()
    }
    plain["formula"] = _plain_formula(entry.formula)
    return plain


def _plain_work(phases: Mapping[Phase, Work]) -> dict[str, dict[str, int]]:
    return {phase: {name: int(count) for name, count in work.items()} for phase, work in phases.items()}


def _plain_formula(formula: Formula) -> dict[str, Any]:
    plain = {name: getattr(formula, name) for name in Formula.__slots__}
    return {**plain, "parts": {name: _plain_formula(part) for name, part in formula.parts.items()}}


# -- reading ----------------------------------------------------------------------------------------------------------

_MAX_PATH_DEPTH = 1_000
"""nested modules"""
_MAX_PATH_LENGTH = 20_000
_SIZE = integer(maximum=2**63)
_ANY_SIZE = integer(minimum=None)
_SHAPE = list_of(_SIZE, max_length=64)
_TEXTS = list_of(text)


def _path(value: Any) -> str:
    """A module path."""
    if len(path := text(value)) > _MAX_PATH_LENGTH or path.count(".") > _MAX_PATH_DEPTH:
        raise InvalidData(f"is {format_data(path)}, a path with too many parts")
    return path


def _rate(value: Any) -> Rate:
    numbers = list_of(fraction, max_length=3)(value)
    try:
        return Rate(*numbers)
    except UsageError as error:
        raise InvalidData(f"is not a rate: {error}") from error


def _share(value: Any) -> Fraction:
    if (share := fraction(value)) > 1:
        raise InvalidData(f"is {format_data(value)}, more than 1")
    return share


def _formula_inside(depth: int) -> Reader[Formula]:
    """A reader of formulas whose parts are nested up to a depth."""
    if depth == 0:

        def too_deep(value: Any) -> Formula:
            raise InvalidData("is nested too deeply")

        return too_deep
    needed = {
        "forward": text,
        "grads": table_of(text, text),
        "sizes": table_of(text, _ANY_SIZE),
        "parts": table_of(text, _formula_inside(depth - 1)),
    }
    return record(Formula, needed, {"span": text, "backward_span": text})


_WORK: Reader[Work] = record(Work, {}, dict.fromkeys(WORK_CLASSES, integer()))
_PHASE_WORK = table_of(one_of(PHASES, "phase"), _WORK)
_VARIANT: Reader[PhaseWork] = record(PhaseWork, {"work": _PHASE_WORK, "useful": _PHASE_WORK})


def _entry_of(ranges: Mapping[str, PhaseWork] = MappingProxyType({}), **fields: Any) -> Entry:
    entry = Entry(**fields, ranges={name: ranges[key] for name, key in _RANGE_NAMES.items() if key in ranges})
    works = {"work": entry.work, "useful": entry.useful}
    for key, variant in ranges.items():
        works |= {f"ranges.{key}.work": variant.work, f"ranges.{key}.useful": variant.useful}
    for place, work in works.items():
        if entry.kind == "update" and not work.keys() <= {"optimizer"}:
            raise InvalidData("belongs to an update, whose only phase is optimizer", f".{place}")
    if entry.kind == "call" and not entry.target:
        raise InvalidData("is empty", ".target")
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
        "work": _PHASE_WORK,
        "rule": text,
        "about": text,
        "formula": _formula_inside(8),
    },
    {
        "elements": integer(),
        "nbytes": integer(),
        "operands": table_of(text, _SHAPE),
        "outputs": list_of(_SHAPE),
        "flags": _TEXTS,
        "useful": _PHASE_WORK,
        "dtype": text,
        "rate": text,
        "ranges": table_of(one_of(_RANGE_NAMES.values(), "rate"), _VARIANT),
    },
)
_UNKNOWN: Reader[Unknown] = record(
    Unknown,
    {"op": text, "target": text, "owner": text, "line": text, "inputs": _TEXTS, "outputs": _TEXTS, "why": text},
    {"elements": integer(), "nbytes": integer()},
)


def _by_phase(read: Reader[Any]) -> Reader[Any]:
    return record(dict, {}, dict.fromkeys(_QUERIES, read))


_COVERAGE_BY: Reader[dict[str, int]] = record(dict, {}, dict.fromkeys(("counted", "zero", "unknown"), integer()))
_DERIVED: Mapping[str, Reader[Any]] = {
    "unit": text,
    "total_flops": _by_phase(integer()),
    "full_flops": _by_phase(integer()),
    "interval_flops": _by_phase(tuple_of(integer(), integer())),
    "macs": integer(),
    "component_breakdown": table_of(text, _by_phase(integer())),
    "coverage": record(
        dict,
        {},
        {**dict.fromkeys(("counted", "zero", "unknown"), integer()), "elements": _COVERAGE_BY, "nbytes": _COVERAGE_BY},
    ),
    "active_parameters": integer(),
    "module_parameters": table_of(_path, integer()),
}
"""fields for people who read the file; the report computes them from the entries"""


def _parts_of(
    convention: Convention,
    model: str,
    inputs: Mapping[str, str],
    optimizer: str | None,
    parameters: Mapping[str, int],
    trainable: tuple[str, ...],
    modules: Mapping[str, str],
    called: tuple[str, ...],
    entries: tuple[Entry, ...],
    unknown: tuple[Unknown, ...],
    warnings: tuple[str, ...] = (),
    capture: tuple[str, ...] = (),
    assumed: tuple[str, ...] = (),
    rates: Mapping[str, Rate] = MappingProxyType({}),
    routed: Mapping[str, Fraction] = MappingProxyType({}),
    output_shapes: Mapping[str, str] = MappingProxyType({}),
    versions: Versions = Versions(),  # noqa: B008
    **derived: Any,
) -> tuple[ModelInfo, Costs, Convention, Notes]:
    if "" not in modules:
        raise InvalidData('has no module of the name "", the model itself', ".modules")
    checks: tuple[tuple[str, Iterable[str], Collection[str]], ...] = (
        ("trainable", trainable, parameters),
        ("called", called, modules),
        ("routed", routed, modules),
        ("output_shapes", output_shapes, modules),
    )
    for field, names, allowed in checks:
        for name in names:
            if name not in allowed:
                raise InvalidData(f"names {format_data(name)}, which this model does not have", f".{field}")
    return (
        ModelInfo(
            model, inputs, parameters, frozenset(trainable), modules, frozenset(called), optimizer, output_shapes
        ),
        Costs(entries, unknown, rates, routed, versions),
        convention,
        Notes(warnings, capture, assumed),
    )


parts_of: Reader[tuple[ModelInfo, Costs, Convention, Notes]] = record(
    _parts_of,
    {
        "schema": text,
        "convention": read_data,
        "model": text,
        "inputs": table_of(text, text),
        "optimizer": nullable(text),
        "parameters": table_of(_path, integer()),
        "trainable": list_of(_path),
        "modules": table_of(_path, text),
        "called": list_of(_path),
        "entries": list_of(_ENTRY),
        "unknown": list_of(_UNKNOWN),
    },
    {
        "warnings": _TEXTS,
        "capture": _TEXTS,
        "assumed": _TEXTS,
        "rates": table_of(_path, _rate),
        "routed": table_of(_path, _share),
        "output_shapes": table_of(_path, text),
        "versions": record(Versions, {}, {"graphflops": text, "torch": text, "rules": table_of(text, text)}),
        **_DERIVED,
    },
)
