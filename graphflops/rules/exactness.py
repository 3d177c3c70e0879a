"""Whether a cost is exact: whole numbers that are not negative, or formulas in known symbols; nothing is rounded."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Size, Spec

NESTED = 4
"""how deep in tuples and lists the sizes of a call may stand"""


class Inexact(ValueError):
    """A count that is no whole number, or a cost that is put together of something else; the message says where."""


def exact(cost: Cost, known: Collection[Any] = ()) -> Cost:
    """The same cost, numbers of sympy that are whole as ints, if all of it is exact.

    ``known`` are the symbols that the sizes of the call are written in.

    Raises:
        Inexact: some count is not exact, or something in it is no Work or Cost.
    """
    _refuse_unless(isinstance(cost, Cost), "a Cost", cost)
    grads = {_name(key, "a gradient"): _work(work, f"gradient of {key}", known) for key, work in cost.grads.items()}
    others: dict[str, Any] = {
        name: exact(other, known)
        for name in ("useful", "full", "lower", "upper")
        if (other := getattr(cost, name)) is not None
    }
    parts = {_name(name, "a part"): exact(part, known) for name, part in cost.parts.items()}
    spans: dict[str, Any] = {
        name: count(value, name, known)
        for name in ("span", "backward_span")
        if (value := getattr(cost, name)) is not None
    }
    _refuse_unless(isinstance(cost.dtype, str), "dtype, the name of a dtype,", cost.dtype)
    forward, recompute = _work(cost.forward, "forward", known), _work(cost.recompute, "recompute", known)
    return replace(cost, forward=forward, grads=grads, recompute=recompute, parts=parts, **spans, **others)


def count(value: Any, what: str, known: Collection[Any] = ()) -> Size:
    """An exact count: an int as it is, a whole number of sympy as an int, a formula in known symbols as it is.

    numpy's integers are refused like its floats: they have wrapped around in silence before anybody can look.

    Raises:
        Inexact: it is anything else, or negative.
    """
    if type(value) is int:
        if value < 0:
            raise Inexact(f"{value}: counts are exact, whole, not negative ({what})")
        return value
    sympy = sys.modules.get("sympy")
    if sympy is None or not isinstance(value, sympy.Basic):
        raise Inexact(f"{_shown(value)}: counts are exact, whole, not negative{_instead_of(value)} ({what})")
    if value.is_Integer:
        return count(int(value), what)
    if not isinstance(value, sympy.Expr) or value.has(sympy.nan, sympy.oo, -sympy.oo, sympy.zoo, sympy.Float, sympy.I):
        raise Inexact(f"{_shown(value)}: counts are exact, whole, not negative ({what})")
    strange = [str(each) for each in value.free_symbols if each not in known]
    if strange:
        raise Inexact(
            f"{_shown(value)} for {what}: {', '.join(sorted(strange))} is no size of the call, "
            f"whose symbols are {', '.join(sorted(map(str, known))) or 'none'}"
        )
    if not value.free_symbols:
        simple = sympy.simplify(value)
        if not simple.is_Integer:
            raise Inexact(f"{_shown(value)}: counts are exact, whole, not negative ({what})")
        return count(int(simple), what)
    if value.is_negative or value.is_integer is False:
        raise Inexact(f"{_shown(value)}: counts are exact, whole, not negative ({what})")
    formula: Size = value
    return formula


def symbols_in(offered: Mapping[str, Any]) -> frozenset[Any]:
    """The symbols that the sizes of a call are written in; none if all of them are numbers, or sympy is not there."""
    sympy = sys.modules.get("sympy")
    if sympy is None:
        return frozenset()
    found = (each for each in _sizes(offered.values(), NESTED) if isinstance(each, sympy.Basic))
    return frozenset(symbol for each in found for symbol in each.free_symbols)


def _sizes(values: Iterable[Any], deep: int) -> Iterator[Any]:
    for each in values:
        if isinstance(each, Spec):
            yield from each.shape
            yield each.stored
        elif isinstance(each, (tuple, list)) and deep:
            yield from _sizes(each, deep - 1)
        else:
            yield each


def _work(work: Any, what: str, known: Collection[Any]) -> Work:
    _refuse_unless(isinstance(work, Work), f"{what}, a Work,", work)
    names = ("macs", "elementwise", "division", "transcendental", "accumulate", "integer")
    return Work(*(count(each, f"{name}, {what}", known) for name, each in zip(names, work.counts(), strict=True)))


def _name(key: Any, what: str) -> str:
    _refuse_unless(isinstance(key, str), f"the name of {what}", key)
    return str(key)


def _refuse_unless(fits: bool, what: str, value: Any) -> None:
    if not fits:
        raise Inexact(f"{_shown(value)} for {what}")


def _shown(value: Any) -> str:
    """What was given, with its kind where that is not plain to see; short, whatever it is."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    text = text if len(text) <= 80 else f"{text[:77]}…"
    kind = type(value)
    if kind in (int, float, bool, str, complex, type(None)) or kind.__name__ in text:
        return text
    return f"{text} ({kind.__module__.split('.')[0]}.{kind.__name__})"


def _instead_of(value: Any) -> str:
    if type(value).__module__.split(".")[0] == "numpy":
        return "; numpy's numbers wrap around and round: multiply Python's ints, as with math.prod"
    return ""
