"""Costs of Ops by their rules. Every Op without a rule is found before anything is reported."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
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
    """The costs of a graph's Ops: name of an Op → its rule and Cost; and the Ops, or gradients, without a rule."""

    costs: Mapping[str, tuple[Rule, Cost]] = field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()
    recomputed: Mapping[str, Mapping[Hashable, Work]] = field(default_factory=dict)
    """name of an Op → checkpointed region that keeps some of its results → the work of the operators that run again"""


def apply_rules(
    graph: OpGraph, book: RuleBook, options: Mapping[str, Any] | None = None, *, strict: bool = False
) -> OpCosts:
    """Return the cost of every call by its rule; rules may name ``options`` of the analysis beside the arguments.

    Raises:
        RuleError: a rule is wrong; the message names rule, file, line, and the Op. For a rule of an installed package
            only if strict: else its calls are unknown, with this reason.
    """
    costs: dict[str, tuple[Rule, Cost]] = {}
    unknown: list[Unknown] = []
    recomputed: dict[str, dict[Hashable, Work]] = {}
    answers = RuleCache(lambda rule, offered: rule.evaluate(offered))
    for op in graph.calls():
        rule = OF_ITS_OWN_CODE if op.own_code is not None else book.find(op.call)
        if op.own_code and op.needs_grad:
            unknown.append(_unknown(op, f"no rule names it, and its own backward does not run here: {op.own_code}"))
        if rule is None:
            unknown.append(_unknown(op, "no rule names it"))
            continue
        package = book.plugin_of(rule)
        try:
            with error_context(op):
                cost = answers.get(rule, call_arguments(op, options))
                if package:
                    symbolic(rule, call_arguments(op, options))  # an impure rule is found now, not as a formula
        except NotSupported as error:
            unknown.append(_unknown(op, str(error)))
            continue
        except RuleError as error:
            if strict or not package:
                raise
            *said, _ = map(str.strip, str(error).splitlines())  # the last line is where, which the Op has
            unknown.append(_unknown(op, f"{' '.join(said)} (of {package})"))
            continue
        costs[op.name] = (rule, cost)
        if parts := dict(_recomputed(op, book, options or {})):
            recomputed[op.name] = parts
        missing = [name for name in sorted(op.needs_grad) if not any(covers(key, name) for key in cost.grads)]
        if missing:
            with error_context(op):
                _check_gradient_keys(op, rule, cost, missing)
            unknown.append(_unknown(op, f"rule {rule.name} ({rule.source}) gives no gradient of {', '.join(missing)}"))
    return OpCosts(costs, tuple(unknown), recomputed)


def _recomputed(op: Op, book: RuleBook, options: Mapping[str, Any]) -> Iterator[tuple[Hashable, Work]]:
    """Yield each region that keeps some results, with the work of the operators that run again; none without a rule."""
    for region, only in op.runs_again.items():
        rules = [book.find(call) for call, _ in only or ()]
        if only is None or None in rules:
            continue
        with suppress(RuleError):
            priced = zip(rules, only, strict=True)
            offers = [
                (rule, {**options, "grad_outputs": frozenset(), **offered}) for rule, (_, offered) in priced if rule
            ]
            yield region, sum((rule.evaluate(offered).forward for rule, offered in offers), ZERO)


def expand_repeats(graph: OpGraph, unknown: Sequence[Unknown]) -> tuple[Unknown, ...]:
    """Return the Ops without a rule, at each place where their block is repeated, in order."""
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
    """Raise if a gradient is missing and another one has the name of no input: it is misspelled."""
    inputs = {*op.arguments, *(each.name for each in op.operands)}
    names = [name for key in cost.grads for name in key.split("|")]
    unknown_keys = [name for name in names if not any(covers(name, each) for each in inputs)]
    if unknown_keys:
        raise RuleError(
            f"{rule.source}: rule {rule.name} gives a gradient of {', '.join(unknown_keys)}, which is no input, "
            f"and none of {', '.join(missing)}; inputs are {', '.join(sorted(each.name for each in op.operands))}"
        )


def call_arguments(op: Op, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return everything that a rule may name: operands, parameters, attributes, options, ``out`` and ``grad_outputs``.

    ``grad_outputs`` are the indices of the results through which a gradient comes back.
    """
    grad_outputs = frozenset(index or 0 for index in op.fan_in)
    return {**(options or {}), "grad_outputs": grad_outputs, **op.arguments, "out": op.out}


def describe(op: Op) -> str:
    """Describe an Op in one line: path, target, shapes, and the user's source line."""
    shapes = f"{', '.join(str(each.spec) for each in op.operands)} -> {', '.join(map(str, op.outputs))}"
    return f"{op.module_path or 'the model itself'}: {op.target}: {shapes}, {op.line}"


def _unknown(op: Op, why: str) -> Unknown:
    return Unknown(
        op=op.name,
        target=op.target,
        owner=op.module_path,
        line=op.line,
        inputs=_texts(each.spec for each in op.operands),
        outputs=_texts(op.outputs),
        why=why,
        elements=op.elements,
        nbytes=op.nbytes,
    )


def _texts(specs: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, specs))
