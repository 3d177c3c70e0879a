"""Exact costs: every count is a whole number ≥ 0, or a formula in the symbols of the call. Nothing is rounded."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Size, Spec

MAX_NESTING = 4
"""levels of tuples and lists in which the sizes of a call are looked for"""


class Inexact(ValueError):
    """A count that is not a whole number, or a wrong type in a cost. The message names both."""


def exact_cost(cost: Cost, symbols: Collection[Any] = ()) -> Cost:
    """The same cost, with sympy's integers as ints.

    ``symbols`` are those of the call's sizes.

    Raises:
        Inexact: a count is not exact, or a part of the cost is not a Work or Cost.
    """
    _check(isinstance(cost, Cost), "a Cost", cost)
    grads = {_name(key, "a gradient"): _work(work, f"gradient of {key}", symbols) for key, work in cost.grads.items()}
    variants: dict[str, Any] = {name: exact_cost(variant, symbols) for name, variant in cost.variants().items()}
    parts = {_name(name, "a part"): exact_cost(part, symbols) for name, part in cost.parts.items()}
    spans: dict[str, Any] = {
        name: exact_count(value, name, symbols)
        for name in ("span", "backward_span")
        if (value := getattr(cost, name)) is not None
    }
    _check(isinstance(cost.dtype, str), "dtype, the name of a dtype,", cost.dtype)
    forward, recompute = _work(cost.forward, "forward", symbols), _work(cost.recompute, "recompute", symbols)
    return replace(cost, forward=forward, grads=grads, recompute=recompute, parts=parts, **spans, **variants)


def exact_count(value: Any, field: str, symbols: Collection[Any] = ()) -> Size:
    """An int or a formula in ``symbols``, as it is; an integer of sympy as an int.

    numpy's integers are refused like its floats: they overflow silently.

    Raises:
        Inexact: it is anything else, or negative.
    """
    if type(value) is int:
        if value < 0:
            raise Inexact(f"{value}: {_EXPECTED} ({field})")
        return value
    sympy = sys.modules.get("sympy")
    if sympy is None or not isinstance(value, sympy.Basic):
        raise Inexact(f"{_format(value)}: {_EXPECTED}{_hint(value)} ({field})")
    if value.is_Integer:
        return exact_count(int(value), field)
    if not isinstance(value, sympy.Expr) or value.has(sympy.nan, sympy.oo, -sympy.oo, sympy.zoo, sympy.Float, sympy.I):
        raise Inexact(f"{_format(value)}: {_EXPECTED} ({field})")
    unknown = [str(symbol) for symbol in value.free_symbols if symbol not in symbols]
    if unknown:
        raise Inexact(
            f"{_format(value)} for {field}: unknown symbol {', '.join(sorted(unknown))}; "
            f"symbols of the call: {', '.join(sorted(map(str, symbols))) or 'none'}"
        )
    if not value.free_symbols:
        simple = sympy.simplify(value)
        if not simple.is_Integer:
            raise Inexact(f"{_format(value)}: {_EXPECTED} ({field})")
        return exact_count(int(simple), field)
    if value.is_negative or value.is_integer is False:
        raise Inexact(f"{_format(value)}: {_EXPECTED} ({field})")
    formula: Size = value
    return formula


_EXPECTED = "a count is a whole number ≥ 0"


def symbols_in(arguments: Mapping[str, Any]) -> frozenset[Any]:
    """The symbols in the sizes of a call; none if sympy is not imported."""
    sympy = sys.modules.get("sympy")
    if sympy is None:
        return frozenset()
    sizes = (size for size in _sizes(arguments.values(), MAX_NESTING) if isinstance(size, sympy.Basic))
    return frozenset(symbol for size in sizes for symbol in size.free_symbols)


def _sizes(values: Iterable[Any], levels: int) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Spec):
            yield from value.shape
            yield value.nnz
        elif isinstance(value, (tuple, list)) and levels:
            yield from _sizes(value, levels - 1)
        else:
            yield value


def _work(work: Any, field: str, symbols: Collection[Any]) -> Work:
    _check(isinstance(work, Work), f"{field}, a Work,", work)
    names = ("macs", "elementwise", "division", "transcendental", "accumulate", "integer")
    counts = zip(names, work.counts(), strict=True)
    return Work(*(exact_count(count, f"{name}, {field}", symbols) for name, count in counts))


def _name(key: Any, field: str) -> str:
    _check(isinstance(key, str), f"the name of {field}", key)
    return str(key)


def _check(is_valid: bool, field: str, value: Any) -> None:
    if not is_valid:
        raise Inexact(f"{_format(value)} for {field}")


def _format(value: Any) -> str:
    """The repr of a value, shortened, with its type unless the repr shows it."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    text = text if len(text) <= 80 else f"{text[:77]}…"
    kind = type(value)
    if kind in (int, float, bool, str, complex, type(None)) or kind.__name__ in text:
        return text
    return f"{text} ({kind.__module__.split('.')[0]}.{kind.__name__})"


def _hint(value: Any) -> str:
    if type(value).__module__.split(".")[0] == "numpy":
        return "; numpy's numbers overflow and round: multiply Python's ints, as with math.prod"
    return ""
