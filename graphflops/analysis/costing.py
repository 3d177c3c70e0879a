"""Stage 4, price: each Op's Cost by its rule. All misses are found before anything is said."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from graphflops.core.costs import ZERO, Cost, Work, covers
from graphflops.core.entries import Unknown
from graphflops.core.errors import RuleError, Unpriced
from graphflops.graph.graph import Again, Op, OpGraph, calls, steps
from graphflops.rules.book import RuleBook
from graphflops.rules.fallback import OF_ITS_OWN_CODE
from graphflops.rules.formulas import symbolic
from graphflops.rules.memo import Answers
from graphflops.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class Prices:
    """What rules say: op name → rule and cost, and what none speaks for."""

    costs: Mapping[str, tuple[Rule, Cost]] = field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()
    again: Mapping[str, Mapping[Hashable, Work]] = field(default_factory=dict)
    """op name → checkpointed region that keeps some of what it runs → the work of the operators that run again"""


def price(graph: OpGraph, book: RuleBook, options: Mapping[str, Any] | None = None, *, strict: bool = False) -> Prices:
    """Ask the book for every call; ``options`` of the analysis are offered to rules beside the operands.

    Raises:
        RuleError: a rule is wrong; the message names rule, file, line, and the Op it was asked about. Of a rule that
            somebody else's package announces only if strict: else its calls are unknown, and say why.
    """
    costs: dict[str, tuple[Rule, Cost]] = {}
    unknown: list[Unknown] = []
    again: dict[str, dict[Hashable, Work]] = {}
    answers = Answers(lambda rule, offered: rule.price(offered))
    for op in calls(graph):
        rule = OF_ITS_OWN_CODE if op.own_code is not None else book.find(op.call)
        if op.own_code and op.needs_grad:
            unknown.append(_unknown(op, f"no rule names it, and its own backward does not run here: {op.own_code}"))
        if rule is None:
            unknown.append(_unknown(op, "no rule names it"))
            continue
        package = book.announced_by(rule)
        try:
            with asked_about(op):
                cost = answers.of(rule, offer(op, options))
                if package:
                    symbolic(rule, offer(op, options))  # if it is not pure, it is found now, and not as a formula
        except Unpriced as error:
            unknown.append(_unknown(op, str(error)))
            continue
        except RuleError as error:
            if strict or not package:
                raise
            *said, _ = map(str.strip, str(error).splitlines())  # the last line is where, which the Op has
            unknown.append(_unknown(op, f"{' '.join(said)} (of {package})"))
            continue
        costs[op.name] = (rule, cost)
        if some := dict(_again(op, book, options or {})):
            again[op.name] = some
        silent = [name for name in sorted(op.needs_grad) if not any(covers(key, name) for key in cost.grads)]
        if silent:
            with asked_about(op):
                _refuse_strays(op, rule, cost, silent)
            unknown.append(_unknown(op, f"rule {rule.name} ({rule.source}) gives no gradient of {', '.join(silent)}"))
    return Prices(costs, tuple(unknown), again)


def _again(op: Op, book: RuleBook, options: Mapping[str, Any]) -> Iterator[tuple[Hashable, Work]]:
    """The work of what runs again with each region that keeps the rest; nothing if a rule of it is missing."""
    for region, only in op.runs_again.items():
        rules = [book.find(call) for call, _ in only or ()]
        if only is None or None in rules:
            continue
        with suppress(RuleError):
            priced = zip(rules, only, strict=True)
            offers = [(rule, {**options, "flowing": frozenset(), **offered}) for rule, (_, offered) in priced if rule]
            yield region, sum((rule.price(offered).forward for rule, offered in offers), ZERO)


def everywhere(graph: OpGraph, unknown: Sequence[Unknown]) -> tuple[Unknown, ...]:
    """What no rule speaks for, also in the blocks that repeat others, in order."""
    if not unknown:
        return ()
    of: dict[str, list[Unknown]] = {}
    for each in unknown:
        of.setdefault(each.op, []).append(each)
    found: list[Unknown] = []
    for step in steps(graph):
        if isinstance(step, Again):
            to = step.likeness
            found += [
                replace(each, op=to.of_op(each.op), owner=to.of_path(each.owner))
                for name in step.ops
                for each in of.get(name, ())
            ]
        else:
            found += of.get(step.name, ())
    return tuple(found)


@contextmanager
def asked_about(op: Op) -> Iterator[None]:
    """Say of a wrong rule which Op it was asked about."""
    try:
        yield
    except Unpriced:
        raise
    except RuleError as error:
        raise RuleError(f"{error}\n    while pricing {describe(op)}") from error


def _refuse_strays(op: Op, rule: Rule, cost: Cost, silent: Sequence[str]) -> None:
    """A gradient is missing, and one is given of what is no input: a name that is spelled wrong."""
    inputs = {*op.offered, *(each.name for each in op.operands)}
    names = [name for key in cost.grads for name in key.split("|")]
    strays = [name for name in names if not any(covers(name, each) for each in inputs)]
    if strays:
        raise RuleError(
            f"{rule.source}: rule {rule.name} gives a gradient of {', '.join(strays)}, which is no input, "
            f"and none of {', '.join(silent)}; inputs are {', '.join(sorted(each.name for each in op.operands))}"
        )


def offer(op: Op, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an Op offers to its rule, by name: operands, parameters, attributes, options, ``out`` and ``flowing``.

    ``flowing`` are the indices of the results through which a gradient comes back.
    """
    flowing = frozenset(index or 0 for index in op.fan_in)
    return {**(options or {}), "flowing": flowing, **op.offered, "out": op.out}


def describe(op: Op) -> str:
    """An Op in one line: path, target, shapes, and the user's source line."""
    shapes = f"{', '.join(str(each.spec) for each in op.operands)} -> {', '.join(map(str, op.outputs))}"
    return f"{op.owner or 'the model itself'}: {op.target}: {shapes}, {op.line}"


def _unknown(op: Op, why: str) -> Unknown:
    return Unknown(
        op=op.name,
        target=op.target,
        owner=op.owner,
        line=op.line,
        inputs=_texts(each.spec for each in op.operands),
        outputs=_texts(op.outputs),
        why=why,
        elements=op.elements,
        nbytes=op.nbytes,
    )


def _texts(specs: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, specs))
