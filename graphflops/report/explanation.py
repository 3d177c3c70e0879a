"""The explanation of a number: formula, sizes, rule and source of each op, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from graphflops.core.characters import safe
from graphflops.core.costs import Work
from graphflops.core.entries import OWN_CODE, PHASES, Entry, Formula
from graphflops.report.conventions import Convention
from graphflops.report.data import ReportData


def explain(report: ReportData, entries: Iterable[Entry], name: str) -> str:
    """The formula, sizes, rule, source and numbers of each op, the optimizer's updates, and the total."""
    entries = list(entries)
    counted = [entry for entry in entries if entry.work]
    weights = ", ".join(f"{work_class} {weight}" for work_class, weight in report.convention.weights.items())
    lines = [f"{name or report.model}, convention {report.convention.name}: {weights}; other classes 0"]
    calls = [entry for entry in counted if entry.kind != "update"]
    for (_, rule), parts in groupby(calls, key=lambda entry: (entry.op, entry.rule)):
        lines += ["", *_op(list(parts), rule, report.convention)]
    updates = [entry for entry in counted if entry.kind == "update"]
    for rule, members in groupby(updates, key=lambda entry: entry.rule):
        lines += ["", *_updates(list(members), rule, report)]
    own_code = [(entry.target, entry.about) for entry in entries if entry.rule.startswith(OWN_CODE)]
    for target, about in dict.fromkeys(own_code):
        lines += ["", f"{target}: {about}"]
    lines += ["", "total" if counted else "no work: all ops are free by their rules"]
    for phase in PHASES:
        work = sum((entry.work.get(phase, Work()) for entry in counted), Work())
        if work:
            lines.append(_numbers(phase, work, report.convention))
    return safe("\n".join(lines))


def _op(parts: list[Entry], rule: str, convention: Convention) -> Iterator[str]:
    first = parts[0]
    path = first.path.removesuffix(f".{first.part}") if first.part else first.path
    yield f"{first.op}: {first.target} in {path or 'the model itself'}"
    yield f"    rule    {rule}"
    yield f"    about   {' '.join(first.about.split())}"
    if first.line:
        yield f"    source  {first.line}"
    if first.rate:
        yield f"    rate    {first.rate} of the formula"
    for part in parts:
        indent = "    "
        if part.part:
            yield f"    {part.part}"
            indent = "        "
        yield from (f"{indent}{line}" for line in _formula(part.formula))
        if part.formula.sizes:
            yield f"{indent}with {', '.join(f'{name} = {size:,}' for name, size in part.formula.sizes.items())}"
        yield from (f"{indent}{_numbers(phase, work, convention)}" for phase, work in part.work.items())


def _updates(updates: list[Entry], rule: str, report: ReportData) -> Iterator[str]:
    elements = sum(report.parameters.get(update.op, 0) for update in updates)
    work = sum((update.work["optimizer"] for update in updates), Work())
    yield f"{updates[0].target}: the update of {len(updates)} parameters, {elements:,} elements"
    yield f"    rule    {rule}"
    yield f"    about   {updates[0].about}"
    yield f"    {_numbers('optimizer', work, report.convention)}"


def _numbers(phase: str, work: Work, convention: Convention) -> str:
    counts = ", ".join(f"{name} {int(count):,}" for name, count in work.items())
    return f"{phase:<9} = {int(convention.flops(work)):,} FLOPs ({counts})"


def _formula(formula: Formula) -> Iterator[str]:
    if formula.forward != "0":
        yield f"forward: {formula.forward}"
    for key, text in formula.grads.items():
        if text != "0":
            yield f"gradient of {key}: {text}"
    for name, span in (("span", formula.span), ("span backward", formula.backward_span)):
        if span:
            yield f"{name}: {span} operations in sequence"
