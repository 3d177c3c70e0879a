"""Meta kernels, run on fake tensors as a FakeTensorMode runs them, without the mode's bookkeeping for each call.

That bookkeeping was a large part of the time of an analysis.
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
_DATA_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view}
_SPECIAL_BUT_EQUAL = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.convolution.default,
    aten.embedding.default,
    aten.empty_like.default,
    aten.native_layer_norm.default,
}
"""operators that a mode treats specially, but only for symbolic sizes or several devices"""
_FULL_PRECISION = (torch.float32, torch.float64)
"""dtypes that kernels compute in as they are, and in no more precise one"""
_SCALAR_TYPES = (torch.dtype, int, float)
_UNTAGGED_POINTWISE = ("hardswish",)
"""pointwise operators without PyTorch's tag"""

Key: TypeAlias = "tuple[Any, ...]"
Layout: TypeAlias = "tuple[Any, Any, torch.dtype]"
"""shape, strides and dtype of a tensor"""
CachedResults: TypeAlias = "tuple[type | None, tuple[Layout, ...]]"
"""container of the results of a call, if there are several, and the layout of each"""


class Kernels:
    """The operators of one trace. The results of calls that make new tensors are cached, by the layouts of operands."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self._results: dict[Key, CachedResults] = {}
        self._in_place: set[Key] = set()  # calls that return their first operand, with the layout that it had

    def run(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of an operator on fake tensors."""
        if op is aten.empty.memory_format:
            return self._empty(op, args, kwargs)
        if not _is_direct(op) or kwargs.get("device") is not None:
            return op(*args, **kwargs)
        if (cache_key := self._cache_key(op, args, kwargs)) is None:
            return op(*args, **kwargs)
        if op is aten.native_layer_norm.default and args[0].dtype not in _FULL_PRECISION:
            return op(*args, **kwargs)  # the mode knows in which precision it keeps the statistics
        key, common = cache_key
        is_in_place = key in self._in_place or (
            common is not None and _is_pointwise_in_place(op) and _is_uncast_arithmetic(key)
        )
        if is_in_place and (common is None or common[0] == args[0].shape):
            return args[0]
        if op is aten.native_batch_norm.default:
            layouts = _batch_norm_layouts(*args)
            return tuple(self._empty_fakes(*layouts)) if layouts else op(*args, **kwargs)
        if key in self._results:
            container, layouts = self._results[key]
            fakes = self._empty_fakes(*((*common, layout[2]) for layout in layouts) if common else layouts)
            return container(fakes) if container else fakes[0]
        try:
            with in_kernel_invocation_manager(self.mode):
                result = op(*args, **kwargs)
        except NotImplementedError:  # it is composed of operators without such a kernel
            return op(*args, **kwargs)
        container = type(result) if isinstance(result, (tuple, list)) else None
        results = list(result) if container else [result]
        if any(isinstance(part, torch.Tensor) and part.layout != torch.strided for part in results):
            return op(*args, **kwargs)
        if _is_free_of_aliases(op) and all(isinstance(part, torch.Tensor) for part in results):
            self._results[key] = container, tuple(map(_layout, results))
        elif _is_pointwise_in_place(op) and result is args[0]:
            self._in_place.add(key)
        fakes = [self._as_fake(part) if isinstance(part, torch.Tensor) else part for part in results]
        return container(fakes) if container else fakes[0]

    def _empty(self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        """An empty tensor, which each batch norm makes."""
        key = (op, *_leaves(args), *kwargs.items())
        if key not in self._results:
            with torch.no_grad(), DisableTorchFunction(), DisableTorchDispatch():
                empty: torch.Tensor = op(*args, **{**kwargs, "device": torch.device("meta"), "pin_memory": None})
            self._results[key] = None, (_layout(empty),)
        return self._empty_fakes(*self._results[key][1])[0]

    def _empty_fakes(self, *layouts: Layout) -> list[torch.Tensor]:
        with torch.no_grad(), DisableTorchFunction(), DisableTorchDispatch():
            return [
                FakeTensor(self.mode, torch.empty_strided(size, stride, dtype=dtype, device="meta"), _CPU)
                for size, stride, dtype in layouts
            ]

    def _as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor  # an operand that the operator wrote to
        with torch.no_grad(), DisableTorchFunction(), DisableTorchDispatch():
            return FakeTensor(self.mode, tensor, _CPU)

    def _cache_key(
        self, op: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Key, tuple[Any, Any] | None] | None:
        """The key that the layouts of the results depend on; of contiguous pointwise ones, their shape and strides too.

        None if the mode has to run the operator, as for constants, whose values it knows.
        """
        key: list[Any] = [op, *kwargs]
        layouts: list[Layout] = []
        has_memory_format = False  # then the operands do not determine the strides
        with DisableTorchFunction(), DisableTorchDispatch():
            for leaf in _leaves((*args, *kwargs.values())):
                if isinstance(leaf, torch.Tensor):
                    if not self._is_plain_fake(leaf):
                        return None
                    layouts.append(_layout(leaf))
                    key.append(leaf.dtype)
                elif isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)):
                    return None
                else:
                    key += (type(leaf), leaf)
                    has_memory_format = has_memory_format or isinstance(leaf, torch.memory_format)
        if not layouts:
            return None
        if _is_pointwise(op) and not has_memory_format and (common := _broadcast(layouts)) is not None:
            return tuple(key), common
        return (*key, *layouts), None

    def _is_plain_fake(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is a dense fake tensor of this mode without a known value."""
        if type(tensor) is not FakeTensor or tensor.fake_mode is not self.mode:
            return False
        return tensor.constant is None and tensor.layout is torch.strided


def _leaves(values: tuple[Any, ...]) -> Iterator[Any]:
    """The leaves of nested tuples and lists, each of these preceded by its length."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield len(value)
            yield from _leaves(tuple(value))
        else:
            yield value


def _layout(tensor: torch.Tensor) -> Layout:
    return tensor.shape, tensor.stride(), tensor.dtype


def _broadcast(layouts: list[Layout]) -> tuple[Any, Any] | None:
    """The shape and strides of a pointwise result of contiguous operands; None if an operand is not contiguous.

    Of scalars among the operands PyTorch checks more than the shape.
    """
    if not all(shape and stride == _contiguous_strides(shape) for shape, stride, _ in layouts):
        return None
    common = layouts[0][0]
    for shape, _, _ in layouts[1:]:
        if shape != common:
            try:
                common = torch.broadcast_shapes(common, shape)  # type: ignore[no-untyped-call]
            except RuntimeError:
                return None
    return common, _contiguous_strides(common)


@lru_cache(maxsize=4096)
def _contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * max(size, 1))
    return tuple(strides)


