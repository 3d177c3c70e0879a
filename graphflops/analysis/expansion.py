"""Expansion: the cost of an Op by counting the scalar operations that it runs, instead of by its rule.

An Op is called again with fake tensors, forward and backward, and each operator in it is decomposed (see
``graphflops.analysis.op_counter``). An operator without a decomposition, such as a sort or a solver, is counted by its
rule, and the entry says so; if it has no rule, the Op keeps its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphflops.analysis import op_counter
from graphflops.analysis.costing import OpCosts
from graphflops.core.costs import Cost, Work
from graphflops.core.errors import NotSupported, RuleError, UsageError
from graphflops.core.messages import did_you_mean
from graphflops.core.torch_compat import tree_flatten
from graphflops.graph.op import Op, TensorArgument
from graphflops.graph.op_graph import OpGraph
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.targets import qualified_name
from graphflops.tracing.values.call_arguments import arguments_by_name, spec_if_tensor

SOURCE = Path(op_counter.__file__).parent


def expand_ops(
    graph: OpGraph,
    costs: OpCosts,
    expand: bool | Iterable[str],
    book: RuleBook,
    options: Mapping[str, Any] | None = None,
) -> tuple[OpCosts, tuple[str, ...]]:
    """Return the costs with those of some Ops expanded, and a message for each target that cannot be expanded.

    ``expand`` is a collection of patterns of targets (``aten.softmax*``, ``my.module.*``), or True for all Ops.

    Raises:
        UsageError: a pattern matches nothing.
    """
    patterns = ["*"] if expand is True else list(expand or ())
    unmatched = set(patterns)
    expanded = dict(costs.costs)
    cache: dict[Hashable, tuple[Rule, Cost]] = {}
    reasons: dict[str, str] = {}
    for op in graph.calls():
        matching = {pattern for pattern in patterns if fnmatchcase(op.target, pattern)}
        unmatched -= matching
        if not matching or op.invocation is None:
            continue
        key = _call_key(op)
        try:
            if key not in cache:
                cache[key] = counted_cost(op, book, options)
            expanded[op.name] = cache[key]
        except NotSupported as error:
            reasons[op.name] = f"{op.target} cannot be expanded: {error}"
    if unmatched and expand is not True:
        raise UsageError(_no_match(min(unmatched), list(dict.fromkeys(op.target for op in graph.calls()))))
    unknown = tuple(
        replace(missing, why=reasons.get(missing.op, missing.why))
        for missing in costs.unknown
        if missing.op in reasons or expanded.get(missing.op) == costs.costs.get(missing.op)
    )
    return replace(costs, costs=expanded, unknown=unknown), tuple(dict.fromkeys(reasons.values()))


def _no_match(pattern: str, targets: list[str]) -> str:
    hint = did_you_mean(pattern, targets) or f"targets are: {', '.join(targets[:8]) or 'none'}"
    return f"expand pattern {pattern!r} matches no op; {hint}"


def counted_cost(op: Op, book: RuleBook, options: Mapping[str, Any] | None = None) -> tuple[Rule, Cost]:
    """Count the operations of an Op, forward and for the gradients that it needs; return the cost, and a rule for it.

    The gradients of activations have one key, and the additional work for those of weights has another.

    Raises:
        NotSupported: the Op fails on fake tensors, or runs an operator that has neither a decomposition nor a rule.
    """
    fallback = _RuleFallback(book, options or {})
    weights = {operand.name for operand in op.operands if operand.is_weight} & op.needs_grad
    activations = op.needs_grad - weights

    def count(requires_grad: frozenset[str]) -> op_counter.ScalarOpCount:
        run, args, kwargs = _arguments(op, requires_grad)
        try:
            counted = op_counter.count_scalar_ops(
                run,
                args,
                kwargs,
                training=bool(requires_grad),
                frozen=not requires_grad & weights,
                grad_outputs={index or 0 for index in op.fan_in},
                fallback=fallback,
            )
        except Exception as error:
            raise NotSupported(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        if counted.undecomposed:
            raise NotSupported(f"{', '.join(sorted(counted.undecomposed))} has neither a decomposition nor a rule")
        return counted

    total = count(op.needs_grad)
    grads = {"|".join(sorted(op.needs_grad)): total.backward} if op.needs_grad else {}
    if weights and activations:
        grads = _split_gradients(total.backward, activations, count(frozenset(activations)).backward, weights)
    cost = Cost(total.forward, grads)
    return _counting_rule(op, cost, fallback.used), cost


def _split_gradients(
    total: Work, activations: Iterable[str], activation_work: Work, weights: Iterable[str]
) -> dict[str, Work]:
    """Return the work for gradients of activations and the additional work for those of weights, each with its key."""
    activation_key, weight_key = "|".join(sorted(activations)), "|".join(sorted(weights))
    counts = [count - part for count, part in zip(total.counts(), activation_work.counts(), strict=True)]
    if min(counts) < 0:
        return {f"{activation_key}|{weight_key}": total}
    return {activation_key: activation_work, weight_key: Work(*counts)}


def _counting_rule(op: Op, cost: Cost, used_rules: Iterable[str]) -> Rule:
    """Return a rule whose description says that the cost was counted, for reports."""
    about = "Counted: the scalar operations that its forward and backward code runs, at these sizes."
    if used_rules:
        about += f" By their rules: {', '.join(sorted(used_rules))}."
    # The target is a name, so that a report does not keep the callable alive.
    return Rule("scalar operations", (op.target,), lambda: cost, str(SOURCE), 1, about)


@dataclass
class _RuleFallback:
    """The work of an operator without a decomposition, by its rule; collects the names of such operators."""

    book: RuleBook
    options: Mapping[str, Any]
    used: set[str] = field(default_factory=set)

    def __call__(self, op: Any, args: Any, kwargs: Any, result: Any) -> Work | None:
        rule = self.book.find(op)
        if rule is None:
            return None
        arguments = arguments_by_name(op, args, kwargs)
        out = tuple(map(spec_if_tensor, result)) if isinstance(result, (tuple, list)) else spec_if_tensor(result)
        try:
            work = rule.evaluate({**self.options, "grad_outputs": frozenset(), **arguments, "out": out}).forward
        except (RuleError, NotSupported):
            return None
        self.used.add(qualified_name(op))
        return work


def _arguments(op: Op, requires_grad: frozenset[str]) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """Return the callable of an Op and its arguments, each tensor a new one on the meta device."""
    assert op.invocation is not None
    sources = {(operand.source, operand.index) for operand in op.operands if operand.name in requires_grad}

    def value_of(value: Any) -> Any:
        if isinstance(value, TensorArgument):
            dtype = getattr(torch, value.spec.dtype)
            tensor = torch.empty_strided(value.spec.shape, value.stride, dtype=dtype, device="meta")
            return tensor.requires_grad_(value.source in sources)
        if isinstance(value, dict):
            return {key: value_of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [value_of(item) for item in value]
        if isinstance(value, slice):
            return slice(value_of(value.start), value_of(value.stop), value_of(value.step))
        if isinstance(value, tuple):
            items = [value_of(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    run, args, kwargs = op.invocation
    return run, value_of(args), value_of(kwargs)


def _call_key(op: Op) -> Hashable:
    """Return a key that is equal for calls of the same work."""

    def leaf_key(value: Any) -> Hashable:
        if isinstance(value, TensorArgument):
            return value.spec
        return repr(value) if isinstance(value, (int, float, complex, str, torch.dtype, type(None))) else id(value)

    assert op.invocation is not None
    run, args, kwargs = op.invocation
    module = getattr(run, "__self__", None)
    leaves, structure = tree_flatten((args, dict(kwargs)), is_leaf=lambda value: isinstance(value, TensorArgument))
    weights = frozenset(operand.name for operand in op.operands if operand.is_weight)
    owner = id(module) if isinstance(module, nn.Module) else None
    return (
        op.target,
        owner,
        structure,
        (*map(leaf_key, leaves),),
        op.needs_grad,
        op.needs_grad & weights,
        frozenset(op.fan_in),
    )
