"""Between price and attribute: Ops priced by counting what they do, the primitives, instead of by their rule.

An Op is called again with fresh stand-ins, forward and backward, and every operator in it is taken apart (see
``graphflops.analysis.op_counter``). What cannot be taken apart, a sort or a solver, is priced by its rule, and the
entry says so; what has none leaves the Op as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphflops.analysis import op_counter
from graphflops.analysis.costing import OpCosts
from graphflops.capture.call_arguments import arguments_by_name, spec_if_tensor
from graphflops.core.costs import Cost, Work
from graphflops.core.errors import NotSupported, RuleError, UsageError
from graphflops.core.torch_compat import tree_flatten
from graphflops.graph.op import Op, TensorArgument
from graphflops.graph.op_graph import OpGraph
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.rules.targets import qualified_name

SOURCE = Path(op_counter.__file__).parent


def expand_ops(
    graph: OpGraph,
    costs: OpCosts,
    which: bool | Iterable[str],
    book: RuleBook,
    options: Mapping[str, Any] | None = None,
) -> tuple[OpCosts, tuple[str, ...]]:
    """The same prices, those of the chosen Ops counted; and what was not counted that should be, with its reason.

    ``which`` are patterns of targets as people write them (``aten.softmax*``, ``my.module.*``), or True for all.

    Raises:
        UsageError: a pattern is of nothing.
    """
    patterns = ["*"] if which is True else list(which or ())
    expanded, left = dict(costs.costs), {}
    made: dict[Any, tuple[Rule, Cost]] = {}
    idle = set(patterns)
    for op in graph.calls():
        matching = {each for each in patterns if fnmatchcase(op.target, each)}
        idle -= matching
        if not matching or op.invocation is None:
            continue
        key = _alike(op)
        try:
            if key not in made:
                made[key] = counted(op, book, options)
            expanded[op.name] = made[key]
        except NotSupported as error:
            left[op.name] = f"{op.target} cannot be expanded: {error}"
    if idle and which is not True:
        raise UsageError(_nothing(min(idle), list(dict.fromkeys(op.target for op in graph.calls()))))
    unknown = tuple(
        replace(each, why=left[each.op]) if each.op in left else each
        for each in costs.unknown
        if each.op in left or expanded.get(each.op) == costs.costs.get(each.op)
    )
    return replace(costs, costs=expanded, unknown=unknown), tuple(dict.fromkeys(left.values()))


def _nothing(pattern: str, targets: list[str]) -> str:
    near = get_close_matches(pattern.replace("*", ""), targets, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(targets[:8]) or 'none'}"
    return f"{pattern!r} expands nothing: no op has such a target; {hint}"


def counted(op: Op, book: RuleBook, options: Mapping[str, Any] | None = None) -> tuple[Rule, Cost]:
    """What an Op does, forward and for the gradients that it needs, and a rule that says how that was found.

    The gradients of activations have a key, and what those of weights add to it has another.

    Raises:
        NotSupported: it does not run on stand-ins, or something in it can be neither taken apart nor priced by a rule.
    """
    asked = _ByRule(book, options or {})
    weights = {each.name for each in op.operands if each.is_weight} & op.needs_grad
    others = op.needs_grad - weights

    def run(wanted: frozenset[str]) -> op_counter.ScalarOpCount:
        run_op, args, kwargs = _arguments(op, wanted)
        try:
            seen = op_counter.count_scalar_ops(
                run_op,
                args,
                kwargs,
                training=bool(wanted),
                frozen=not wanted & weights,
                grad_outputs={index or 0 for index in op.fan_in},
                fallback=asked,
            )
        except Exception as error:
            raise NotSupported(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
        if seen.undecomposed:
            raise NotSupported(
                f"{', '.join(sorted(seen.undecomposed))} can be neither taken apart nor priced by a rule"
            )
        return seen

    whole = run(op.needs_grad)
    grads = {"|".join(sorted(op.needs_grad)): whole.backward} if op.needs_grad else {}
    if weights and others:
        grads = _apart(whole.backward, others, run(frozenset(others)).backward, weights)
    cost = Cost(whole.forward, grads)
    return _rule(op, cost, asked), cost


def _apart(whole: Work, others: Iterable[str], of_others: Work, weights: Iterable[str]) -> dict[str, Work]:
    """What is done for the gradients of activations, and what those of weights add to it."""
    first, second = "|".join(sorted(others)), "|".join(sorted(weights))
    added = [mine - theirs for mine, theirs in zip(whole.counts(), of_others.counts(), strict=True)]
    return {f"{first}|{second}": whole} if min(added) < 0 else {first: of_others, second: Work(*added)}


def _rule(op: Op, cost: Cost, asked: _ByRule) -> Rule:
    """How the number was found, as a rule that a report can name."""
    about = "Counted: the scalar operations that its forward and backward code runs, at these sizes."
    if asked.found:
        about += f" By their rules: {', '.join(sorted(asked.found))}."
    return Rule(
        "scalar operations", (op.target,), lambda: cost, str(SOURCE), 1, about
    )  # by name: a report outlives what ran


@dataclass
class _ByRule:
    """Prices by its rule what cannot be taken apart, and remembers what that was."""

    book: RuleBook
    options: Mapping[str, Any]
    found: set[str] = field(default_factory=set)

    def __call__(self, op: Any, args: Any, kwargs: Any, result: Any) -> Work | None:
        rule = self.book.find(op)
        if rule is None:
            return None
        offered = arguments_by_name(op, args, kwargs)
        out = tuple(map(spec_if_tensor, result)) if isinstance(result, (tuple, list)) else spec_if_tensor(result)
        try:
            work = rule.evaluate({**self.options, "grad_outputs": frozenset(), **offered, "out": out}).forward
        except (RuleError, NotSupported):
            return None
        self.found.add(qualified_name(op))
        return work


def _arguments(op: Op, wanted: frozenset[str]) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """Return the callable of an Op and its arguments, with a tensor of its own at each place that one stands in."""
    assert op.invocation is not None
    sources = {(operand.source, operand.index) for operand in op.operands if operand.name in wanted}

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


def _alike(op: Op) -> Any:
    """Return a key that is the same for calls that do the same."""

    def plain(value: Any) -> Any:
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
        (*map(plain, leaves),),
        op.needs_grad,
        op.needs_grad & weights,
        frozenset(op.fan_in),
    )