def _batch_norm_layouts(
    input: torch.Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: Any
) -> tuple[Layout, ...]:
    """The layouts of a batch norm's result and statistics, without the decomposition; () for an unusual input."""
    with DisableTorchFunction(), DisableTorchDispatch():
        if input.dtype not in _FULL_PRECISION or not input.is_contiguous():
            return ()
        statistics = ((input.shape[1] if training else 0,), (1,), input.dtype)
        return _layout(input), statistics, statistics


@weakly_cached
def _is_direct(op: OpOverload) -> bool:
    """Whether a mode would only run the meta kernel of an operator."""
    if op.namespace != "aten" or _DATA_DEPENDENT.intersection(op.tags):
        return False
    name = op._schema.name + (f".{op._overloadname}" if op._overloadname != "default" else "")
    if has_kernel(name, "CompositeImplicitAutograd"):
        return False  # autograd has to see its parts
    if not has_computed_kernel(name, "Meta"):
        return False
    return op in _SPECIAL_BUT_EQUAL or not any(is_special(op) for is_special, _ in op_implementations_checks)


@weakly_cached
def _is_free_of_aliases(op: OpOverload) -> bool:
    """Whether no result shares memory with an argument."""
    return not any(value.alias_info for value in (*op._schema.arguments, *op._schema.returns))


@weakly_cached
def _is_pointwise_in_place(op: OpOverload) -> bool:
    """Whether an operator is pointwise, and writes to its first argument and returns it."""
    return op._schema.is_mutable and op._schema.name.endswith("_") and _is_pointwise(op)


def _is_uncast_arithmetic(key: Key) -> bool:
    """Whether a call computes with numbers and tensors of one dtype, in that dtype: no kernel changes the layout."""
    op, *arguments = key
    dtypes = {value for value in arguments if isinstance(value, torch.dtype)}
    draws = torch.Tag.nondeterministic_seeded in op.tags
    if len(dtypes) != 1 or not dtypes.issubset(_FULL_PRECISION) or draws or "shift" in op._schema.name:
        return False
    return all(isinstance(value, _SCALAR_TYPES) or value in (int, float, bool) for value in arguments)


@weakly_cached
def _is_pointwise(op: OpOverload) -> bool:
    """Whether an operator is pointwise; for an in-place one, PyTorch's tag is on its out-of-place variant."""
    name = op._schema.name.removeprefix("aten::").removesuffix("_")
    variant = getattr(getattr(aten, name, None), op._overloadname, op)
    return torch.Tag.pointwise in (*op.tags, *variant.tags) or name in _UNTAGGED_POINTWISE
