"""verify: the rules of a model compared with two reference counts of what runs.

``op_counter`` counts every scalar operation, operation by operation; ``mac_counter`` the multiply-adds of the whole
model. Only multiply-adds must agree: a rule may be a published formula that leaves out what the code does beyond it,
and then its docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graphflops.analysis.arguments import model_and_inputs, report_model_errors
from graphflops.analysis.inputs import InputsLike, Sizes
from graphflops.analysis.mac_counter import macs_and_assumptions
from graphflops.analysis.pipeline import analyze
from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import Entry, Unknown
from graphflops.core.errors import CaptureError
from graphflops.rules.loading import RuleSource
from graphflops.tracing.values.assumptions import NONE_ASSUMED

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """All calls of one target: the work by its rule, and the work that was measured."""

    target: str
    rule: str
    """name and source; empty if there is no rule"""
    about: str
    """the docstring of the rule"""
    calls: int
    elements: int
    """number of elements of all outputs"""
    rule_work: Mapping[Direction, Work]
    measured: Mapping[Direction, Work]

    @property
    def agrees(self) -> bool:
        """Whether both are equal in every class of work, forward and backward."""
        return self.rule_work == self.measured


@dataclass(frozen=True, slots=True)
class Verification:
    """The rules of one model compared with the reference counts."""

    checks: tuple[RuleCheck, ...]
    macs: Mapping[Direction, tuple[int, int]]
    """multiply-adds of the whole model: by the rules, and run by autograd"""
    unknown: tuple[Unknown, ...]
    not_counted: tuple[str, ...]
    """operations that could not be decomposed, with the reason"""

    @property
    def passed(self) -> bool:
        """Whether the multiply-adds of the rules are those that autograd runs."""
        return all(by_rules == measured for by_rules, measured in self.macs.values())


@report_model_errors
def verify(
    model: Callable[..., Any],
    args: InputsLike = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    input_size: Sizes | None = None,
    rules: Iterable[RuleSource] | None = None,
) -> Verification:
    """Compare the rules of a model with the scalar operations of each Op, and with the multiply-adds of the model.

    Attention is counted by its formula (``SDPBackend.MATH``) in both. Inputs are given as to ``analyze``.

    Raises:
        CaptureError: a rule costs a layer with data-dependent control flow as one Op, so that a run takes one of
            several paths and does not measure the rule.
        GraphflopsError: as ``analyze``.
    """
    sources = list(rules or ())
    model, (args, kwargs, _) = model_and_inputs(model, args, kwargs, input_size)
    report = analyze(model, args, kwargs, optimizer=None, rules=sources, attention="math")
    expanded = analyze(model, args, kwargs, optimizer=None, rules=sources, attention="math", expand=True)
    measured, assumptions = macs_and_assumptions(model, args, kwargs)
    if any(NONE_ASSUMED in note for note in assumptions) and not any(
        NONE_ASSUMED in note for note in report.assumptions
    ):
        raise CaptureError(
            f"{report.model} has a layer with data-dependent routing that a rule costs as one Op, for any data; a run "
            "takes one of several paths, so it does not measure the rule"
        )
    macs: dict[Direction, tuple[int, int]] = {
        "forward": (_macs(report.entries, "forward"), measured.forward),
        "backward": (_macs(report.entries, "backward"), measured.backward),
    }
    warnings = tuple(warning for warning in expanded.warnings if warning not in report.warnings)
    return Verification(tuple(_checks(report.entries, expanded.entries)), macs, report.unknown, warnings)


def _macs(entries: Iterable[Entry], direction: Direction) -> int:
    return int(sum((work_in(entry, direction) for entry in entries), ZERO).macs)


def work_in(entry: Entry, direction: Direction) -> Work:
    """The work of an entry in one direction. The recomputation of a checkpoint is part of the backward pass."""
    phases = ("forward",) if direction == "forward" else ("dgrad", "wgrad", "recompute")
    return sum((work for phase, work in entry.work.items() if phase in phases), ZERO)


def _checks(by_rules: Iterable[Entry], expanded: Iterable[Entry]) -> Iterable[RuleCheck]:
    measured: dict[str, Entry] = {entry.op: entry for entry in expanded if entry.kind == "call"}
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in by_rules:
        if entry.kind == "call":
            groups.setdefault((entry.target, entry.rule), []).append(entry)
    with_rule = {entry.op for entries in groups.values() for entry in entries}
    without_rule: dict[str, list[str]] = {}
    for op, entry in measured.items():
        if op not in with_rule:
            without_rule.setdefault(entry.target, []).append(op)

    def measured_work(ops: list[str]) -> dict[Direction, Work]:
        return {way: sum((work_in(measured[op], way) for op in ops), ZERO) for way in DIRECTIONS}

    for target, ops in without_rule.items():
        yield RuleCheck(
            target=target,
            rule="",
            about="No rule names it.",
            calls=len(ops),
            elements=sum(measured[op].elements for op in ops),
            rule_work=dict.fromkeys(DIRECTIONS, ZERO),
            measured=measured_work(ops),
        )
    for (target, rule), entries in groups.items():
        ops = list(dict.fromkeys(entry.op for entry in entries))
        yield RuleCheck(
            target=target,
            rule=rule,
            about=entries[0].about,
            calls=len(ops),
            elements=sum(measured[op].elements for op in ops),
            rule_work={way: sum((work_in(entry, way) for entry in entries), ZERO) for way in DIRECTIONS},
            measured=measured_work(ops),
        )
