"""Assumptions of one trace about what data decides, with the user's source lines, and the branches that follow.

A branch takes the side that follows from constants, else the first. A check (``value_reads.py``) is passed: if an
answer makes the program raise there and then, the trace is made again with another one. No other answer is changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from graphflops.core.errors import GraphflopsError
from graphflops.tracing.values.provenance import Provenance
from graphflops.tracing.values.tensor_values import Value, real_execution
from graphflops.tracing.values.value_reads import CodeLocation, ValueRead, current_read

NONE_ASSUMED = "data-dependent mask; no element assumed True, as its complement is assumed full"
DISTRIBUTIONS_VALID = "the arguments and values of torch.distributions are assumed valid"
_DRAWN = "random number read; drawn with a fixed seed"
_RANK_ASSUMED = "data-dependent selection (topk, argmax, sort or sampling); balanced selection assumed"
_MASK_ASSUMED = "data-dependent mask; all elements assumed True"

_PASSING_NUMBERS = (0.0, 1.0, -1.0, 0.5)
"""numbers that a check is given, one after the other, until one passes"""

_NO_FLIPS: Mapping[CodeLocation, int] = {}


class Assumptions:
    """The assumptions of one trace.

    ``flipped_branches`` counts for each check of the program how many of its answers made it raise.
    """

    def __init__(self, provenance: Provenance, flipped_branches: Mapping[CodeLocation, int] = _NO_FLIPS) -> None:
        self.provenance = provenance
        self.flipped_branches = flipped_branches
        self.notes: dict[str, None] = {}
        """a sentence for each assumption, in order"""
        self.branch_count = 0
        """number of branches whose answer was assumed"""
        self.line: Callable[[], str] = str
        """returns the user's line that runs, as ``file:line``"""
        self._recent_reads: deque[ValueRead] = deque(maxlen=8)

    def note(self, sentence: str) -> None:
        """Note an assumption, with the user's line."""
        self.notes.setdefault(f"{self.line()}: {sentence}")

    def note_kinds(self, assumptions: frozenset[str], *, selects_any: bool = True) -> None:
        """Note the assumptions that a value depends on; ``selects_any``: whether a mask is assumed full, or empty."""
        if "draw" in assumptions:
            self.note(_DRAWN)
        if assumptions != {"draw"}:
            self.note(_RANK_ASSUMED if "rank" in assumptions else _MASK_ASSUMED if selects_any else NONE_ASSUMED)

    def answer(self, value: Value) -> Any:
        """The number or the truth value in a tensor of one element that the program reads, noted if it is assumed."""
        with real_execution():
            answer = value.tensor.item()
        if not value.assumptions:
            return answer
        if value.assumptions == {"draw"}:
            self.note_kinds(value.assumptions)
            return answer
        read = self.current_read()
        is_flipped = read.location in self.flipped_branches
        if isinstance(answer, bool):
            self._recent_reads.append(read)
            self.branch_count += 1
            if read.is_in_distributions:
                self.notes.setdefault(DISTRIBUTIONS_VALID)
            else:
                self.note(f"data-dependent branch; took the {answer ^ is_flipped} branch")
            return answer ^ is_flipped
        if "mask" in value.assumptions and read.is_check:
            self._recent_reads.append(read)
            answer = type(answer)(0) if is_flipped else answer
        self.note_kinds(value.assumptions, selects_any=bool(answer))
        return answer

    def assume_true(self) -> bool:
        """The answer to a truth value of which nothing is known: True, unless it makes a check raise."""
        with real_execution():
            return bool(self.answer(Value(torch.ones((), dtype=torch.bool), frozenset({"check"}))))

    def assume_passing_number(self, tensor: torch.Tensor, read: ValueRead) -> float | int:
        """A number that passes the check that reads it."""
        self._recent_reads.append(replace(read, answers=len(_PASSING_NUMBERS)))
        self.branch_count += 1
        self.note("data-dependent check of a number; one that passes is assumed")
        number = _PASSING_NUMBERS[self.flipped_branches.get(read.location, 0)]
        return number if tensor.is_floating_point() else int(number)

    def assume_mask_selects(self) -> bool:
        """Whether a mask whose positions are read is assumed full: it is, unless that makes a check raise."""
        read = self.current_read()
        if not read.is_check:
            return True
        self._recent_reads.append(read)
        return read.location not in self.flipped_branches

    def current_read(self) -> ValueRead:
        """The read that is under way."""
        return current_read(self.provenance.ordinal)

    def reads_that_raised(self, error: Exception) -> list[ValueRead]:
        """The reads whose answers may have made the program raise an error, the last one first."""
        cause = error.__cause__ if isinstance(error, GraphflopsError) and error.__cause__ is not None else error
        return [read for read in reversed(self._recent_reads) if read.caused(cause, self.provenance.ordinal)]
