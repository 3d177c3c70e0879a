"""Rates as text: ``0.62``, ``2/8``, ``top_k/num_experts`` and ``0.3..0.8``, read without running anything."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value, one_line
from graphflops.core.rate import exactly

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
LONGEST = 2_000
"""characters of an expression"""
DEEPEST = 100
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
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                return exactly(number)
            case ast.Constant(value=float()):  # as it is written: 1e-999 would be 0
                return exactly((ast.get_source_segment(said, node) or "").replace("_", ""))
            case ast.Name() | ast.Attribute():
                return find(ast.unparse(node))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return exactly(Fraction(_OPERATORS[type(op)](value(left), value(right))))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
                return Fraction(min(map(value, arguments)) if name == "min" else max(map(value, arguments)))
        raise UsageError(f"{format_value(text)}: {one_line(ast.unparse(node))} is not part of what a rate can say")

    said = text.strip()
    try:
        if len(said) > LONGEST:
            raise ValueError(f"{len(said):,} characters are more than {LONGEST:,}")
        tree = ast.parse(said, mode="eval").body
        refuse_depth(tree)
        return value(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{format_value(text)} is no rate: write 0.62, top_k/num_experts or 0.3..0.8") from error
    except ZeroDivisionError as error:
        raise UsageError(f"{format_value(text)} divides by zero") from error


def refuse_depth(tree: ast.AST) -> None:
    """Refuse an expression that is nested so deeply that no person wrote it: a sum of a thousand numbers is as well.

    Raises:
        ValueError: it is.
    """
    level = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEEPEST} deep")
