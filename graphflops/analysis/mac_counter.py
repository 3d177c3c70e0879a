"""The reference count of multiply-adds: those of every matrix product and convolution that autograd dispatches.

Rules are tested against it. The model runs forward and backward on fake tensors, and the multiply-adds of each
dispatched operator follow from the shapes of its operands. Neither rules nor graphs are used. Data-dependent values
are those that capture assumes (``graphflops.tracing.values.constant_propagation``).

    >>> import torch
    >>> from graphflops.analysis.mac_counter import count_macs
    >>> count_macs(torch.nn.Linear(4, 8), (torch.zeros(2, 4),))
    MacCount(forward=64, backward=64)

It differs from ``torch.utils.flop_counter.FlopCounterMode`` where that is not exact: attention is counted by its
formula on every device; encoder layers are not fused; the weight gradient of a grouped convolution is not multiplied
by the number of groups; and the product inside ``cdist`` is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from graphflops.core.torch_compat import DisableTorchFunction, TorchDispatchMode
from graphflops.tracing.copies.fake_tensors import FakeTensors
from graphflops.tracing.copies.layouts import nnz_of
from graphflops.tracing.folding.replay import as_module
from graphflops.tracing.interception.eager_only import eager_reference_mode
from graphflops.tracing.interception.interception import FunctionBodyMode
from graphflops.tracing.interception.math_attention import math_attention
from graphflops.tracing.isolation.isolation import run_isolated
from graphflops.tracing.recording.outputs import tensors_in
from graphflops.tracing.values.constant_propagation import ConstantPropagation, retry_with_branches_flipped

aten = torch.ops.aten


@dataclass(frozen=True)
class MacCount:
    """Multiply-adds that autograd dispatched, also of integers. A complex one is 4 real ones."""

    forward: int
    backward: int


def count_macs(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
) -> MacCount:
    """Count the multiply-adds of a forward pass, and of the backward pass from all outputs, on fake tensors.

    Raises what the model raises on fake tensors. The model is not modified.
    """
    return macs_and_assumptions(model, args, kwargs, training=training)[0]


def macs_and_assumptions(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
) -> tuple[MacCount, tuple[str, ...]]:
    """The same, with a line for each assumption about data-dependent values."""
    return run_isolated(lambda: _count(model, args, kwargs or {}, training=training))


def _count(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, training: bool
) -> tuple[MacCount, tuple[str, ...]]:
    model = as_module(model)
    root = model if isinstance(model, nn.Module) else nn.Module()

    def attempt(values: ConstantPropagation) -> tuple[MacCount, tuple[str, ...]]:
        fakes = values.fakes
        copy = fakes.copier.copy
        with fakes.fake_mode(), torch.set_grad_enabled(training), FakeImpls(values):
            with DisableTorchFunction():
                for tensor in tensors_in((args, dict(kwargs))):
                    fakes.fake_for_input(tensor)  # inputs have no values
                program, fake_args, fake_kwargs = copy(model), copy(tuple(args)), copy(dict(kwargs))
            with math_attention_mode(values), MacCounterMode() as forward:
                result = program(*fake_args, **fake_kwargs)
                outputs = [tensor for tensor in tensors_in(result) if tensor.requires_grad]
            with math_attention_mode(values), MacCounterMode() as backward:
                if outputs:
                    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        return MacCount(forward.macs, backward.macs), tuple(values.assumptions.notes)

    return retry_with_branches_flipped(
        lambda flipped: ConstantPropagation(FakeTensors(root), flipped, by_mode=True), attempt, Exception
    )


@contextmanager
def math_attention_mode(values: ConstantPropagation) -> Iterator[None]:
    """A context in which only eager kernels run, with attention by its formula, the same on every device."""
    with MathAttention(), eager_reference_mode(values, values.decide):
        yield


class MathAttention(FunctionBodyMode):
    """Runs attention as ``SDPBackend.MATH`` does, in this thread. ``sdpa_kernel`` would change the whole process."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _ATTENTION:
            return math_attention(*args, **(kwargs or {}))
        if function in _KERNELS:
            with torch.no_grad():
                _, *rest = self.run(function, args, kwargs or {})
            return (_KERNELS[function](*args, **(kwargs or {})), *rest)
        return self.run(function, args, kwargs or {})


_ATTENTION = {
    F.scaled_dot_product_attention,
    aten.scaled_dot_product_attention,
    aten.scaled_dot_product_attention.default,
}


def _flash(
    query: Any, key: Any, value: Any, dropout_p: float = 0.0, is_causal: bool = False, *_: Any, **kwargs: Any
) -> Any:
    return math_attention(query, key, value, kwargs.get("attn_mask"), dropout_p, is_causal, scale=kwargs.get("scale"))


