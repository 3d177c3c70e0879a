"""Where a program asks for a truth, and whether it stopped because of the answer.

``if (variance < 0).any(): raise`` is a check: an answer by which the program stops right there is not the one that a
run on right data gets. Nothing else that a program stops by says anything about an answer.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType

import torch

_TORCH, _PACKAGE = os.path.dirname(torch.__file__), str(Path(__file__).parents[1])
_DISTRIBUTIONS = os.path.join(_TORCH, "distributions", "")
_BETWEEN = re.compile(
    rf"{re.escape(_TORCH)}/(_(?!_init__\.py)|utils/_|overrides\.py|fx/)|{re.escape(_PACKAGE)}/(?!models/)|<(frozen|string)"
)
"""files of functions that stand between a program and its answer"""


@dataclass(frozen=True)
class Place:
    """One question in a program: two in one line are two."""

    file: str
    line: int
    instruction: int


@dataclass(frozen=True)
class Question:
    """A question as it was asked: where, by which call of the function, and after how many operators."""

    place: Place
    call: int
    ordinal: int
    answers: int = 2
    """how many there are to try"""

    @property
    def is_check(self) -> bool:
        """Whether a program asks in order to raise: in an ``assert``, or an ``if`` of which one branch only raises."""
        return bool(_raises(self.place.file, self.place.line))

    @property
    def is_of_distributions(self) -> bool:
        """Whether torch.distributions asks, to validate what it was given."""
        return self.place.file.startswith(_DISTRIBUTIONS)

    def is_answered_by(self, error: BaseException, ordinal: int) -> bool:
        """Whether an error was raised by the very function that asked, because of the answer.

        Either no operator ran in between, or the branch that was taken can do nothing else but raise.
        """
        traceback = error.__traceback__
        if traceback is None:
            return False
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        frame = traceback.tb_frame
        if id(frame) != self.call or frame.f_code.co_filename != self.place.file:
            return False
        if ordinal == self.ordinal:
            return True
        return any(first <= traceback.tb_lineno <= last for first, last in _raises(self.place.file, self.place.line))


def asked(ordinal: int) -> Question:
    """The question that is being asked: that of the innermost function of a program."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_BETWEEN.match(frame.f_code.co_filename) or _is_of_a_symbol(frame)):
        frame = frame.f_back
    if frame is None:
        return Question(Place("", 0, 0), 0, ordinal)
    return Question(Place(frame.f_code.co_filename, frame.f_lineno, frame.f_lasti), id(frame), ordinal)


def _is_of_a_symbol(frame: FrameType) -> bool:
    """Whether a frame is that of a symbol of PyTorch's, which is asked whether it is true."""
    return frame.f_code.co_name == "__bool__" and frame.f_code.co_filename == torch.__file__


def _raises(file: str, line: int) -> list[tuple[int, int]]:
    """The lines of what is raised for an answer to the question in that line."""
    found: list[tuple[int, int]] = []
    innermost = 0
    for first, last, raised in _checks(file, tuple(linecache.getlines(file))):
        if first <= line <= last and first >= innermost:
            innermost, found = first, list(raised)
    return found


@lru_cache(maxsize=64)
def _checks(file: str, lines: tuple[str, ...]) -> list[tuple[int, int, tuple[tuple[int, int], ...]]]:
    """Every condition of a file: its first and last line, and those of the statements that only raise."""
    try:
        tree = ast.parse("".join(lines), file)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append((node.lineno, _end(node.test), ((node.lineno, _end(node)),)))
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            branches = (node.body, node.orelse) if isinstance(node, ast.If) else ()
            raised = tuple((each.lineno, _end(each)) for branch in branches for each in branch if _is_raise(each))
            found.append((node.test.lineno, _end(node.test), raised))
    return found


def _is_raise(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise)


def _end(node: ast.expr | ast.stmt) -> int:
    return node.end_lineno or node.lineno
