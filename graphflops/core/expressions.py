"""Expressions: numbers computed from names, in a small part of Python's syntax that can do nothing else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeAlias

from graphflops.core.messages import format_value, one_line

Compute: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""names → value"""

MAX_CHARACTERS = 2_000
"""of an expression"""
MAX_DEPTH = 100
"""levels of nesting; a sum of n numbers has n levels"""


class ExpressionError(Exception):
    """An invalid expression, or a name that it needs and does not get."""


class Expression:
    """A parsed expression; calling it with the values of its names returns its value.

    Literals, names, ``+ - * //`` and the functions in ``functions``. A subclass adds syntax in ``_compile`` and checks
    numbers in ``_number``.
    """

    operators: ClassVar[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.FloorDiv: operator.floordiv,
    }
    functions: ClassVar[Mapping[str, Callable[..., Any]]] = {}

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        try:
            if len(text) > MAX_CHARACTERS:
                raise self._error(f"{len(text):,} characters are more than {MAX_CHARACTERS:,}")
            self.tree = ast.parse(self.text, mode="eval").body
            _check_depth(self.tree)
        except (SyntaxError, ValueError) as error:
            raise self._error(f"invalid syntax: {one_line(str(error))}") from error
        except (RecursionError, MemoryError) as error:
            raise self._error("nested too deeply") from error
        self._compute = self._compile(self.tree)

    def __call__(self, names: Mapping[str, Any]) -> Any:
        """The value of the expression.

        Raises:
            ExpressionError: a name has no value, or there is no result, as of a division by zero.
        """
        try:
            return self._number(self._compute(names))
        except ZeroDivisionError as error:
            raise self._error("division by zero") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise self._error(str(error)) from error

    def _number(self, value: Any) -> Any:
        """A literal or a result as a number; TypeError or OverflowError if it is none."""
        raise NotImplementedError

    def _compile(self, node: ast.AST) -> Compute:
        match node:
            case ast.Constant(value=int() as literal) if not isinstance(literal, bool):
                return self._literal(literal)
            case ast.Name(id=name):
                return lambda names: self._look_up(name, names)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in self.operators:
                apply, first, second = self.operators[type(op)], self._compile(left), self._compile(right)
                return lambda names: self._number(apply(self._number(first(names)), self._number(second(names))))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                negated = self._compile(operand)
                return lambda names: -self._number(negated(names))
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]) if name in self.functions:
                function, arguments = self.functions[name], [self._compile(argument) for argument in args]
                return lambda names: self._number(function(*(argument(names) for argument in arguments)))
        raise self._error(f"{one_line(ast.unparse(node))} is not allowed in an expression")

    def _literal(self, literal: Any) -> Compute:
        try:
            number = self._number(literal)
        except (ArithmeticError, TypeError) as error:
            raise self._error(str(error)) from error
        return lambda names: number

    def _look_up(self, name: str, names: Mapping[str, Any]) -> Any:
        if name not in names:
            near = get_close_matches(name, names, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            available = ", ".join(sorted(names)) or "none"
            raise self._error(f"unknown name {format_value(name)}{hint} (available: {available})")
        return names[name]

    def _error(self, reason: str) -> ExpressionError:
        return ExpressionError(f"{format_value(self.text)}: {reason}")


def _check_depth(tree: ast.AST) -> None:
    """Raise ValueError if a tree has more than ``MAX_DEPTH`` levels."""
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
