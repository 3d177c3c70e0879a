"""Constant evaluation: the values of fake tensors, as far as they follow from constants and assumptions.

Fake tensors have shapes and no values. Most code never reads one; what is read mostly follows from constants (a mask
of ones, a range, a small buffer) or from inputs of integers and booleans that were given with their values (lengths,
positions, masks). Such a value is computed when it is read, and not before. A random number that is read is drawn
(``graphflops.tracing.session.random_numbers``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from graphflops.core.torch_compat import FakeTensor, OpOverload, tree_leaves, tree_map
from graphflops.tracing.copies.fake_tensors import FakeTensors
from graphflops.tracing.copies.layouts import propagate_nnz
from graphflops.tracing.session.aborts import FoldingAborted
from graphflops.tracing.session.random_numbers import Draws
from graphflops.tracing.values.masks import MaskAssumptions
from graphflops.tracing.values.operator_values import (
    MAX_ELEMENTS,
    balanced_selection,
    fill_value,
    finite_value,
    is_fill,
    is_selection,
    success_status,
)
from graphflops.tracing.values.provenance import Call, Provenance, mutated_tensors
from graphflops.tracing.values.tensor_values import Value, WrittenMemory, real_execution

aten = torch.ops.aten

MASK_CHUNK_ELEMENTS = 2**22
"""elements of a mask that are computed at a time"""
MAX_DEPTH = 100
"""operations between a value and the constants that it follows from"""
MAX_MASK_SEARCH = 500
"""tensors that are searched for the masks that a number was computed from"""

_SAME_NUMBERS = (aten.t.default, aten.transpose.int, aten.detach.default, aten.alias.default)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_ANY = (aten.any, aten._is_any_true)
_MASK_REDUCTIONS = (*_ANY, aten.all, aten._is_all_true, aten.sum, aten.count_nonzero)
_ELEMENT_PRESERVING = (
    aten.any,
    aten.all,
    aten.amax,
    aten.amin,
    aten.max,
    aten.min,
    aten.expand,
    aten.view,
    aten.reshape,
)
"""operators that return one of the elements, if all elements are the same"""
_RANDOM_LIKE = (aten.rand_like, aten.randn_like, aten.randint_like)
_SAMPLING = (aten.multinomial, aten.bernoulli)
_UNINITIALIZED = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)


class ConstantEvaluator:
    """The values of the tensors of one trace."""

    def __init__(self, fakes: FakeTensors) -> None:
        self.fakes = fakes
        self.provenance = Provenance()
        self.draws = Draws()
        self.masks = MaskAssumptions(self)
        self.inputs_read: dict[int, torch.Tensor] = {}
        """inputs whose values were read"""
        self.inputs_without_values: dict[int, torch.Tensor] = {}
        """inputs whose values were read, and that were given without data"""
        self.missing_buffer_values: dict[str, None] = {}
        """names of the buffers whose values were read, and that have none, being on the meta device"""
        self.value_reads: dict[int, torch.Tensor] = {}
        """tensors whose values were read since it was last cleared"""
        self._memory = WrittenMemory(self.provenance, self.draws, lambda tensor, before: self._value(tensor, 0, before))
        self._values: dict[tuple[int, int], Value | None] = {}
        self._constants: dict[int, Value] = {}
        self._unknown: dict[int, torch.Tensor] = {}

    def value_of(self, tensor: torch.Tensor) -> Value | None:
        """The value of a tensor, if it follows from constants or assumptions."""
        return self._value(tensor, 0)

    def peek(self, tensor: torch.Tensor) -> Value | None:
        """The value of a tensor if it follows without those of inputs; only a check reads it, so nothing depends on it.

        Inputs are often placeholders, as ``torch.empty`` makes, whatever is in their memory.
        """
        reads: list[dict[Any, Any]] = [self.inputs_read, self.inputs_without_values, self.missing_buffer_values]
        reads.append(self.value_reads)
        reads_before, values_before = [dict(read) for read in reads], self._values
        self.inputs_read.clear()
        self._values = {}  # a value that is evaluated already does not read its inputs again
        try:
            value = self._value(tensor, 0)
            return None if self.inputs_read else value
        except FoldingAborted:
            return None
        finally:
            self._values = values_before
            for read, content in zip(reads, reads_before, strict=True):
                read.clear()
                read.update(content)

    def number_in(self, tensor: torch.Tensor) -> float | None:
        """The number that all elements of a tensor equal, if it follows from constants."""
        value = self.value_of(tensor)
        if value is None or value.assumptions or not value.tensor.numel() or value.tensor.is_complex():
            return None
        with real_execution():
            first = value.tensor.flatten()[0]
            return float(first) if value.is_uniform or bool((value.tensor == first).all()) else None

    def mask_nnz(self, mask: torch.Tensor) -> int | None:
        """The number of True elements of a mask, or of elements of an additive mask above the least number.

        None if data decides it. A mask that is expanded, such as over a batch, is evaluated once; a large one by rows,
        so that all of it is never in memory at once.
        """
        source = mask
        while (call := self.provenance.producer(source)) is not None and call.op.overloadpacket is aten.expand:
            source = call.args[0]
        nnz = 0
        rows = source.shape[-2] if source.dim() > 1 else 1
        step = max(1, MASK_CHUNK_ELEMENTS * rows // max(1, source.numel()))
        for start in range(0, rows, step):
            value = self._value_of_rows(source, slice(start, min(rows, start + step)))
            if value is None or value.assumptions:
                return None
            with real_execution():
                real = value.tensor
                attended = real if real.dtype == torch.bool else real > torch.finfo(real.dtype).min
                nnz += int(attended.count_nonzero())
        return nnz * (mask.numel() // max(1, source.numel()))

    def compute(self, op: OpOverload, args: Any, kwargs: Any) -> tuple[Any, frozenset[str]] | None:
        """The result of a call on known values, and its assumptions; None if a value is unknown or too large."""
        return self._compute(op, args, kwargs, 0)

    # -- records of what ran -------------------------------------------------------------------------------------

    def keep_constants(self, op: OpOverload, args: Any, kwargs: Any) -> None:
        """Copy the constants that a call is about to write to, since the fake tensor mode forgets them."""
        for tensor in mutated_tensors(op, args, kwargs):
            base = self.provenance.base_of(tensor)
            if isinstance(base, FakeTensor) and base.constant is not None and id(base) not in self._constants:
                with real_execution():
                    self._constants[id(base)] = Value(base.constant.clone())

    def record(self, op: OpOverload, args: Any, kwargs: Any, result: Any) -> None:
        """Record a call that ran."""
        if op in _SAME_NUMBERS:
            propagate_nnz(result, args[0])
        self.provenance.record(op, tuple(args), kwargs, result)

    def set_value(self, tensor: torch.Tensor, value: Value) -> None:
        """Record the value of a new tensor."""
        self.provenance.record_external(tensor)
        self._values[id(tensor), 0] = value

    def fake_with_value(self, real: torch.Tensor, assumptions: frozenset[str]) -> torch.Tensor:
        """A new fake tensor with the value of a real one."""
        fake = self.fakes.make(real.shape, None, real.dtype)
        self.set_value(fake, Value(real, assumptions))
        return fake

    def mark_unknown(self, tensor: torch.Tensor) -> None:
        """Mark a tensor of a repeated block that did not run: reading its value raises ``FoldingAborted``."""
        self._unknown[id(tensor)] = tensor

    def current_producer(self, tensor: torch.Tensor) -> Call | None:
        """The call that made a tensor; None if it is not known, or the tensor or an operand was written to since."""
        return self.provenance.current_producer(tensor) if id(tensor) not in self._unknown else None

    def version_of(self, tensor: torch.Tensor) -> int:
        """A number that changes whenever the memory of a tensor is written to."""
        return self.provenance.last_write(tensor)

    def _read_producer(self, tensor: torch.Tensor) -> Call | None:
        """The call that made a tensor, which is noted as read: a repeat of this block has to read the same one.

        Raises:
            FoldingAborted: the tensor is of a repeated block that did not run.
        """
        if id(tensor) in self._unknown:
            raise FoldingAborted
        self.value_reads[id(tensor)] = tensor
        return self.provenance.producer(tensor)

    # -- assumptions on masks ------------------------------------------------------------------------------------

    def assume_mask(self, mask: torch.Tensor, truth: bool = True) -> None:
        """Assume that a mask is full, or empty, and forget which values are unknown."""
        self.masks.assume(mask, truth)
        self._values = {key: value for key, value in self._values.items() if value is not None}
        self._memory.forget_unknown()

    def value_if_masks_full(self, tensor: torch.Tensor) -> Value | None:
        """The value of a number that is computed from masks, such as a position in a queue, with these assumed full.

        None, and nothing is assumed, if the value is unknown even so.
        """
        call = self.provenance.producer(tensor)
        number = call.args[0] if call is not None and call.args and tensor.dtype == torch.bool else tensor
        if not torch.is_tensor(number) or number.dtype not in _INTEGERS or not (masks := self._unknown_masks(number)):
            return None
        values, ranges = dict(self._values), self.masks.ranges
        for mask in masks:
            self.assume_mask(mask)
        value = self.value_of(tensor)
        if value is None:
            self._values, self.masks.ranges = values, ranges
        return value

    def _unknown_masks(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The masks of unknown value that a number was computed from."""
        masks, visited, pending = [], {id(tensor)}, [tensor]
        while pending and len(visited) < MAX_MASK_SEARCH:
            source = pending.pop()
            if source.dtype == torch.bool:
                masks.append(source)
                continue
            producer = self.provenance.producer(source)
            calls = [*([producer] if producer is not None else ()), *self.provenance.writes(source)]
            for operand in [leaf for call in calls for leaf in tree_leaves((call.args, dict(call.kwargs)))]:
                if torch.is_tensor(operand) and id(operand) not in visited and self.value_of(operand) is None:
                    visited.add(id(operand))
                    pending.append(operand)
        return masks

    def _assumed_mask(self, mask: torch.Tensor) -> Value | None:
        """The value of a mask that follows from assumptions on masks."""
        truth = self.masks.truth(mask) if mask.dtype == torch.bool else None
        if truth is None:
            return None
        with real_execution():
            return Value(torch.tensor(truth).expand(mask.shape), frozenset({"mask"}))

    def _assumed_reduction(self, tensor: torch.Tensor, call: Call) -> Value | None:
        """The value of a mask, or of a reduction of one (any, all, count), with the mask assumed full."""
        if (assumed := self._assumed_mask(tensor)) is not None:
            return assumed
        packet = call.op.overloadpacket
        mask = call.args[0] if call.args and torch.is_tensor(call.args[0]) else None
        if packet not in _MASK_REDUCTIONS or mask is None or mask.dtype != torch.bool or not tensor.numel():
            return None
        count = 1 if tensor.dtype == torch.bool else mask.numel() // tensor.numel()
        if packet not in _ANY:
            self.assume_mask(mask)
            if self.value_of(mask) is not None and (computed := self._compute(call.op, call.args, call.kwargs, 1)):
                return Value(*computed)
        with real_execution():
            return Value(torch.tensor(count).to(tensor.dtype).expand(tensor.shape), frozenset({"mask"}))

    # -- evaluation ----------------------------------------------------------------------------------------------

    def _value(self, tensor: torch.Tensor, depth: int, before: int | None = None) -> Value | None:
        """The value of a tensor, now or before a call."""
        call = self._read_producer(tensor)
        writes = len(self.provenance.writes(tensor, before))
        if (key := (id(tensor), writes)) not in self._values:
            self.provenance.record_external(tensor)
            value = self._memory.value(tensor, before) if writes else self._initial_value(tensor, call, depth)
            self._values[key] = value
        return self._values[key]

    def _initial_value(self, tensor: torch.Tensor, call: Call | None, depth: int) -> Value | None:
        """The value of a tensor that was not written to."""
        original = self.fakes.known_values(tensor)
        if original is not None and original.is_meta:
            self.missing_buffer_values.setdefault(self.fakes.name_of(tensor) or "")
            return None
        if original is not None:
            if self.fakes.is_input(tensor):
                self.inputs_read.setdefault(id(tensor), tensor)
            with real_execution():
                return Value(original.cpu()) if original.numel() <= MAX_ELEMENTS else None
        if self.fakes.is_input_without_values(tensor):
            self.inputs_without_values.setdefault(id(tensor), tensor)
        if not isinstance(tensor, FakeTensor):
            return Value(tensor)
        if (constant := self._constants.get(id(tensor))) is not None:
            return constant
        if tensor.constant is not None:
            with real_execution():
                return Value(tensor.constant.clone())  # its mode writes to it
        if depth > MAX_DEPTH:
            return None
        if call is None or (call.op is aten.alias.default and not call.args):
            return self._assumed_mask(tensor)
        return self._result_value(tensor, call, depth)

    def _result_value(self, tensor: torch.Tensor, call: Call, depth: int) -> Value | None:
        """The value of a result of a call."""
        if (finite := finite_value(tensor, call)) is not None:
            return finite
        if is_fill(call):
            return fill_value(tensor, call)
        is_by_score = is_selection(call) and call.args[0].is_floating_point()
        if is_by_score and (balanced := balanced_selection(tensor, call)) is not None:
            return balanced
        computed = self._compute(call.op, call.args, call.kwargs, depth + 1, tensor.shape, call.ordinal)
        if computed is None:
            assumed = balanced_selection(tensor, call) or success_status(tensor, call)
            return assumed or self._assumed_reduction(tensor, call)
        result, assumptions = computed
        if call.op.overloadpacket in _ANY and "mask" in assumptions and "rank" not in assumptions:
            with real_execution():  # of two complementary masks both may have some, and the work for each is counted
                return Value(torch.ones((), dtype=torch.bool).expand(tensor.shape), assumptions)
        part = result[call.index] if isinstance(result, (tuple, list)) else result
        return Value(part, assumptions) if torch.is_tensor(part) else None

    def _value_of_rows(self, tensor: torch.Tensor, rows: slice) -> Value | None:
        """The value of some rows of a tensor; of a pointwise result it is computed from the rows of its operands."""
        call = self._read_producer(tensor)
        if call is None or tensor.numel() <= MASK_CHUNK_ELEMENTS or torch.Tag.pointwise not in call.op.tags:
            value = self._value(tensor, 0)
            if value is None or tensor.dim() < 2 or tensor.shape[-2] == 1:
                return value
            with real_execution():
                return Value(value.tensor[..., rows, :], value.assumptions)
        if self.provenance.last_write(tensor) >= call.ordinal:
            return None
        operands = [leaf for leaf in tree_leaves((call.args, call.kwargs)) if torch.is_tensor(leaf)]
        values = [self._value_of_rows(operand, rows) for operand in operands]
        if call.op._schema.is_mutable or None in values:
            return None
        evaluated = [value for value in values if value is not None]
        reals = iter([value.tensor for value in evaluated])

        def real(argument: Any) -> Any:
            return next(reals) if torch.is_tensor(argument) else argument

        with real_execution():
            result = call.op(*tree_map(real, call.args), **tree_map(real, dict(call.kwargs)))
        return Value(result, frozenset().union(*(value.assumptions for value in evaluated)))

    def _compute(
        self,
        op: OpOverload,
        args: Any,
        kwargs: Mapping[str, Any],
        depth: int,
        shape: torch.Size | None = None,
        before: int | None = None,
    ) -> tuple[Any, frozenset[str]] | None:
        """The result of a call on the values before it; of uniform operands, of one element that is expanded."""
        packet = op.overloadpacket
        if op._schema.is_mutable or op.namespace != "aten" or packet in _UNINITIALIZED:
            return None
        if packet in _RANDOM_LIKE:  # the value of the operand has no influence
            with real_execution():
                args = (torch.empty((), dtype=args[0].dtype).expand(args[0].shape), *args[1:])
        sampling: frozenset[str] = frozenset()
        if packet in _SAMPLING and args[0].numel() <= MAX_ELEMENTS and not self._value(args[0], depth, before):
            sampling = frozenset({"rank"})
            with real_execution():  # the probabilities are unknown: they are assumed equal
                args = (torch.full(args[0].shape, 0.5), *args[1:])
        values: list[Value] = []
        for leaf in tree_leaves((args, kwargs)):
            if torch.is_tensor(leaf):
                value = self._value(leaf, depth, before)
                if value is None:
                    return None
                values.append(value)
        is_uniform = bool(values) and all(value.is_uniform for value in values)
        is_drawn = torch.Tag.nondeterministic_seeded in op.tags
        is_pointwise = shape is not None and torch.Tag.pointwise in op.tags and not is_drawn
        is_small = all(math.prod(size) <= MAX_ELEMENTS for size in (*(value.shape for value in values), shape or ()))
        if not (is_small or (is_uniform and (is_pointwise or packet in _ELEMENT_PRESERVING))):
            return None
        assumptions = sampling.union(*(value.assumptions for value in values)) - {"number"}
        reals = iter([value.tensor for value in values])

        def real(argument: Any) -> Any:
            if not torch.is_tensor(argument):
                return torch.device("cpu") if isinstance(argument, torch.device) else argument
            return first_element(next(reals)) if is_uniform and is_pointwise else next(reals)

        with real_execution():
            if is_uniform and packet in _ELEMENT_PRESERVING and not is_small:
                return first_element(values[0].tensor).expand(shape or ()), assumptions
            real_args, real_kwargs = tree_map(real, (args, dict(kwargs)))
            if is_drawn:
                result, assumptions = self.draws.run(op, real_args, real_kwargs), assumptions | {"draw"}
            else:
                result = op(*real_args, **real_kwargs)
            if is_uniform and is_pointwise and torch.is_tensor(result) and shape is not None:
                result = result.expand(shape)
        return (result, assumptions) if result is not None else None


def first_element(tensor: torch.Tensor) -> torch.Tensor:
    """The first element of a tensor; the tensor itself, if it is empty."""
    return tensor.as_strided((), ()) if tensor.numel() else tensor
