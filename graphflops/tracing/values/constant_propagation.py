"""Constant propagation: results of operators on fake tensors, where Python or a shape needs the value of a tensor.

Values that follow from constants are computed (``constant_evaluation``). Data decides the rest, of which a few things
are assumed, and a report states where all but the first are:

* numbers are finite, and factorizations succeed (``operator_values``);
* a selection by rank (``topk``, ``argmax``, ``sort``) is balanced, so that a loop over experts sees as many tokens in
  total as with any data (``operator_values``);
* a mask whose count is read is full, and its complement empty (``masks``, ``dynamic_shapes``);
* a check, which reads a value in order to raise, is passed (``assumptions``).

A number that Python only calculates with may be any (``python_numbers``). Everything else is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from graphflops.core.torch_compat import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    OpOverload,
    UnsupportedOperatorException,
)
from graphflops.tracing.copies.fake_tensors import FakeTensors
from graphflops.tracing.session.session import session
from graphflops.tracing.values.assumptions import Assumptions
from graphflops.tracing.values.constant_evaluation import ConstantEvaluator
from graphflops.tracing.values.dtypes import check_dtypes
from graphflops.tracing.values.dynamic_shapes import DynamicShapes
from graphflops.tracing.values.faults import user_location
from graphflops.tracing.values.kernels import Kernels
from graphflops.tracing.values.python_numbers import NumberReads
from graphflops.tracing.values.routing import Routing
from graphflops.tracing.values.shapes import check_ctc, check_indices, check_shapes
from graphflops.tracing.values.tensor_values import Value
from graphflops.tracing.values.value_reads import CodeLocation

aten = torch.ops.aten

MAX_RETRIES = 32
"""runs of a model, each with one more answer that passes a check"""

_DATA_DEPENDENT = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
_NO_FLIPS: Mapping[CodeLocation, int] = {}
Result = TypeVar("Result")


class ConstantPropagation:
    """The operators of one trace, and the values and assumptions that their results depend on.

    ``flipped_branches`` counts for each check of the program how many of its answers made it raise. Operators are run
    by meta kernels, or with ``by_mode`` by the fake tensor mode.
    """

    def __init__(
        self, fakes: FakeTensors, flipped_branches: Mapping[CodeLocation, int] = _NO_FLIPS, *, by_mode: bool = False
    ) -> None:
        self.fakes = fakes
        if (current := session()) is not None:
            current.own(self)
        self.routing = Routing()
        self.evaluator = ConstantEvaluator(fakes)
        self.assumptions = Assumptions(self.evaluator.provenance, flipped_branches)
        self.numbers = NumberReads(self.evaluator, self.assumptions)
        self._shapes = DynamicShapes(self.evaluator, self.assumptions, self.run)
        self._run_kernel = _run_by_mode if by_mode else Kernels(fakes.mode).run
        self._checks = () if by_mode else (check_dtypes, check_shapes)

    def run(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operator on fake tensors, also if its shape or value depends on data.

        Raises:
            DataDependentOutputException, DynamicOutputShapeException: data decides it, and nothing is assumed.
        """
        if op is aten._local_scalar_dense.default and (number := self.numbers.read(args[0])) is not None:
            return number
        args = self._shapes.prepare(op, args)
        for check in self._checks:
            check(op, args, kwargs)
        check_indices(op, args, self.evaluator.peek)
        self.evaluator.keep_constants(op, args, kwargs)
        try:
            result = self._run_kernel(op, args, kwargs)
        except _DATA_DEPENDENT:
            result = self._shapes.result(op, args, kwargs)
            self.routing.record_positions(result)
        self.routing.record_call(op, args, result)
        self.evaluator.record(op, args, kwargs, result)
        return result

    def check(self, call: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise the error that an operator or a loss raises for operands of wrong dtypes or sizes, if it does."""
        if call is torch.nn.functional.ctc_loss:
            check_ctc(*args, **kwargs)
        elif isinstance(call, OpOverload):
            for check in self._checks:
                check(call, args, kwargs)

    def read(self, tensor: torch.Tensor) -> Value | None:
        """The value of a tensor that Python reads: known, drawn, or in a step also assumed; else None."""
        value = self.evaluator.value_of(tensor)
        if value is None or (value.assumptions - {"draw"} and not self.numbers.may_log()):
            return None
        if value.assumptions:
            self.assumptions.note_kinds(value.assumptions)
        return value

    def decide(self, truth: torch.Tensor) -> bool:
        """The branch that a program takes: the one that follows from constants, else the first."""
        value = self.evaluator.value_of(truth)
        return self.assumptions.assume_true() if value is None else bool(self.assumptions.answer(value))

    def state(self) -> tuple[Any, ...]:
        """The numbers of assumptions, routed tensors and random draws so far: equal if a block needed none of them."""
        assumptions, evaluator = self.assumptions, self.evaluator
        reads = len(assumptions.notes), assumptions.branch_count, len(evaluator.missing_buffer_values)
        return *reads, *self.routing.sizes, evaluator.draws.count

    def release(self) -> None:
        """Let go of all tensors."""
        if vars(self):
            for part in (self._shapes, self.numbers, self.assumptions, self.evaluator, self):
                vars(part).clear()


def _run_by_mode(op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return op(*args, **kwargs)


def retry_with_branches_flipped(
    create: Callable[[Mapping[CodeLocation, int]], ConstantPropagation],
    attempt: Callable[[ConstantPropagation], Result],
    failure: type[Exception],
) -> Result:
    """Run a model; if a check raises because of an assumed answer, run it again with the other answer.

    A check such as ``if (variance < 0).any(): raise`` is passed this way, and no other answer is changed.

    Raises:
        failure: the last one, which no answer causes; of a line that raises whatever is answered, the first.
    """
    flipped: Counter[CodeLocation] = Counter()
    first: Exception | None = None
    for _ in range(MAX_RETRIES):
        propagation = create(flipped.copy())
        try:
            return attempt(propagation)
        except failure as error:
            if first is None or user_location(error.__cause__) != user_location(first.__cause__):
                first = error
            reads = propagation.assumptions.reads_that_raised(error)
            if (read := next((read for read in reads if flipped[read.location] < read.answers - 1), None)) is None:
                break
            flipped[read.location] += 1
    assert first is not None
    raise first
