"""The exceptions of graphflops.

GraphflopsError
  UsageError      a wrong argument, factory, input or output path
  UnsupportedTorch  this version of PyTorch lacks an API that the analysis needs
  CaptureError    the model could not be captured
  MissingRules    strict analysis, and ops without a rule
  VerificationFailed  a reference count differs from a rule
  BudgetExceeded  a number is over its limit, or grew by more than is allowed
  LawError        no scaling law fits all sample points
  RuleError       a rule is wrong, or has an argument that the call does not provide
    RuleLoadError   a rule file does not load
    NotSupported    raised by a rule that does not cover this call; the op is unsupported, with the reason
    DuplicateRule   two rules of one source for one target
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphflops.core.characters import safe


class GraphflopsError(Exception):
    """Base class. The message says what is wrong, where, and what to do."""

    def __str__(self) -> str:
        return safe(super().__str__())  # it may quote a user's text


class UsageError(GraphflopsError):
    """An argument, a factory, an input or an output path is not usable."""


class UnsupportedTorch(GraphflopsError):
    """This version of PyTorch lacks an API that the analysis needs, or has another form of it."""


class CaptureError(GraphflopsError):
    """The model could not be captured."""


class MissingRules(GraphflopsError):
    """A strict analysis found ops without a rule; ``ops`` lists them."""

    def __init__(self, message: str, ops: Sequence[Any]) -> None:
        super().__init__(message)
        self.ops = tuple(ops)


class VerificationFailed(GraphflopsError):
    """A reference count differs from a rule, or a check of rules found a problem."""


class BudgetExceeded(GraphflopsError):
    """A number of a report is over its limit, or grew by more than is allowed."""


class LawError(GraphflopsError):
    """No scaling law fits all sample points of a quantity.

    ``quantity`` is the quantity of the model, ``points`` are the sizes at which the fit is wrong.
    """

    def __init__(self, message: str, quantity: str = "", points: Sequence[Mapping[str, int]] = ()) -> None:
        super().__init__(message)
        self.quantity = quantity
        self.points = tuple(map(dict, points))


class RuleError(GraphflopsError):
    """A rule is wrong, or has an argument that the call does not provide."""


class RuleLoadError(RuleError):
    """A rule file cannot be loaded."""


class DuplicateRule(RuleError):
    """Two rules of one source for one target."""


class NotSupported(RuleError):
    """Raised by a rule that does not cover this call; the op is reported as unsupported, with the reason."""