def _efficient(
    query: Any,
    key: Any,
    value: Any,
    attn_bias: Any,
    compute_log_sumexp: bool,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> Any:
    return math_attention(query, key, value, attn_bias, dropout_p, is_causal, scale=scale)


_KERNELS: dict[Any, Any] = {
    candidate: run
    for kernel, run in {
        aten._scaled_dot_product_flash_attention_for_cpu: _flash,
        aten._scaled_dot_product_flash_attention: _flash,
        aten._scaled_dot_product_efficient_attention: _efficient,
    }.items()
    for candidate in (kernel, kernel.default)
}
"""attention kernels that are called by name; the first result is the output, the others are for the backward pass"""


class FakeImpls(TorchDispatchMode):
    """Runs operators that lack a usable fake implementation in PyTorch, or whose result depends on data.

    PyTorch's fake ``_grouped_mm`` accepts bfloat16 alone, and the sizes of one kernel. Data-dependent results are those
    that ``graphflops.tracing.values.constant_propagation`` assumes.
    """

    def __init__(self, values: ConstantPropagation) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = values

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op.overloadpacket is aten._grouped_mm:
            return _fake_grouped_mm(*args, **kwargs)
        return self.values.run(op, args, kwargs)


def _fake_grouped_mm(left: Any, right: Any, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    groups: tuple[int, ...] = ()
    if left.dim() == right.dim():
        groups = tuple(left.shape[:-2] if offs is None else offs.shape)
    return left.new_empty((*groups, left.shape[-2], right.shape[-1]), dtype=out_dtype or left.dtype)


class MacCounterMode(TorchDispatchMode):
    """Counts the multiply-adds of the operators that are dispatched in its context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        formula = MAC_FORMULAS.get(_functional(op))
        if formula is not None:
            self.macs += formula(out, *args) * (4 if any(tensor.is_complex() for tensor in tensors_in(args)) else 1)
        return out


def _functional(op: Any) -> Any:
    """The functional operator that an in-place one is a variant of: ``aten.addmm`` for ``aten.addmm_``."""
    name = op.overloadpacket.__name__
    return getattr(aten, name.removesuffix("_"), None) if op.namespace == "aten" else op.overloadpacket


def _matmul(first: int) -> Callable[..., int]:
    """A product of the arguments ``first`` and ``first + 1``: (…, n, k) by (…, k, m) or (k,)."""

    def count(out: Any, *args: Any) -> int:
        left, right = args[first], args[first + 1]
        if (stored := nnz_of(right)) is not None:
            return int(left.shape[-2] * stored)
        return int((nnz_of(left) or left.numel()) * (right.shape[-1] if right.dim() > 1 else 1))

    return count


def _convolution(out: Any, input: Any, weight: Any, *rest: Any) -> int:
    """One filter is applied for each element of the output, or of the input if it is transposed."""
    transposed = rest[4]
    return _filter_macs(input if transposed else out, weight)


def _filter_macs(positions: Any, weight: Any) -> int:
    return int(positions.numel() * (weight.numel() // weight.shape[0]))


def _convolution_backward(out: Any, gradient: Any, input: Any, weight: Any, *rest: Any) -> int:
    """Each of the two gradients that is computed costs as much as forward, with groups or without."""
    transposed, output_mask = rest[4], rest[7]
    return _filter_macs(input if transposed else gradient, weight) * (int(output_mask[0]) + int(output_mask[1]))


def _conv_tbc(out: Any, input: Any, weight: Any, bias: Any, pad: int = 0) -> int:
    """A product for each tap of the kernel, at the time steps where the tap is not on padding."""
    taps, inputs, outputs = weight.shape
    ends = (min(out.shape[0], input.shape[0] + pad - tap) for tap in range(taps))
    steps = sum(max(0, end - max(0, pad - tap)) for tap, end in enumerate(ends))
    return int(steps * out.shape[1] * inputs * outputs)


def _grouped(out: Any, left: Any, right: Any, *rest: Any) -> int:
    """A matrix for each group; if the right operand is 2-D, the groups share the inner or the output dimension."""
    if right.dim() == 3:
        return int(left.numel() * right.shape[-1])
    return int(left.shape[-2] * left.shape[-1] * right.shape[-1])


def _trilinear(out: Any, first: Any, second: Any, third: Any, *expanded: Any) -> int:
    """A multiply-add for each combination of indices; a factor lacks the dimensions that it is expanded along."""
    sizes: dict[int, int] = {}
    for factor, missing in zip((first, second, third), expanded[:3], strict=True):
        axes = [axis for axis in range(factor.dim() + len(missing)) if axis not in missing]
        sizes |= zip(axes, factor.shape, strict=True)
    return prod(sizes.values())


MAC_FORMULAS: Mapping[Any, Callable[..., int]] = {
    aten.mm: _matmul(0),
    aten.bmm: _matmul(0),
    aten.mv: _matmul(0),
    aten.dot: _matmul(0),
    aten.vdot: _matmul(0),
    aten._scaled_mm: _matmul(0),
    aten._int_mm: _matmul(0),
    aten._euclidean_dist: lambda out, left, right: int(out.numel() * (left.shape[-1] + 2)),
    aten.addmm: _matmul(1),
    aten._sparse_addmm: _matmul(1),
    aten.baddbmm: _matmul(1),
    aten.addbmm: _matmul(1),
    aten.addmv: _matmul(1),
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten.conv_tbc: _conv_tbc,
    aten._grouped_mm: _grouped,
    aten._trilinear: _trilinear,
}
