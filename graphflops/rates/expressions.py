"""Rates as text: ``0.62``, ``2/8``, ``top_k/num_experts`` and ``0.3..0.8``, read without running anything."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from graphflops.errors import UsageError
from graphflops.raised import shortened
from graphflops.rates.numbers import exactly

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: Mapping[str, Callable[..., Fraction]] = {"min": min, "max": max}


def evaluated(text: str, find: Callable[[str], Fraction]) -> Fraction:
    """The number that an expression is: ``+ - * / //``, ``min``, ``max``, and names, for which ``find`` has numbers.

    >>> evaluated("top_k / num_experts", {"top_k": Fraction(2), "num_experts": Fraction(8)}.__getitem__)
    Fraction(1, 4)

    Raises:
        UsageError: it is no such expression; or what ``find`` raises.
    """
    text = text.strip()

    def value(node: ast.AST) -> Fraction:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                written = ast.get_source_segment(text, node) or ""
                if number == 0 and re.search("[1-9]", written.lower().partition("e")[0]):
                    raise UsageError(f"{text!r}: {written} is nearer to 0 than numbers go")
                return exactly(number)
            case ast.Name() | ast.Attribute():
                return find(ast.unparse(node))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return Fraction(_OPERATORS[type(op)](value(left), value(right)))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
                return Fraction(min(map(value, arguments)) if name == "min" else max(map(value, arguments)))
        raise UsageError(f"{text!r}: {ast.unparse(node)} is not part of what a rate can say")

    try:
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{shortened(text, 100)!r} is no rate: write 0.62, top_k/num_experts or 0.3..0.8") from error
    except ZeroDivisionError as error:
        raise UsageError(f"{text!r} divides by zero") from error
