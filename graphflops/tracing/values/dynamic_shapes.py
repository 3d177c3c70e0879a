"""Results of operators whose shape or value data decides: computed from known values, else assumed.

A mask whose positions or count are read is assumed full, and its complement empty. ``unique`` finds different elements,
``nms`` keeps all boxes, and ``bincount`` counts numbers below its ``minlength``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload, tree_any, tree_map
from graphflops.tracing.values.assumptions import Assumptions
from graphflops.tracing.values.constant_evaluation import ConstantEvaluator, first_element
from graphflops.tracing.values.operator_values import MAX_ELEMENTS
from graphflops.tracing.values.tensor_values import real_execution

aten = torch.ops.aten

_COMPARISONS = (aten.equal, aten.allclose)
"""comparisons of tensors that return a Python truth value"""
_INDEX_PUT = (aten.index_put, aten.index_put_, aten._index_put_impl_)
_INDEX = (aten.index.Tensor, aten._unsafe_index.Tensor)
_MASK_DTYPES = (torch.bool, torch.uint8)

RunOperator = Callable[[OpOverload, tuple[Any, ...], Mapping[str, Any]], Any]


class DynamicShapes:
    """The operators of one trace whose results depend on data. ``run`` runs an operator on fake tensors."""

    def __init__(self, evaluator: ConstantEvaluator, assumptions: Assumptions, run: RunOperator) -> None:
        self.evaluator = evaluator
        self.assumptions = assumptions
        self.run = run
        self.make = evaluator.fakes.make
        self._mask_counts: dict[int, tuple[torch.Tensor, int]] = {}

    def prepare(self, op: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a call, with the masks of an index replaced by the positions at which they are true."""
        if op.overloadpacket in _INDEX_PUT:
            self._note_count(*args[:3])
        if op in _INDEX and any(map(_is_mask, args[1])):
            return (args[0], self._positions(args[0], args[1]), *args[2:])
        return args

    def result(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """The result of a call, computed if its operands are known, or the largest one.

        Raises:
            DataDependentOutputException, DynamicOutputShapeException: data decides it, and nothing is assumed.
        """
        name, packet = op._schema.name, op.overloadpacket
        if name == "aten::masked_select":
            return self._masked_select(args[0], args[1])
        computed = self.evaluator.compute(op, args, kwargs)
        if computed is None and packet in _COMPARISONS:
            return self._are_equal(args[0], args[1])
        if computed is None and name == "aten::nonzero" and self.count_of(args[0]) is None:
            self._assume_mask(args[0])
            computed = self.evaluator.compute(op, args, kwargs)
        if computed is not None:
            result, assumptions = computed
            if assumptions:
                self.assumptions.note_kinds(assumptions, selects_any=not torch.is_tensor(result) or result.numel() > 0)
            if not tree_any(torch.is_tensor, result):
                return result
            return tree_map(
                lambda part: self.evaluator.fake_with_value(part, assumptions) if torch.is_tensor(part) else part,
                result,
            )
        if op is aten._pack_padded_sequence.default and (lengths := self.evaluator.value_of(args[1])) is not None:
            return self._pack(args[0], lengths.tensor, *args[2:])
        if name == "aten::bincount" and (minlength := _minlength(*args, **kwargs)):
            self.assumptions.note("data-dependent length of bincount; minlength assumed")
            return self.make((minlength,), None, _dtype_of_bincount(args, kwargs))
        if (largest := _LARGEST_RESULTS.get(name)) is None:
            return op(*args, **kwargs)
        self.assumptions.note_kinds(frozenset({"mask"}))
        return largest(self, *args, **kwargs)

    def count_of(self, mask: torch.Tensor) -> int | None:
        """The number of True elements of a mask, if ``x[mask] = y`` determined it, for the mask or its complement."""
        if id(mask) in self._mask_counts:
            return self._mask_counts[id(mask)][1]
        call = self.evaluator.current_producer(mask)
        if call is not None and call.op.overloadpacket in (aten.logical_not, aten.bitwise_not):
            complement = self._mask_counts.get(id(call.args[0]))
            return None if complement is None else mask.numel() - complement[1]
        return None

    def _note_count(self, written: torch.Tensor, indices: Any, values: torch.Tensor) -> None:
        """``x[mask] = y`` determines how many elements the mask selects, if y has a row for each."""
        axes = [axis for axis, index in enumerate(indices) if index is not None]
        mask = indices[axes[0]]
        if len(axes) == 1 and mask.dtype == torch.bool and values.dim() == written.dim() - mask.dim() + 1:
            self._mask_counts[id(mask)] = mask, values.shape[axes[0]]

    def _assume_mask(self, mask: torch.Tensor) -> None:
        """Assume that a mask whose positions are read is full; empty, if a check raises otherwise."""
        self.evaluator.assume_mask(mask, self.assumptions.assume_mask_selects())

    def _are_equal(self, left: torch.Tensor, right: torch.Tensor) -> bool:
        """Whether tensors are equal, or nearly: those of one shape are, unless a check raises on that."""
        if left is right or left.shape != right.shape:
            return left is right
        return self.assumptions.assume_true()

    def _masked_select(self, tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The elements that a mask selects, after both are broadcast."""
        shape = torch.broadcast_shapes(tensor.shape, mask.shape)  # type: ignore[no-untyped-call]
        repeats = math.prod(shape) // max(1, mask.numel())
        count, assumptions = self._nnz(mask)
        if assumptions:
            self.assumptions.note_kinds(assumptions, selects_any=count > 0)
        return self.make((count * repeats,), None, tensor.dtype)

    def _nnz(self, mask: torch.Tensor) -> tuple[int, frozenset[str]]:
        """The number of True elements of a mask, and its assumptions."""
        if (count := self.count_of(mask)) is not None:
            return count, frozenset()
        if (value := self.evaluator.value_of(mask)) is None:
            self._assume_mask(mask)
            value = self.evaluator.value_of(mask)
        if value is None:
            return mask.numel(), frozenset({"mask"})
        with real_execution():
            if value.is_uniform:
                return mask.numel() * bool(mask.numel() and first_element(value.tensor)), value.assumptions
            return int(value.tensor.count_nonzero()), value.assumptions

    def _pack(self, padded: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> Any:
        """Packed sequences of known lengths. The batch sizes, which recurrent layers read, are a real tensor."""
        with real_execution():
            sizes = torch.stack([(lengths > step).sum() for step in range(int(lengths.max()))])
            steps = int(sizes.sum())
        data = self.make((steps, *padded.shape[2:]), None, padded.dtype)
        return data, self.evaluator.fakes.keep_real(sizes)

    def _positions(self, tensor: torch.Tensor, indices: Any) -> list[Any]:
        """The indices of a tensor, with masks replaced by the positions at which they are true.

        Raises:
            IndexError: a mask does not have the shape of the axes that it indexes, in PyTorch's words.
        """
        positions: list[Any] = []
        for place, index in enumerate(indices):
            if _is_mask(index):
                axes = tensor.shape[len(positions) : len(positions) + index.dim()]
                if index.dim() and axes != index.shape:
                    raise IndexError(
                        f"The shape of the mask {list(index.shape)} at index {place} does not match the shape of the "
                        f"indexed tensor {list(tensor.shape)} at index {len(positions)}"
                    )
                nonzero = self.run(aten.nonzero.default, (index,), {})
                positions += self.run(aten.unbind.int, (nonzero, 1), {})
            else:
                positions.append(index)
        return positions


def _is_mask(index: Any) -> bool:
    return torch.is_tensor(index) and index.dtype in _MASK_DTYPES


def _minlength(self: torch.Tensor, weights: torch.Tensor | None = None, minlength: int = 0) -> int:
    return minlength


def _dtype_of_bincount(args: Any, kwargs: Any) -> torch.dtype:
    weights = next((argument for argument in (*args[1:], *kwargs.values()) if torch.is_tensor(argument)), None)
    return torch.int64 if weights is None else weights.dtype if weights.dtype == torch.float32 else torch.float64


def _all_positions(shapes: DynamicShapes, self: torch.Tensor) -> Any:
    """The positions of the True elements of a full mask."""
    if (count := shapes.count_of(self)) is not None:
        return shapes.make((count, self.dim()), None, torch.int64)
    if self.numel() * max(self.dim(), 1) > MAX_ELEMENTS:
        return shapes.make((self.numel(), self.dim()), None, torch.int64)
    with real_execution():
        positions = torch.ones(self.shape, dtype=torch.bool).nonzero()
    return shapes.evaluator.fake_with_value(positions, frozenset({"mask"}))


def _all_different(shapes: DynamicShapes, self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    n, make = self.numel(), shapes.make
    return make((n,), None, self.dtype), make(self.shape, None, torch.int64), make((n,), None, torch.int64)


def _all_rows_different(shapes: DynamicShapes, self: torch.Tensor, dim: int = 0, *args: Any, **kwargs: Any) -> Any:
    n, make = self.shape[dim], shapes.make
    return make(self.shape, None, self.dtype), make((n,), None, torch.int64), make((n,), None, torch.int64)


def _all_boxes(shapes: DynamicShapes, boxes: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return shapes.make((boxes.shape[0],), None, torch.int64)


_LARGEST_RESULTS: Mapping[str, Callable[..., Any]] = {
    "aten::nonzero": _all_positions,
    "aten::_unique2": _all_different,
    "aten::unique_dim": _all_rows_different,
    "aten::unique_consecutive": _all_different,
    "torchvision::nms": _all_boxes,
}
"""operator → function for the result in which everything is selected, and everything is different"""
