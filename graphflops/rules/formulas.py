"""Formulas of costs: a rule evaluated on symbols instead of sizes, written as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphflops.core.costs import Cost, Work
from graphflops.core.entries import Formula
from graphflops.core.errors import RuleError
from graphflops.core.sizes import Size, Sizes, Spec
from graphflops.rules.rule import Rule

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def symbolic(rule: Rule, arguments: Mapping[str, Any]) -> tuple[Cost, dict[Any, Size]]:
    """The cost of a call with a symbol for every size, and the size of each symbol.

    Every dimension of every operand has its own symbol (``weight₁``), and so has every argument annotated as ``Size``.

    Raises:
        RuleError: the rule works on numbers and not on symbols.
    """
    sizes: dict[Any, Size] = {}

    def symbol(name: str, size: Size) -> Any:
        new = _symbol(name)
        sizes[new] = size
        return new

    def with_symbols(name: str, value: Any, is_size: bool) -> Any:
        if isinstance(value, Spec):
            return replace(value, shape=tuple(symbol(f"{name}{axis}", size) for axis, size in enumerate(value.shape)))
        if isinstance(value, (tuple, list)):
            return tuple(with_symbols(f"{name}.{index}.", item, is_size) for index, item in enumerate(value))
        return symbol(name, value) if is_size and isinstance(value, int) else value

    requested = {
        name: with_symbols(name, arguments[name], parameter.annotation in (Size, Sizes))
        for name, parameter in rule.signature.parameters.items()
        if name in arguments
    }
    try:
        return rule.evaluate({**arguments, **requested}), sizes
    except RuleError as error:
        raise RuleError(
            f"{error}\n    when it was called with symbols for sizes: a rule uses + − × // and ** on sizes, "
            "and does not branch on a size or convert it to float"
        ) from error


def _symbol(name: str) -> Any:
    import sympy

    return sympy.Symbol(name.translate(_SUBSCRIPTS), integer=True, positive=True)


def symbolic_example(rule: Rule) -> tuple[Formula, dict[str, str]] | None:
    """The formula of a rule for example arguments, and their shapes; None if the rule accepts none of the examples."""
    example = symbolic_example_cost(rule)
    return None if example is None else (_format_cost(example[0], {}), example[1])


def symbolic_example_cost(rule: Rule) -> tuple[Cost, dict[str, str]] | None:
    """The cost of a rule in symbols for example arguments, and their shapes; None as for ``symbolic_example``."""
    import sympy

    from graphflops.rules.example_calls import example_arguments  # imports torch

    for arguments in example_arguments(rule):
        try:
            cost, _ = symbolic(rule, arguments)
        except (RuleError, AssertionError):
            continue
        shapes: dict[str, str] = {}
        numels: list[tuple[Any, Any]] = []
        for name, spec in arguments.items():
            if isinstance(spec, Spec):
                dimensions = [_symbol(f"{name}{axis}") for axis in range(len(spec.shape))]
                shapes[name] = f"({', '.join(map(str, dimensions))})"
                numels.append((sympy.Mul(*dimensions), _symbol(f"{name}.numel")))
        return _substitute(cost, numels), shapes
    return None


def _substitute(cost: Cost, replacements: list[tuple[Any, Any]]) -> Cost:
    """The same cost with expressions replaced, such as the product of all sizes of x by ``x.numel``."""

    def in_count(count: Any) -> Any:
        return count.subs(replacements) if hasattr(count, "subs") else count

    return cost.map(lambda work: Work(*map(in_count, work.counts())), in_count)


def formula(rule: Rule, arguments: Mapping[str, Any]) -> Formula:
    """The formula of a call as text; the number, if an adapted rule does not work on symbols.

    Raises:
        RuleError: the rule does not work on symbols, and is not adapted.
    """
    try:
        cost, sizes = symbolic(rule, arguments)
    except RuleError:
        if not rule.adapted_from:
            raise
        cost, sizes = Cost(), {}
    if rule.adapted_from and not _equal_at(cost, sizes, number := rule.evaluate(arguments)):
        text = _format_cost(number, {})
        remark = f" (a number, not a formula: this rule adapted from {rule.adapted_from} does not work on symbols)"
        return replace(text, forward=text.forward + remark)
    return _format_cost(cost, sizes)


def _equal_at(cost: Cost, sizes: Mapping[Any, Size], number: Cost) -> bool:
    """Whether a cost in symbols equals a cost in numbers at these sizes."""

    def counts(cost: Cost) -> list[Any]:
        works = [cost.forward, *(work for _, work in sorted(cost.grads.items()))]
        return [count.subs(sizes) if hasattr(count, "subs") else count for work in works for count in work.counts()]

    return counts(cost) == counts(number)


def _format_cost(cost: Cost, sizes: Mapping[Any, Size]) -> Formula:
    works = [cost.forward, *cost.grads.values()]
    counts = [*(count for work in works for _, count in work.items()), cost.span, cost.backward_span]
    used = {symbol for count in counts for symbol in getattr(count, "free_symbols", ())}
    return Formula(
        forward=_format_work(cost.forward),
        grads={key: _format_work(work) for key, work in cost.grads.items()},
        sizes={str(symbol): int(size) for symbol, size in sizes.items() if symbol in used},
        parts={name: _format_cost(part, sizes) for name, part in cost.parts.items()},
        span="" if cost.span is None else _format_count(cost.span),
        backward_span="" if cost.backward_span is None else _format_count(cost.backward_span),
    )


def _format_work(work: Work) -> str:
    return ", ".join(f"{name} = {_format_count(count)}" for name, count in work.items()) or "0"


def _format_count(count: Size) -> str:
    return str(count).replace("**", "^").replace("*", "·").replace(" - ", " − ")
