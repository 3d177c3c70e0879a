"""Counts: whole numbers computed from an Op's shapes.

A name is a shape (``input``, ``weight``, ``out``, as the operator's schema names its tensors) or the Op's own work by
class (``macs``, ``elementwise``, …). There are ``+ - * //``, a choice ``a if has(bias) else b``, an axis ``out[1]`` or
a range of axes ``out[2:]``, ``numel(x)``, the product of its sizes, ``rank(x)``, ``root(n)``, the whole part of a
square root, and ``has(x)``: whether a tensor is given, or an option such as ``training`` is set.

>>> CountExpression("macs + (numel(out) if has(bias) else 0)")({"macs": 100, "out": (2, 5), "bias": (5,)})
110
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, ClassVar

from graphflops.core.codec import MAX_INTEGER
from graphflops.core.expressions import Compute, Expression
from graphflops.core.messages import MAX_DIGITS, format_value
from graphflops.core.sizes import prod


class CountExpression(Expression):
    """An expression of shapes, whose value is a whole number of at least 0."""

    functions: ClassVar[Mapping[str, Callable[[Any], int]]] = {
        "numel": lambda shape: int(prod(shape)),
        "rank": len,
        "root": isqrt,
    }

    def __call__(self, names: Mapping[str, Any]) -> int:
        """The value of the expression.

        Raises:
            ExpressionError: a name or an axis is missing, or the value is a shape or negative.
        """
        value: int = super().__call__(names)
        if value < 0:
            raise self._error(f"the value is {value:,}, and a count is not negative")
        return int(value)

    @property
    def is_constant(self) -> bool:
        """Whether the expression has no names."""
        return not any(isinstance(node, ast.Name) for node in ast.walk(self.tree))

    def _number(self, value: Any) -> int:
        """The number; ``out * 9`` would be a long shape."""
        if not isinstance(value, int):
            raise TypeError(f"{format_value(list(value))} is a shape, not a number; expected numel(…)")
        if abs(value) >= MAX_INTEGER:
            raise OverflowError(f"a number of more than {MAX_DIGITS} digits")
        return value

    def _compile(self, node: ast.AST) -> Compute:
        match node:
            case ast.Call(func=ast.Name(id="has"), args=[ast.Name(id=name)], keywords=[]):
                return lambda names: name in names
            case ast.Call(args=[_, _, *_]):
                raise self._error(f"{ast.unparse(node)}: a function has one argument")
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, first, second = map(self._compile, (test, body, orelse))
                return lambda names: (first if condition(names) else second)(names)
            case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper, step=None)):
                shape = self._compile(value)
                start, stop = (self._compile(bound) if bound else _no_bound for bound in (lower, upper))
                return lambda names: shape(names)[start(names) : stop(names)]
            case ast.Subscript(value=value, slice=index):
                shape, axis = self._compile(value), self._compile(index)
                return lambda names: shape(names)[axis(names)]
        return super()._compile(node)


def _no_bound(names: Mapping[str, Any]) -> None:
    """The bound of a range that has none."""
