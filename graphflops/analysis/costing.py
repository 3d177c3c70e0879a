"""Costs of Ops by their rules; every Op without a rule is collected before anything is reported."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from graphflops.core.costs import ZERO, Cost, Work, covers
from graphflops.core.entries import Unknown
from graphflops.core.errors import NotSupported, RuleError
from graphflops.graph.op import Op
from graphflops.graph.op_graph import OpGraph
from graphflops.rules.book import RuleBook
from graphflops.rules.fallback import OF_ITS_OWN_CODE
from graphflops.rules.formulas import symbolic
from graphflops.rules.memo import RuleCache
from graphflops.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class OpCosts:
    """Costs of a graph's Ops: name of an Op → its rule and Cost; and the Ops, or gradients, without a rule."""

    costs: Mapping[str, tuple[Rule, Cost]] = field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()
    recomputed: Mapping[str, Mapping[Hashable, Work]] = field(default_factory=dict)
    """name of an Op → checkpointed region that saves some of its results → work of the operators that run again"""


def apply_rules(
    graph: OpGraph, book: RuleBook, options: Mapping[str, Any] | None = None, *, strict: bool = False
) -> OpCosts:
    """Return the cost of every call by its rule; a rule may request ``options`` of the analysis like arguments.

    Raises:
        RuleError: a rule is wrong; the message has the rule, its file and line, and the Op. If a rule of an installed
            package is wrong, this is raised only if strict; otherwise its calls are unknown, with this reason.
    """
    costs: dict[str, tuple[Rule, Cost]] = {}
    unknown: list[Unknown] = []
    recomputed: dict[str, dict[Hashable, Work]] = {}
    cache = RuleCache(lambda rule, arguments: rule.evaluate(arguments))
    for op in graph.calls():
        rule = OF_ITS_OWN_CODE if op.own_code is not None else book.find(op.call)
        if op.own_code and op.needs_grad:
            unknown.append(_unknown(op, f"no rule, and its own backward {op.own_code}"))
        if rule is None:
            unknown.append(_unknown(op, "no rule"))
            continue
        package = book.plugin_of(rule)
        arguments = call_arguments(op, options)
        try:
            with error_context(op):
                cost = cache.get(rule, arguments)
                if package:
                    symbolic(rule, arguments)  # raises now, not when the formula is read, if it branches on sizes
        except NotSupported as error:
            unknown.append(_unknown(op, str(error)))
            continue
        except RuleError as error:
            if strict or not package:
                raise
            *message, _ = map(str.strip, str(error).splitlines())  # the last line is the location, which the Op has
            unknown.append(_unknown(op, f"{' '.join(message)} (of {package})"))
            continue
        costs[op.name] = (rule, cost)
        if regions := dict(_recomputed(op, book, options or {})):
            recomputed[op.name] = regions
        missing = [name for name in sorted(op.needs_grad) if not any(covers(key, name) for key in cost.grads)]
        if missing:
            with error_context(op):
                _check_gradient_keys(op, rule, cost, missing)
            unknown.append(_unknown(op, f"rule {rule.name} ({rule.source}) gives no gradient of {', '.join(missing)}"))
    return OpCosts(costs, tuple(unknown), recomputed)


def _recomputed(op: Op, book: RuleBook, options: Mapping[str, Any]) -> Iterator[tuple[Hashable, Work]]:
    """Yield each region that saves some results of an Op, with the work of the operators in it that run again.

    A region with an operator that has no rule, or whose rule fails, is left out.
    """
    for region, calls in op.recomputed_in.items():
        rules = [book.find(operator) for operator, _ in calls or ()]
        if calls is None or None in rules:
            continue
        with suppress(RuleError):
            works = [
                rule.evaluate({**options, "grad_outputs": frozenset(), **arguments}).forward
                for rule, (_, arguments) in zip(rules, calls, strict=True)
                if rule is not None
            ]
            yield region, sum(works, ZERO)


def expand_repeats(graph: OpGraph, unknown: Sequence[Unknown]) -> tuple[Unknown, ...]:
    """Return the Ops without a rule in order, those of a repeated block once for each of its repeats."""
    if not unknown:
        return ()
    by_op: dict[str, list[Unknown]] = {}
    for missing in unknown:
        by_op.setdefault(missing.op, []).append(missing)
    return tuple(
        missing
        if renaming is None
        else replace(missing, op=renaming.op(missing.op), owner=renaming.path(missing.owner))
        for renaming, names in graph.placements()
        for name in names
        for missing in by_op.get(name, ())
    )


@contextmanager
def error_context(op: Op) -> Iterator[None]:
    """Add the Op to the message of a RuleError."""
    try:
        yield
    except NotSupported:
        raise
    except RuleError as error:
        raise RuleError(f"{error}\n    while applying it to {describe(op)}") from error


def _check_gradient_keys(op: Op, rule: Rule, cost: Cost, missing: Sequence[str]) -> None:
    """Raise if a gradient is missing and a key of ``grads`` is not an input: it is probably misspelled."""
    operands = {operand.name for operand in op.operands}
    inputs = operands.union(op.arguments)
    keys = [name for key in cost.grads for name in key.split("|")]
    unknown_keys = [key for key in keys if not any(covers(key, name) for name in inputs)]
    if unknown_keys:
        raise RuleError(
            f"{rule.source}: rule {rule.name} has unknown gradient keys {', '.join(map(repr, unknown_keys))}, and none "
            f"for {', '.join(missing)}; inputs are {', '.join(sorted(operands))}"
        )


def call_arguments(op: Op, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return everything that a rule may request, by name.

    These are the operands, the parameters and attributes of a module, the options of the analysis, ``out``, and
    ``grad_outputs``: the indices of the results that have a gradient.
    """
    grad_outputs = frozenset(index or 0 for index in op.fan_in)
    return {**(options or {}), "grad_outputs": grad_outputs, **op.arguments, "out": op.out}


def describe(op: Op) -> str:
    """Return an Op as one line: module path, target, shapes, and the user's source line."""
    inputs = ", ".join(str(operand.spec) for operand in op.operands)
    outputs = ", ".join(map(str, op.outputs))
    source = f", {op.line}" if op.line else ""
    return f"{op.module_path or 'the model itself'}: {op.target}: {inputs} -> {outputs}{source}"


def _unknown(op: Op, reason: str) -> Unknown:
    return Unknown(
        op=op.name,
        target=op.target,
        owner=op.module_path,
        line=op.line,
        inputs=tuple(str(operand.spec) for operand in op.operands),
        outputs=tuple(map(str, op.outputs)),
        why=reason,
        elements=op.elements,
        nbytes=op.nbytes,
    )
