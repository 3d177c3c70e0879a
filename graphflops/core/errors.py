"""Every error graphflops raises on purpose: catch the kind, read the message.

GraphflopsError
  UsageError      a wrong argument, factory, input or output path
  UnsupportedTorch  this version of PyTorch lacks what the analysis reads
  CaptureError    the model could not be traced
  MissingRules    strict, and Ops that no rule names
  VerificationFailed  a reference count differs from a rule
  LawError        no law in the sizes holds at every point that was looked at
  RuleError       a rule is wrong, or asks for what the call does not offer
    RuleLoadError   a rule file does not load
    NotSupported    raised by a rule that does not cover this call: the Op is unknown then, with the reason
    DuplicateRule   two rules of one layer for one target
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphflops.core.characters import safe


class GraphflopsError(Exception):
    """What went wrong, where, and what to do about it, in one message."""

    def __str__(self) -> str:
        return safe(super().__str__())  # names and texts of others are in it


class UsageError(GraphflopsError):
    """An argument, a factory, an input or an output path is not usable."""


class UnsupportedTorch(GraphflopsError):
    """This version of PyTorch lacks, or has in another form, what an analysis reads."""


class CaptureError(GraphflopsError):
    """The model could not be traced to its outputs."""


class MissingRules(GraphflopsError):
    """Strict analysis met Ops without a rule; ``ops`` holds them for programs."""

    def __init__(self, message: str, ops: Sequence[Any]) -> None:
        super().__init__(message)
        self.ops = tuple(ops)


class VerificationFailed(GraphflopsError):
    """A reference count differs from a rule, or a check of rules found a problem."""


class LawError(GraphflopsError):
    """A cost follows no law in the sizes that could be found and held to points of its own.

    ``quantity`` says what of the model it is, ``points`` are the sizes at which it does not hold.
    """

    def __init__(self, message: str, quantity: str = "", points: Sequence[Mapping[str, int]] = ()) -> None:
        super().__init__(message)
        self.quantity = quantity
        self.points = tuple(dict(each) for each in points)


class RuleError(GraphflopsError):
    """A rule is wrong in itself, or asks for what a call does not offer."""


class RuleLoadError(RuleError):
    """A rule file cannot be loaded."""


class DuplicateRule(RuleError):
    """Two rules of one layer speak for one target."""


class NotSupported(RuleError):
    """Raised by a rule that does not cover this call; the Op is reported as unknown, with the reason."""
