"""Numbers that count their operations: the reference for operations that are not matrix products.

A reference loop written with them has the value that it should have, and a tally of its operations by class. Plain
numbers are constants: what is done among them, as 1 − β of an optimizer, is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from graphflops import Work

TALLY: Counter[str] = Counter()
CLASSES = ("elementwise", "division", "transcendental")


def _counting(name: str, **cost: int) -> Callable[..., Any]:
    def operator(self: Any, *operands: Any) -> Any:
        answer = getattr(type(self).__mro__[1], name)(self, *operands)
        if answer is not NotImplemented:
            TALLY.update(cost)
        return answer if isinstance(answer, bool) or answer is NotImplemented else type(self)(answer)

    return operator


class Real(float):
    """A float that counts: arithmetic and comparison 1, a division 1 of its own class."""


class Complex(complex):
    """A complex number that counts real operations: add 2, multiply 6, by a real number 2, divide 9 and 2 divisions."""

    def __mul__(self, other: Any) -> Complex:
        TALLY["elementwise"] += 6 if isinstance(other, complex) else 2
        return Complex(complex(self) * complex(other))

    __rmul__ = __mul__


for _name in ("add", "sub", "mul", "radd", "rsub", "rmul", "neg", "abs", "lt", "le", "gt", "ge"):
    setattr(Real, f"__{_name}__", _counting(f"__{_name}__", elementwise=1))
for _name in ("truediv", "rtruediv"):
    setattr(Real, f"__{_name}__", _counting(f"__{_name}__", division=1))
    setattr(Complex, f"__{_name}__", _counting(f"__{_name}__", elementwise=9, division=2))
for _name in ("add", "sub", "radd", "rsub"):
    setattr(Complex, f"__{_name}__", _counting(f"__{_name}__", elementwise=2))


def _function(function: Callable[[float], float], kind: str) -> Callable[[float], float]:
    def counting(x: float) -> float:
        TALLY[kind] += isinstance(x, Real)
        return type(x)(function(float(x)))

    return counting


_NAMES = "exp log log1p expm1 exp2 log2 tanh tan erf sin cos sinh cosh asin acos atan"
exp, log, log1p, expm1, exp2, log2, tanh, tan, erf, sin, cos, sinh, cosh, asin, acos, atan = (
    _function(getattr(math, name), "transcendental") for name in _NAMES.split()
)
sqrt = _function(math.sqrt, "division")
rsqrt = _function(lambda x: 1 / math.sqrt(x), "division")


def power(x: float, exponent: float) -> float:
    """xᵉ, one operation of its own kind."""
    TALLY["transcendental"] += 1
    return type(x)(float(x) ** float(exponent))


def select(condition: bool, yes: Any, no: Any) -> Any:
    """One value or the other: one operation beside the comparison."""
    TALLY["elementwise"] += 1
    return yes if condition else no


def tallied(function: Callable[..., Any], *args: Any) -> tuple[Any, dict[str, int]]:
    """The result of a function of counting numbers, and its operations by class."""
    TALLY.clear()
    answer = function(*args)
    return answer, {name: TALLY[name] for name in CLASSES}


def tally_of(work: Work, *, sums: bool = False) -> dict[str, Any]:
    """A rule's claim in the same classes; with ``sums``, what it gives as accumulate counts as elementwise."""
    assert not work.macs
    assert not work.integer
    assert sums or not work.accumulate
    added = work.accumulate if sums else 0
    return {"elementwise": work.elementwise + added, "division": work.division, "transcendental": work.transcendental}
