"""Stage 4, price: each Op's Cost by its rule. All misses are found before anything is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphflops.costs import Cost, covers
from graphflops.errors import RuleError, Unpriced
from graphflops.graph import Op, OpGraph, calls
from graphflops.ledger import Unknown
from graphflops.rulebook import Rule, RuleBook


@dataclass(frozen=True, slots=True)
class Prices:
    """What rules say: op name → rule and cost, and what none speaks for."""

    costs: Mapping[str, tuple[Rule, Cost]] = field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()


def price(graph: OpGraph, book: RuleBook, options: Mapping[str, Any] | None = None) -> Prices:
    """Ask the book for every call; ``options`` of the analysis are offered to rules beside the operands.

    Raises:
        RuleError: a rule is wrong; the message names rule, file, line, and the Op it was asked about.
    """
    costs: dict[str, tuple[Rule, Cost]] = {}
    unknown: list[Unknown] = []
    for op in calls(graph):
        rule = book.find(op.call)
        if rule is None:
            unknown.append(_unknown(op, "no rule names it"))
            continue
        try:
            cost = rule.price(offer(op, options))
        except Unpriced as error:
            unknown.append(_unknown(op, str(error)))
            continue
        except RuleError as error:
            raise RuleError(f"{error}\n    while pricing {describe(op)}") from error
        costs[op.name] = (rule, cost)
        silent = [name for name in sorted(op.needs_grad) if not any(covers(key, name) for key in cost.grads)]
        if silent:
            unknown.append(_unknown(op, f"rule {rule.name} ({rule.source}) gives no gradient of {', '.join(silent)}"))
    return Prices(costs, tuple(unknown))


def offer(op: Op, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an Op offers to its rule, by name: operands, parameters, attributes, options and ``out``."""
    return {**(options or {}), **op.offered, "out": op.out}


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
