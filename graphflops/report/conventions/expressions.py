"""Expressions: whole numbers made of an Op's shapes, in a small part of Python's syntax that can do nothing else.

A name is a shape (``input``, ``weight``, ``out``, whatever the operator's schema calls its tensors) or the Op's own
work by class (``macs``, ``elementwise``, …). There are ``+ - * //``, a choice ``a if has(bias) else b``, an axis
``out[1]`` or a range of axes ``out[2:]``, ``numel(x)``, the product of its sizes, ``rank(x)``, ``root(n)``, the whole
part of a square root, and ``has(x)``: whether a tensor is given, or an option such as ``training`` is set.

>>> Expression("macs + (numel(out) if has(bias) else 0)")({"macs": 100, "out": (2, 5), "bias": (5,)})
110
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from graphflops.core.codec import LARGEST
from graphflops.core.expressions import LONGEST, refuse_depth
from graphflops.core.messages import MAX_DIGITS, format_value, one_line
from graphflops.core.sizes import prod


class ExpressionError(Exception):
    """An expression that is wrong, or that asks for what an Op does not have."""


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}
_FUNCTIONS: dict[str, Callable[[Any], int]] = {"numel": lambda shape: int(prod(shape)), "rank": len, "root": isqrt}


class Expression:
    """A parsed expression; calling it with the names gives its number."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            if len(text) > LONGEST:
                raise ValueError(f"{len(text):,} characters are more than {LONGEST:,}")
            self.tree = ast.parse(text, mode="eval").body
            refuse_depth(self.tree)
        except (RecursionError, MemoryError) as error:
            raise ExpressionError(f"{format_value(text)} is no expression: it is nested too deeply") from error
        except (SyntaxError, ValueError) as error:
            raise ExpressionError(f"{format_value(text)} is no expression: {one_line(str(error))}") from error
        self._refuse_the_rest()

    def __call__(self, names: Mapping[str, Any]) -> int:
        """The number that it is with these names.

        Raises:
            ExpressionError: a name or an axis is not there, or it is no number.
        """
        try:
            value = self._value(self.tree, names)
        except (ArithmeticError, IndexError, TypeError, ValueError) as error:
            raise ExpressionError(f"{format_value(self.text)}: {error}") from error
        if type(value) is not int:
            raise ExpressionError(f"{format_value(self.text)} is a shape, not a number: say numel(…)")
        if value < 0:
            raise ExpressionError(f"{format_value(self.text)} is {value:,}, and a count is not negative")
        return value

    @property
    def is_constant(self) -> bool:
        """Whether it asks for nothing, so that its number is known before there is an Op."""
        return not any(isinstance(node, ast.Name) for node in ast.walk(self.tree))

    def _value(self, node: ast.AST, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name):
                if name not in names:
                    there = ", ".join(sorted(names))
                    raise ExpressionError(
                        f"{format_value(self.text)} asks for {format_value(name)}; there are: {there}"
                    )
                return names[name]
            case ast.BinOp(left=left, op=op, right=right):
                numbers = _number(self._value(left, names)), _number(self._value(right, names))
                return _number(_OPERATORS[type(op)](*numbers))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_number(self._value(operand, names))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._value(body if self._value(test, names) else orelse, names)
            case ast.Subscript(value=shape, slice=ast.Slice(lower=lower, upper=upper)):
                ends = (None if each is None else self._value(each, names) for each in (lower, upper))
                return self._value(shape, names)[slice(*ends)]
            case ast.Subscript(value=shape, slice=axis):
                return self._value(shape, names)[self._value(axis, names)]
            case ast.Call(func=ast.Name(id="has"), args=[ast.Name(id=name)]):
                return name in names
            case ast.Call(func=ast.Name(id=function), args=[argument]):
                return _number(_FUNCTIONS[function](self._value(argument, names)))
        raise AssertionError(ast.dump(node))  # pragma: no cover

    def _refuse_the_rest(self) -> None:
        for node in ast.walk(self.tree):
            match node:
                case ast.Constant(value=value) if type(value) is int and value < LARGEST:
                    continue
                case ast.BinOp(op=op) if type(op) in _OPERATORS:
                    continue
                case ast.UnaryOp(op=ast.USub()) | ast.Name() | ast.IfExp() | ast.Subscript() | ast.Slice(step=None):
                    continue
                case ast.Call(func=ast.Name(id="has"), args=[ast.Name()], keywords=[]):
                    continue
                case ast.Call(func=ast.Name(id=name), args=[_], keywords=[]) if name in _FUNCTIONS:
                    continue
                case ast.expr_context() | ast.operator() | ast.unaryop():
                    continue
                case ast.Constant(value=value) if type(value) is int:
                    raise ExpressionError(f"{format_value(self.text)}: {format_value(value)} is more than any count")
            raise ExpressionError(
                f"{format_value(self.text)}: {one_line(ast.unparse(node))} is not part of the language"
            )


def _number(value: Any) -> int:
    """A number to count with, and no shape: ``out * 9`` would be a long shape, and not a number."""
    if not isinstance(value, int):
        raise TypeError(f"{format_value(list(value))} is a shape, not a number: say numel(…)")
    if abs(value) >= LARGEST:
        raise OverflowError(f"a number of more than {MAX_DIGITS} digits")
    return value
