"""Exceptions that stop a trace, which is then made again in another way. They are no errors."""

from __future__ import annotations

from graphflops.core.torch_compat import OpOverload


class FoldingAborted(BaseException):
    """The trace needs a block that did not run because it repeats another one: trace again with no block folded."""


class CompositeExpanded(FoldingAborted):
    """The trace needs a tensor inside of a composite operator: trace again with the operators that it runs."""

    def __init__(self, operator: OpOverload) -> None:
        super().__init__()
        self.operator = operator
