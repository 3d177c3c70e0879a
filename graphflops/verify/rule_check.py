"""verify: what rules claim beside what two witnesses count, and what code executes as a polynomial in its size.

Differences are shown, not judged: a rule may state a published formula that is not what the code does, and then its
docstring says so. Only multiply-adds have to agree, to the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graphflops.analysis.arguments import in_words
from graphflops.analysis.mac_counter import macs_and_assumptions
from graphflops.analysis.pipeline import analyze
from graphflops.capture.assumptions import NONE_ASSUMED
from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import Entry, Unknown
from graphflops.core.errors import CaptureError
from graphflops.rules.loading import RuleSource

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """What the rule of an operation claims of all its calls, and what they execute."""

    target: str
    rule: str
    """its name and place; empty if there is none"""
    about: str
    """what the rule's docstring says"""
    calls: int
    elements: int
    """how many elements all calls have as their results"""
    rule_work: Mapping[Direction, Work]
    measured: Mapping[Direction, Work]

    @property
    def agrees(self) -> bool:
        """Whether it is the same in every class, both ways."""
        return self.rule_work == self.measured


@dataclass(frozen=True, slots=True)
class Verification:
    """Rules beside witnesses, for one model."""

    checks: tuple[RuleCheck, ...]
    macs: Mapping[Direction, tuple[int, int]]
    """of the whole model: what rules claim, and what autograd dispatches"""
    unknown: tuple[Unknown, ...]
    not_counted: tuple[str, ...]
    """what the primitives could not be counted of, with the reason"""

    @property
    def passed(self) -> bool:
        """Whether the multiply-adds are those that autograd dispatches."""
        return all(rule_work == seen for rule_work, seen in self.macs.values())


@in_words
def verify(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    rules: Iterable[RuleSource] | None = None,
) -> Verification:
    """Hold the rules of a model to the primitives, operation by operation, and to the dispatch witness as a whole.

    Attention is that of its formula, in both.

    Raises:
        CaptureError: a rule prices a layer whatever its data, and the witness would take one way of several.
        GraphflopsError: as ``analyze``.
    """
    given = list(rules or ())
    report = analyze(model, args, kwargs, optimizer=None, rules=given, attention="math")
    opened = analyze(model, args, kwargs, optimizer=None, rules=given, attention="math", expand=True)
    seen, assumed = macs_and_assumptions(model, args, kwargs)
    if any(NONE_ASSUMED in each for each in assumed) and not any(NONE_ASSUMED in each for each in report.assumptions):
        raise CaptureError(
            f"{report.model} has a layer that a rule prices as a whole, for any data, and inside of which data decides "
            "which rows go where: a run takes one of several ways, and is no witness of the rule"
        )
    macs: dict[Direction, tuple[int, int]] = {
        "forward": (_macs(report.entries, "forward"), seen.forward),
        "backward": (_macs(report.entries, "backward"), seen.backward),
    }
    warnings = tuple(each for each in opened.warnings if each not in report.warnings)
    return Verification(tuple(_compared(report.entries, opened.entries)), macs, report.unknown, warnings)


def _macs(entries: Iterable[Entry], direction: Direction) -> int:
    return int(sum((_work(each, direction) for each in entries), ZERO).macs)


def _work(entry: Entry, direction: Direction) -> Work:
    """What is computed again of a checkpointed region is computed on the way back."""
    phases = ("forward",) if direction == "forward" else ("dgrad", "wgrad", "recompute")
    return sum((work for phase, work in entry.work.items() if phase in phases), ZERO)


def _compared(claims: Iterable[Entry], counts: Iterable[Entry]) -> Iterable[RuleCheck]:
    measured: dict[str, Entry] = {each.op: each for each in counts if each.kind == "call"}
    groups: dict[tuple[str, str], list[Entry]] = {}
    for each in claims:
        if each.kind == "call":
            groups.setdefault((each.target, each.rule), []).append(each)
    priced = {each.op for members in groups.values() for each in members}
    unpriced: dict[str, list[str]] = {}
    for op, each in measured.items():
        if op not in priced:
            unpriced.setdefault(each.target, []).append(op)
    for target, names in unpriced.items():
        yield RuleCheck(
            target=target,
            rule="",
            about="No rule names it.",
            calls=len(names),
            elements=sum(measured[op].elements for op in names),
            rule_work=dict.fromkeys(DIRECTIONS, ZERO),
            measured={way: sum((_work(measured[op], way) for op in names), ZERO) for way in DIRECTIONS},
        )
    for (target, rule), members in groups.items():
        ops = list(dict.fromkeys(each.op for each in members))
        yield RuleCheck(
            target=target,
            rule=rule,
            about=members[0].about,
            calls=len(ops),
            elements=sum(measured[op].elements for op in ops),
            rule_work={way: sum((_work(each, way) for each in members), ZERO) for way in DIRECTIONS},
            measured={way: sum((_work(measured[op], way) for op in ops), ZERO) for way in DIRECTIONS},
        )
