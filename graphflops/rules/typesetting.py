"""Formulas of rules as LaTeX, for the pages of docs/rules/: GitHub typesets them, and ``make docs`` as MathML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Size

_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SYMBOL = re.compile(r"(?P<operand>\w+?)(?:\.(?P<item>\d+)\.)?(?P<axis>\d?)")
"""``weight1``, ``out.1.0``, ``padding.0.``, ``top_k``"""


def latex_rows(cost: Cost, part: str = "") -> Iterator[str]:
    """The rows of a LaTeX array for a cost in symbols: pass, class of work, formula; for each part, if it has parts."""
    for name, inner in cost.parts.items():
        yield from latex_rows(inner, f"{name}, ")
    if cost.parts:
        return
    yield from _rows(f"{part}forward", cost.forward)
    for key, work in cost.grads.items():
        yield from _rows(f"{part}gradient of {'every operand' if key == '*' else key.replace('|', ', ')}", work)
    for name, span in (("span", cost.span), ("span of the backward pass", cost.backward_span)):
        if span is not None:
            yield rf"{_text(part + name)} && {_latex(span)}"


def _rows(name: str, work: Work) -> Iterator[str]:
    items = list(work.items())
    if not items:
        yield rf"{_text(name)} && 0"
    for index, (work_class, count) in enumerate(items):
        yield rf"{'' if index else _text(name)} & {_text(work_class)} = & {_latex(count)}".lstrip()


def _latex(count: Size) -> str:
    import sympy

    symbols: set[Any] = getattr(count, "free_symbols", set())
    names = {symbol: _latex_name(str(symbol)) for symbol in symbols}
    return str(sympy.latex(count, symbol_names=names, mul_symbol="dot"))


def _latex_name(symbol: str) -> str:
    """``weight₁`` → weight with index 1; ``out.numel`` → out between bars; ``out.₁.₀`` → out with index 1, 0."""
    name = symbol.translate(_DIGITS)
    if name.endswith(".numel"):
        return rf"\left| {_text(name.removesuffix('.numel'))} \right|"
    match = _SYMBOL.fullmatch(name)
    if match is None:
        return _text(name)
    index = ", ".join(part for part in (match["item"], match["axis"]) if part)
    return _text(match["operand"]) + (f"_{{{index}}}" if index else "")


def _text(name: str) -> str:
    return rf"\text{{{name.replace('_', chr(92) + '_')}}}"
