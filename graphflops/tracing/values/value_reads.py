"""Value reads: where a program reads the value of a tensor, and whether an error followed from the value.

``if (variance < 0).any(): raise`` is a check: an answer by which the program stops right there is not the one that a
run on valid data gets. Any other error says nothing about an answer.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import TypeAlias

import torch

from graphflops.tracing.values.faults import PACKAGE

_TORCH, _PACKAGE = os.path.dirname(torch.__file__), PACKAGE.removesuffix(os.sep)
_DISTRIBUTIONS = os.path.join(_TORCH, "distributions", "")
_INTERNAL_FILES = re.compile(
    rf"{re.escape(_TORCH)}/(_(?!_init__\.py)|utils/_|overrides\.py|fx/)|{re.escape(_PACKAGE)}/(?!models/)|<(frozen|string)"
)
"""files of the functions that are called between the program's line and the operator that reads the value"""

LineRange: TypeAlias = "tuple[int, int]"
"""first and last line"""


@dataclass(frozen=True)
class CodeLocation:
    """One instruction of a program: two reads in one line have two locations."""

    file: str
    line: int
    instruction: int


@dataclass(frozen=True)
class ValueRead:
    """One read of a value: where, in which call of the function, and after how many operators."""

    location: CodeLocation
    frame: int
    """id of the frame of the function"""
    ordinal: int
    answers: int = 2
    """number of possible answers"""

    @property
    def is_check(self) -> bool:
        """Whether the program reads the value in order to raise: in an ``assert``, or an ``if`` that only raises."""
        return bool(_raising_lines(self.location.file, self.location.line))

    @property
    def is_in_distributions(self) -> bool:
        """Whether torch.distributions validates its arguments."""
        return self.location.file.startswith(_DISTRIBUTIONS)

    def caused(self, error: BaseException, ordinal: int) -> bool:
        """Whether the function that read the value raised an error because of it, after ``ordinal`` operators.

        Either no operator ran in between, or the branch that was taken only raises.
        """
        traceback = error.__traceback__
        if traceback is None:
            return False
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        frame = traceback.tb_frame
        if id(frame) != self.frame or frame.f_code.co_filename != self.location.file:
            return False
        if ordinal == self.ordinal:
            return True
        branches = _raising_lines(self.location.file, self.location.line)
        return any(first <= traceback.tb_lineno <= last for first, last in branches)


def current_read(ordinal: int) -> ValueRead:
    """The value read that is under way, by the innermost function of the program."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_INTERNAL_FILES.match(frame.f_code.co_filename) or _is_bool_of_symbol(frame)):
        frame = frame.f_back
    if frame is None:
        return ValueRead(CodeLocation("", 0, 0), 0, ordinal)
    return ValueRead(CodeLocation(frame.f_code.co_filename, frame.f_lineno, frame.f_lasti), id(frame), ordinal)


def _is_bool_of_symbol(frame: FrameType) -> bool:
    """Whether a frame is that of ``__bool__`` of a symbolic number of PyTorch."""
    return frame.f_code.co_name == "__bool__" and frame.f_code.co_filename == torch.__file__


def _raising_lines(file: str, line: int) -> list[LineRange]:
    """The lines of the statements that raise for an answer to the condition in a line."""
    raising: list[LineRange] = []
    innermost = 0
    for first, last, branches in _conditions(file, tuple(linecache.getlines(file))):
        if first <= line <= last and first >= innermost:
            innermost, raising = first, list(branches)
    return raising


@lru_cache(maxsize=64)
def _conditions(file: str, source: tuple[str, ...]) -> list[tuple[int, int, tuple[LineRange, ...]]]:
    """Every condition of a file: its first and last line, and those of the statements that only raise."""
    try:
        tree = ast.parse("".join(source), file)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    conditions: list[tuple[int, int, tuple[LineRange, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            conditions.append((node.lineno, _end(node.test), ((node.lineno, _end(node)),)))
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            branches = (node.body, node.orelse) if isinstance(node, ast.If) else ()
            statements = [statement for branch in branches for statement in branch if isinstance(statement, ast.Raise)]
            raising = tuple((statement.lineno, _end(statement)) for statement in statements)
            conditions.append((node.test.lineno, _end(node.test), raising))
    return conditions


def _end(node: ast.expr | ast.stmt) -> int:
    return node.end_lineno or node.lineno
