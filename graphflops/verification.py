"""verify: what rules claim beside what two witnesses count, and what code executes as a polynomial in its size.

Differences are shown, not judged: a rule may state a published formula that is not what the code does, and then its
docstring says so. Only multiply-adds have to agree, to the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sympy
import torch
from torch.nn import functional as F

from graphflops.analysis import analyze
from graphflops.arguments import in_words
from graphflops.costs import NOTHING, WORK_CLASSES, Work
from graphflops.discovery import RuleSource
from graphflops.errors import CaptureError
from graphflops.ledger import Entry, Unknown
from graphflops.models.bk_core import bk_core
from graphflops.primitives import executed
from graphflops.tracing.values import NONE
from graphflops.witness import dispatched_assuming

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the rule of an operation claims of all its calls, and what they execute."""

    target: str
    rule: str
    """its name and place; empty if there is none"""
    about: str
    """what the rule's docstring says"""
    calls: int
    elements: int
    """how many elements all calls have as their results"""
    claimed: Mapping[Direction, Work]
    counted: Mapping[Direction, Work]

    @property
    def agrees(self) -> bool:
        """Whether it is the same in every class, both ways."""
        return self.claimed == self.counted


@dataclass(frozen=True, slots=True)
class Verification:
    """Rules beside witnesses, for one model."""

    comparisons: tuple[Comparison, ...]
    macs: Mapping[Direction, tuple[int, int]]
    """of the whole model: what rules claim, and what autograd dispatches"""
    unknown: tuple[Unknown, ...]
    not_counted: tuple[str, ...]
    """what the primitives could not be counted of, with the reason"""

    @property
    def holds(self) -> bool:
        """Whether the multiply-adds are those that autograd dispatches."""
        return all(claimed == seen for claimed, seen in self.macs.values())


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
    seen, assumed = dispatched_assuming(model, args, kwargs)
    if any(NONE in each for each in assumed) and not any(NONE in each for each in report.assumed):
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
    return int(sum((_work(each, direction) for each in entries), NOTHING).macs)


def _work(entry: Entry, direction: Direction) -> Work:
    """What is computed again of a checkpointed region is computed on the way back."""
    phases = ("forward",) if direction == "forward" else ("dgrad", "wgrad", "recompute")
    return sum((work for phase, work in entry.work.items() if phase in phases), NOTHING)


def _compared(claims: Iterable[Entry], counts: Iterable[Entry]) -> Iterable[Comparison]:
    counted: dict[str, Entry] = {each.op: each for each in counts if each.kind == "call"}
    groups: dict[tuple[str, str], list[Entry]] = {}
    for each in claims:
        if each.kind == "call":
            groups.setdefault((each.target, each.rule), []).append(each)
    priced = {each.op for members in groups.values() for each in members}
    unpriced: dict[str, list[str]] = {}
    for op, each in counted.items():
        if op not in priced:
            unpriced.setdefault(each.target, []).append(op)
    for target, names in unpriced.items():
        yield Comparison(
            target=target,
            rule="",
            about="No rule names it.",
            calls=len(names),
            elements=sum(counted[op].elements for op in names),
            claimed=dict.fromkeys(DIRECTIONS, NOTHING),
            counted={way: sum((_work(counted[op], way) for op in names), NOTHING) for way in DIRECTIONS},
        )
    for (target, rule), members in groups.items():
        ops = list(dict.fromkeys(each.op for each in members))
        yield Comparison(
            target=target,
            rule=rule,
            about=members[0].about,
            calls=len(ops),
            elements=sum(counted[op].elements for op in ops),
            claimed={way: sum((_work(each, way) for each in members), NOTHING) for way in DIRECTIONS},
            counted={way: sum((_work(counted[op], way) for op in ops), NOTHING) for way in DIRECTIONS},
        )


# -- what is executed, as a formula --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """A formula of the quick reference, in FLOPs of one row of ``size`` elements, and code that does what it is of."""

    name: str
    size: str
    run: Callable[[int], tuple[Callable[..., Any], tuple[Any, ...]]]
    forward: int
    backward: int
    """FLOPs an element"""


def _bk_core(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    band = torch.ones(n - 1, dtype=torch.float64, device="meta")
    return lambda *bands: bk_core(*bands, 0.0, 1.0, 0.5), (_row(n, torch.float64), band, band)


def _layer_norm(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    weights = [torch.ones(n, device="meta", requires_grad=True) for _ in range(2)]
    return lambda x, weight, bias: F.layer_norm(x, (n,), weight, bias), (_row(n), *weights)


def _softmax(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return lambda x: x.softmax(-1), (_row(n),)


def _row(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(1, n, dtype=dtype, device="meta", requires_grad=True)


PUBLISHED = (
    Published("BK-Core", "N", _bk_core, 34, 26),
    Published("LayerNorm", "D", _layer_norm, 5, 5),
    Published("softmax of the gate", "E", _softmax, 3, 6),
)
SIZES = (2, 3, 4, 5, 7, 11, 16)
"""at which code is run; all but those that a polynomial needs are further points, at which it is checked"""


def executed_law(published: Published, direction: Direction) -> dict[str, sympy.Expr]:
    """What code executes in each class of work, as a polynomial in its size; exact, or an error.

    Raises:
        ValueError: it is no polynomial that these sizes could tell, or something in it cannot be taken apart.
    """
    size = sympy.Symbol(published.size, integer=True, positive=True)
    works = {}
    for n in SIZES:
        call, args = published.run(n)
        seen = executed(call, args)
        if seen.unresolved:
            raise ValueError(f"{', '.join(sorted(seen.unresolved))} cannot be taken apart")
        works[n] = seen.forward if direction == "forward" else seen.backward
    columns = {name: {n: int(getattr(work, name)) for n, work in works.items()} for name in WORK_CLASSES}
    return {name: polynomial(column, size) for name, column in columns.items() if any(column.values())}


def polynomial(values: Mapping[int, int], symbol: sympy.Symbol) -> sympy.Expr:
    """The polynomial of the least degree through all values, at least two of which were not needed to find it.

    >>> polynomial({1: 3, 2: 5, 3: 7, 4: 9}, sympy.Symbol("N"))
    2*N + 1

    Raises:
        ValueError: there is none.
    """
    points = sorted(values.items())
    for needed in range(1, len(points) - 1):
        found = sympy.expand(sympy.interpolate(points[:needed], symbol))
        if all(found.subs(symbol, at) == value for at, value in points[needed:]):
            return found
    raise ValueError(f"no polynomial goes through {values} with two points to spare")
