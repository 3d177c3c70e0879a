"""Meta kernels, run as a FakeTensorMode runs them, but not by one: what it looks up and writes down for each call was a
large part of an analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import torch

from graphflops.core.torch_compat import (
    DisableTorchDispatch,
    DisableTorchFunction,
    FakeTensor,
    FakeTensorMode,
    OpOverload,
    has_computed_kernel,
    has_kernel,
    in_kernel_invocation_manager,
    op_implementations_checks,
)
from graphflops.core.weak import weakly_cached

aten = torch.ops.aten

_CPU = torch.device("cpu")
_BY_DATA = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view}
_PLAIN = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.convolution.default,
    aten.embedding.default,
    aten.empty_like.default,
    aten.native_layer_norm.default,
}
"""what a mode treats specially for symbolic sizes, or several devices, alone"""

_FULL = (torch.float32, torch.float64)
"""what is computed in as it is, and in nothing more precise"""

_OF_ARITHMETIC = (torch.dtype, int, float)

_UNTAGGED = ("hardswish",)
"""what works element by element, although PyTorch does not say so"""

Key: TypeAlias = "tuple[Any, ...]"
Shape: TypeAlias = "tuple[Any, Any, torch.dtype]"
"""of a tensor its shape, strides and dtype"""
Made: TypeAlias = "tuple[type | None, tuple[Shape, ...]]"
"""what holds the results of a call, if there are several, and each of them"""


class Kernels:
    """The operators of one trace. What was run is not run again on inputs like those, if it makes new tensors."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self._made: dict[Key, Made] = {}
        self._written: set[Key] = set()  # calls that return what they write to, as it was but for its numbers

    def run(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operator on fake tensors."""
        if op is aten.empty.memory_format:
            return self._empty(op, args, kwargs)
        if not _is_direct(op) or kwargs.get("device") is not None or (asked := self._asked(op, args, kwargs)) is None:
            return op(*args, **kwargs)
        if op is aten.native_layer_norm.default and args[0].dtype not in _FULL:
            return op(*args, **kwargs)  # in which precision it keeps the statistics, the mode knows
        key, common = asked
        is_written = key in self._written or (common is not None and _writes_alone(op) and _is_plain_arithmetic(key))
        if is_written and (common is None or common[0] == args[0].shape):
            return args[0]
        if op is aten.native_batch_norm.default:
            shapes = _of_batch_norm(*args)
            return tuple(self._like(*shapes)) if shapes else op(*args, **kwargs)
        if key in self._made:
            several, shapes = self._made[key]
            fakes = self._like(*((*common, each[2]) for each in shapes) if common else shapes)
            return several(fakes) if several else fakes[0]
        try:
            with in_kernel_invocation_manager(self.mode):
                result = op(*args, **kwargs)
        except NotImplementedError:  # composed of what has no such kernel
            return op(*args, **kwargs)
        several = type(result) if isinstance(result, (tuple, list)) else None
        results = list(result) if several else [result]
        if any(isinstance(each, torch.Tensor) and each.layout != torch.strided for each in results):
            return op(*args, **kwargs)
        if _makes_new(op) and all(isinstance(each, torch.Tensor) for each in results):
            self._made[key] = several, tuple(map(_shape, results))
        elif _writes_alone(op) and result is args[0]:
            self._written.add(key)
        fakes = [self._as_fake(each) if isinstance(each, torch.Tensor) else each for each in results]
        return several(fakes) if several else fakes[0]

    def _empty(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        """A tensor of nothing but a shape, which each batch norm asks for."""
        key = (op, *_leaves(args), *kwargs.items())
        if key not in self._made:
            with torch.no_grad(), DisableTorchFunction(), DisableTorchDispatch():
                made: torch.Tensor = op(*args, **{**kwargs, "device": torch.device("meta"), "pin_memory": None})
            self._made[key] = None, (_shape(made),)
        return self._like(*self._made[key][1])[0]

    def _like(self, *shapes: Shape) -> list[torch.Tensor]:
        with torch.no_grad(), DisableTorchFunction(), DisableTorchDispatch():
            return [
                FakeTensor(self.mode, torch.empty_strided(size, stride, dtype=dtype, device="meta"), _CPU)
                for size, stride, dtype in shapes
            ]

    def _as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor  # what an operator wrote to
        with torch.no_grad(), DisableTorchFunction(), DisableTorchDispatch():
            return FakeTensor(self.mode, tensor, _CPU)

    def _asked(
        self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Key, tuple[Any, Any] | None] | None:
        """What a result depends on, and its shape and strides, if it works on elements of contiguous tensors alone.

        None if it takes the mode to make a result, as of constants, whose values it knows.
        """
        key: list[Any] = [op, *kwargs]
        shapes: list[Shape] = []
        laid_out = False  # as the call says, and not as its operands are
        with DisableTorchFunction(), DisableTorchDispatch():
            for each in _leaves((*args, *kwargs.values())):
                if isinstance(each, torch.Tensor):
                    if not self._is_plain(each):
                        return None
                    shapes.append(_shape(each))
                    key.append(each.dtype)
                elif isinstance(each, (torch.SymInt, torch.SymFloat, torch.SymBool)):
                    return None
                else:
                    key += (type(each), each)
                    laid_out = laid_out or isinstance(each, torch.memory_format)
        if not shapes:
            return None
        if _is_pointwise(op) and not laid_out and (common := _broadcast(shapes)) is not None:
            return tuple(key), common
        return (*key, *shapes), None

    def _is_plain(self, tensor: torch.Tensor) -> bool:
        """Whether it is a stand-in of its own mode, dense, and of no value that is known."""
        if type(tensor) is not FakeTensor or tensor.fake_mode is not self.mode:
            return False
        return tensor.constant is None and tensor.layout is torch.strided


def _leaves(values: tuple[Any, ...]) -> Iterator[Any]:
    for each in values:
        if isinstance(each, (tuple, list)):
            yield len(each)
            yield from _leaves(tuple(each))
        else:
            yield each


def _shape(tensor: torch.Tensor) -> Shape:
    return tensor.shape, tensor.stride(), tensor.dtype


def _broadcast(shapes: list[Shape]) -> tuple[Any, Any] | None:
    """The shape and strides of a result of contiguous tensors, element by element; None if that cannot be told.

    Where one of them is a number, PyTorch asks more of it than its shape.
    """
    if not all(shape and stride == _contiguous(shape) for shape, stride, _ in shapes):
        return None
    found = shapes[0][0]
    for shape, _, _ in shapes[1:]:
        if shape != found:
            try:
                found = torch.broadcast_shapes(found, shape)  # type: ignore[no-untyped-call]
            except RuntimeError:
                return None
    return found, _contiguous(found)


@lru_cache(maxsize=4096)
def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * max(size, 1))
    return tuple(strides)


def _of_batch_norm(
    input: torch.Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: Any
) -> tuple[Shape, ...]:
    """Its result and the statistics of the batch, without running what it is made of as PyTorch does; () if unusual."""
    with DisableTorchFunction(), DisableTorchDispatch():
        if input.dtype not in _FULL or not input.is_contiguous():
            return ()
        statistics = ((input.shape[1] if training else 0,), (1,), input.dtype)
        return _shape(input), statistics, statistics


@weakly_cached
def _is_direct(op: OpOverload) -> bool:
    """Whether a mode does nothing for it but to run its meta kernel."""
    if op.namespace != "aten" or _BY_DATA.intersection(op.tags):
        return False
    name = op._schema.name + (f".{op._overloadname}" if op._overloadname != "default" else "")
    if has_kernel(name, "CompositeImplicitAutograd"):
        return False  # of what it is composed, autograd has to see
    if not has_computed_kernel(name, "Meta"):
        return False
    return op in _PLAIN or not any(is_special(op) for is_special, _ in op_implementations_checks)


@weakly_cached
def _makes_new(op: OpOverload) -> bool:
    """Whether nothing that it returns shares memory with what it is given."""
    return not any(each.alias_info for each in (*op._schema.arguments, *op._schema.returns))


@weakly_cached
def _writes_alone(op: OpOverload) -> bool:
    """Whether all that it does is to write to its first argument, element by element, and to return it."""
    return op._schema.is_mutable and op._schema.name.endswith("_") and _is_pointwise(op)


def _is_plain_arithmetic(key: Key) -> bool:
    """Whether a call has tensors of one dtype, computed in as it is, and numbers: no kernel has more to say of it."""
    op, *rest = key
    tensors = {each for each in rest if isinstance(each, torch.dtype)}
    draws = torch.Tag.nondeterministic_seeded in op.tags
    if len(tensors) != 1 or not tensors.issubset(_FULL) or draws or "shift" in op._schema.name:
        return False
    return all(isinstance(each, _OF_ARITHMETIC) or each in (int, float, bool) for each in rest)


@weakly_cached
def _is_pointwise(op: OpOverload) -> bool:
    """Whether it works element by element; of what writes in place PyTorch says so of what it is a variant of."""
    name = op._schema.name.removeprefix("aten::").removesuffix("_")
    kin = getattr(getattr(aten, name, None), op._overloadname, op)
    return torch.Tag.pointwise in (*op.tags, *kin.tags) or name in _UNTAGGED
