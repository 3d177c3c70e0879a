"""Formulas: a rule called with symbols instead of sizes, so that every number can be asked why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from inspect import Parameter
from itertools import product
from typing import Any

from graphflops.core.costs import Cost, Work
from graphflops.core.entries import Formula
from graphflops.core.errors import RuleError
from graphflops.core.sizes import Size, Sizes, Spec
from graphflops.rules.rule import Rule

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def symbolic(rule: Rule, offered: Mapping[str, Any]) -> tuple[Cost, dict[Any, Size]]:
    """The cost of a call with a symbol for every size, and the size that each symbol stands for.

    Every dimension of every operand has a symbol of its own (``weight₁``), and so has every attribute that the rule
    annotates as ``Size``.

    Raises:
        RuleError: the rule works on numbers and not on symbols.
    """
    import sympy

    sizes: dict[Any, Size] = {}

    def symbol(name: str, size: Size) -> Any:
        made = sympy.Symbol(name.translate(_SUBSCRIPTS), integer=True, positive=True)
        sizes[made] = size
        return made

    def symbols_for(name: str, value: Any, is_size: bool) -> Any:
        if isinstance(value, Spec):
            return replace(value, shape=tuple(symbol(f"{name}{i}", size) for i, size in enumerate(value.shape)))
        if isinstance(value, (tuple, list)):
            return tuple(symbols_for(f"{name}.{i}.", each, is_size) for i, each in enumerate(value))
        return symbol(name, value) if is_size and isinstance(value, int) else value

    asked = {
        name: symbols_for(name, offered[name], each.annotation in (Size, Sizes))
        for name, each in rule.signature.parameters.items()
        if name in offered
    }
    try:
        return rule.evaluate({**offered, **asked}), sizes
    except RuleError as error:
        raise RuleError(
            f"{error}\n    when it was called with symbols for sizes: a rule uses + − × // and ** on sizes, "
            "and does not branch on one or make a float of it"
        ) from error


def symbolic_example(rule: Rule) -> tuple[Formula, dict[str, str]] | None:
    """The formula of a rule without a call of its own, and the shapes it is written for; None if no call was found.

    Calls are made up from the names that the rule asks for, everything optional given, until it prices one.
    """
    import sympy

    for offered in _made_up(rule):
        try:
            cost, _ = symbolic(rule, offered)
        except (RuleError, AssertionError):
            continue
        shapes: dict[str, str] = {}
        whole: list[tuple[Any, Any]] = []
        for name, each in offered.items():
            if isinstance(each, Spec):
                dims = [
                    sympy.Symbol(f"{name}{i}".translate(_SUBSCRIPTS), integer=True, positive=True)
                    for i in range(len(each.shape))
                ]
                shapes[name] = f"({', '.join(map(str, dims))})"
                whole.append((sympy.Mul(*dims), sympy.Symbol(f"{name}.numel", integer=True, positive=True)))
        return _written(_rewritten(cost, whole), {}), shapes
    return None


def _rewritten(cost: Cost, whole: list[tuple[Any, Any]]) -> Cost:
    """The same with ``x.numel`` for the product of all sizes of x."""

    def put(count: Size) -> Size:
        return count.subs(whole) if hasattr(count, "subs") else count

    def work(each: Work) -> Work:
        return Work(*map(put, each.counts()))

    return Cost(
        work(cost.forward),
        {key: work(each) for key, each in cost.grads.items()},
        work(cost.recompute),
        {name: _rewritten(part, whole) for name, part in cost.parts.items()},
        None if cost.span is None else put(cost.span),
        None if cost.backward_span is None else put(cost.backward_span),
    )


_OF_IMAGES = {"stride", "padding", "dilation", "kernel_size", "output_size", "groups", "scale_factors", "transposed"}
_OPTIONS = {
    "attention": "flash",
    "grad_outputs": frozenset((0, 1, 2)),
    "mode": "reduced",
    "output_mask": (True, True, True),
    "training": True,
}
_SIZE = 8
"""of every axis of a made-up call; symbols take its place"""


def _made_up(rule: Rule) -> Iterator[dict[str, Any]]:
    """Calls that offer what a rule asks for: all operands with as many axes, then each with as many as it likes."""
    asked = rule.signature.parameters
    fixed = {name: value for name, each in asked.items() if (value := _plain_value(name, each)) is not None}
    tensors = [name for name, each in asked.items() if name not in fixed and _may_be_tensor(each)]
    ranks = (4, 3, 2, 1) if _OF_IMAGES & set(asked) else (2, 3, 4, 1)
    alike = [(rank,) * len(tensors) for rank in ranks]
    for chosen in [*alike, *(product(ranks, repeat=len(tensors)) if len(tensors) < 5 else ())]:
        for several in (False, True):
            ranks_of = dict(zip(tensors, chosen, strict=True))
            specs = {name: _operand(asked[name], rank, several) for name, rank in ranks_of.items()}
            yield {**fixed, **specs}


def _operand(asked: Parameter, rank: int, several: bool) -> Any:
    each = Spec((_SIZE,) * rank)
    kind = str(asked.annotation)
    bare = "Spec" not in kind  # it may be one or a tuple of them
    return (each,) * 3 if kind.startswith(("tuple[", "list[", "Sequence[")) or (bare and several) else each


def _may_be_tensor(asked: Parameter) -> bool:
    bare = asked.annotation in (asked.empty, Any)
    return "Spec" in str(asked.annotation) or bare or asked.name == "out"


def _plain_value(name: str, asked: Parameter) -> Any:
    """A value for what is no tensor; None if it is one, or may be left out."""
    kind = str(asked.annotation)
    if "Spec" in kind or name == "out":
        return None
    if name in _OPTIONS:
        return _OPTIONS[name]
    if asked.default not in (asked.empty, None):
        return asked.default
    if asked.annotation == Size or kind in ("int", "<class 'int'>"):
        return _SIZE
    if "float" in kind:
        return 0.5
    if "bool" in kind:
        return name.startswith("compute_")
    if "Size, ..." in kind or asked.annotation == Sizes:
        return (_SIZE, _SIZE)
    if "list[int]" in kind:
        return [-1]  # axes
    return None


def formula(rule: Rule, offered: Mapping[str, Any]) -> Formula:
    """The formula of a call, as text; of what another counter's formula gives on numbers alone, the number.

    Raises:
        RuleError: the rule works on numbers and not on symbols, and is not an adapted one.
    """
    try:
        cost, sizes = symbolic(rule, offered)
    except RuleError:
        if not rule.adapted_from:
            raise
        cost, sizes = Cost(), {}
    if rule.adapted_from and not _gives(cost, sizes, number := rule.evaluate(offered)):
        text = _written(number, {})
        why = f" (a number, not a formula: what is adapted from {rule.adapted_from} does not work on symbols)"
        return replace(text, forward=text.forward + why)
    return _written(cost, sizes)


def _gives(cost: Cost, sizes: Mapping[Any, Size], number: Cost) -> bool:
    """Whether a cost in symbols is, with these sizes, the cost that was found with numbers."""

    def counts(each: Cost) -> list[Any]:
        works = [each.forward, *(work for _, work in sorted(each.grads.items()))]
        return [count.subs(sizes) if hasattr(count, "subs") else count for work in works for count in work.counts()]

    return counts(cost) == counts(number)


def _written(cost: Cost, sizes: Mapping[Any, Size]) -> Formula:
    works = [cost.forward, *cost.grads.values()]
    sizes_in = [*(count for work in works for _, count in work.items()), cost.span, cost.backward_span]
    used = {symbol for each in sizes_in for symbol in getattr(each, "free_symbols", ())}
    return Formula(
        forward=_text(cost.forward),
        grads={key: _text(work) for key, work in cost.grads.items()},
        sizes={str(symbol): int(size) for symbol, size in sizes.items() if symbol in used},
        parts={name: _written(part, sizes) for name, part in cost.parts.items()},
        span="" if cost.span is None else _product(cost.span),
        backward_span="" if cost.backward_span is None else _product(cost.backward_span),
    )


def _text(work: Work) -> str:
    return ", ".join(f"{name} = {_product(count)}" for name, count in work.items()) or "0"


def _product(count: Size) -> str:
    return str(count).replace("**", "^").replace("*", "·").replace(" - ", " − ")
