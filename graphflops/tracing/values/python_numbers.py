"""Numbers that a program reads off tensors, as ``item()`` does.

A number that follows from constants is computed, and a check is passed. A number that a step logs, or that an
optimizer scales an update by, is assumed to be ½. Any other is symbolic: a program may calculate with it, and PyTorch
refuses to compare it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from graphflops.tracing.values.assumptions import Assumptions
from graphflops.tracing.values.constant_evaluation import ConstantEvaluator

aten = torch.ops.aten

OPTIMIZER_STEPS_DONE = 10_006
"""steps of an optimizer before the one that is counted. The next one is a prime: what is done every so many steps, such
as the roots of preconditioners, is not part of it, and a warm-up is over"""
GRADIENTS_FINITE = "the gradients are assumed finite, so that the GradScaler does not skip the step"
MAX_ASSUMED_READS = 10_000
"""truth values that a step reads in one line, before it counts as a loop that waits for one"""


class NumberReads:
    """The numbers that the program of one trace reads."""

    def __init__(self, evaluator: ConstantEvaluator, assumptions: Assumptions) -> None:
        self.evaluator = evaluator
        self.assumptions = assumptions
        self.optimizer: Any = None
        """the optimizer that steps, in which numbers only scale updates"""
        self.may_log: Callable[[], bool] = bool
        """returns whether the program is a step or the like, which reads its loss and its outputs to log them"""
        self._symbols: Any = None
        self._reads_by_line: Counter[str] = Counter()

    def read(self, tensor: torch.Tensor) -> Any:
        """The number in a tensor of one element; None if data decides it, and nothing is assumed."""
        if self.optimizer is not None and self._is_step_count(tensor):
            return OPTIMIZER_STEPS_DONE + 1.0
        if self._is_count_of_nonfinite_gradients(tensor):
            self.assumptions.notes.setdefault(GRADIENTS_FINITE)
            return 0.0
        value = self.evaluator.value_of(tensor) or self.evaluator.value_if_masks_full(tensor)
        if value is not None:
            return self.assumptions.answer(value)
        is_truth = tensor.dtype == torch.bool
        if self.optimizer is None and (read := self.assumptions.current_read()).is_check:
            return self.assumptions.assume_true() if is_truth else self.assumptions.assume_passing_number(tensor, read)
        if tensor.is_floating_point():
            if self.optimizer is not None:
                self.assumptions.note("data-dependent scale of an update; ½ assumed")
                return 0.5  # its inverse, its root, and one minus it exist
            return self.assume_logged() if self.may_log() else self._symbol()
        return False if is_truth and self._assume_false() else None

    def assume_logged(self) -> float:
        """A number that a step reads to log it."""
        self.assumptions.note("data-dependent number read by the step; ½ assumed")
        return 0.5

    def _assume_false(self) -> bool:
        """Whether a truth value that a step reads is assumed False: not in a loop that waits for it."""
        line = self.assumptions.line()
        self._reads_by_line[line] += 1
        if self.optimizer is not None or not self.may_log() or self._reads_by_line[line] > MAX_ASSUMED_READS:
            return False
        self.assumptions.note("data-dependent branch; took the False branch")
        return True

    def _is_count_of_nonfinite_gradients(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is where ``torch.amp.GradScaler`` counts the gradients that are not finite."""
        writes = self.evaluator.provenance.writes(tensor)
        return bool(writes) and writes[-1].op is aten._amp_foreach_non_finite_check_and_unscale_.default

    def _is_step_count(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is where the optimizer counts its steps."""
        states = getattr(self.optimizer, "state", {}).values()
        return any(isinstance(state, dict) and state.get("step") is tensor for state in states)

    def _symbol(self) -> Any:
        """A symbolic number."""
        self._symbols = self._symbols or _symbolic_numbers(self._passing_answer)
        return self._symbols.create_unbacked_symfloat()

    def _passing_answer(self) -> bool | None:
        """The answer to a comparison of symbolic numbers in a check; None of any other comparison."""
        return self.assumptions.assume_true() if self.assumptions.current_read().is_check else None


def _symbolic_numbers(answer: Callable[[], bool | None]) -> Any:
    """An environment of symbolic numbers of which nothing is known.

    ``answer()`` decides each comparison of them; if it returns None, PyTorch refuses the comparison.
    """
    import sympy
    from sympy.logic.boolalg import Boolean
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

    class SymbolicNumbers(ShapeEnv):
        def evaluate_expr(self, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().evaluate_expr(orig_expr, *args, **kwargs)
            except GuardOnDataDependentSymNode:
                truth = answer() if isinstance(orig_expr, Boolean) else None
                if truth is None:
                    raise
                return sympy.true if truth else sympy.false

    return SymbolicNumbers()
