"""The dispatch witness: the matrix products and convolutions that autograd really dispatches, counted by watching it.

A rule is a claim; this is the independent count it is held to. It runs the model forward and backward on fake tensors
and reads every dispatched operator's multiply-adds off the shapes of its operands. It knows nothing of rules or graphs.
What data decides it takes as capture does (``graphflops.capture.constant_propagation``): no fake tensor has a value.

    >>> import torch
    >>> from graphflops.analysis.mac_counter import count_macs
    >>> count_macs(torch.nn.Linear(4, 8), (torch.zeros(2, 4),))
    MacCount(forward=64, backward=64)

``torch.utils.flop_counter.FlopCounterMode`` is the well-known one. Where this differs, it mends it: attention by its
mathematics on every device, no fused encoder layers, and the backward of a convolution with groups, of which it
counts one of the two gradients as many times as there are groups; and the product that many distances are computed by,
which it does not see.
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

from graphflops.capture.constant_propagation import ConstantPropagation, retry_with_branches_flipped
from graphflops.capture.eager_only import eager_reference_mode
from graphflops.capture.fake_tensors import FakeTensors
from graphflops.capture.interception import FunctionBodyMode
from graphflops.capture.isolation import run_isolated
from graphflops.capture.layouts import nnz_of
from graphflops.capture.math_attention import math_attention
from graphflops.capture.outputs import tensors_in
from graphflops.capture.replay import as_module
from graphflops.core.torch_compat import DisableTorchFunction, TorchDispatchMode

aten = torch.ops.aten


@dataclass(frozen=True)
class MacCount:
    """Multiply-adds that were dispatched, those of integers too; a complex one is the 4 real ones that it is."""

    forward: int
    backward: int


def count_macs(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
) -> MacCount:
    """Run a model forward, and backward from all its outputs to whatever requires grad, on fake tensors.

    Anything that the model raises on fake tensors is raised here too; the model is never written to.
    """
    return macs_and_assumptions(model, args, kwargs, training=training)[0]


def macs_and_assumptions(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
) -> tuple[MacCount, tuple[str, ...]]:
    """The same, and what was taken as given where data decides."""
    return run_isolated(lambda: _dispatched(model, args, kwargs or {}, training=training))


def _dispatched(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, training: bool
) -> tuple[MacCount, tuple[str, ...]]:
    model = as_module(model)
    root = model if isinstance(model, nn.Module) else nn.Module()

    def attempt(values: ConstantPropagation) -> tuple[MacCount, tuple[str, ...]]:
        fakes = values.fakes
        copied = fakes.copier.copy
        with fakes.fake_mode(), torch.set_grad_enabled(training), FakeImpls(values):
            with DisableTorchFunction():
                for each in tensors_in((args, dict(kwargs))):
                    fakes.fake_for_input(each)  # what is given has no values, whatever it holds
                program, fake_args, fake_kwargs = copied(model), copied(tuple(args)), copied(dict(kwargs))
            with math_attention_mode(values), MacCounterMode() as forward:
                result = program(*fake_args, **fake_kwargs)
                ends = [each for each in tensors_in(result) if each.requires_grad]
            with math_attention_mode(values), MacCounterMode() as backward:
                if ends:
                    torch.autograd.backward(ends, [torch.ones_like(each) for each in ends])
        return MacCount(forward.macs, backward.macs), tuple(values.assumptions.notes)

    return retry_with_branches_flipped(
        lambda flipped: ConstantPropagation(FakeTensors(root), flipped, by_mode=True), attempt, Exception
    )


@contextmanager
def math_attention_mode(values: ConstantPropagation) -> Iterator[None]:
    """Everything plain, and attention by its formula, on every device."""
    with MathAttention(), eager_reference_mode(values, values.decide):
        yield


class MathAttention(FunctionBodyMode):
    """Runs attention as ``SDPBackend.MATH`` does, in this thread; ``sdpa_kernel`` switches it for the whole process."""

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
    each: run
    for kernel, run in {
        aten._scaled_dot_product_flash_attention_for_cpu: _flash,
        aten._scaled_dot_product_flash_attention: _flash,
        aten._scaled_dot_product_efficient_attention: _efficient,
    }.items()
    for each in (kernel, kernel.default)
}
"""kernels of attention that are called by their names: each gives the result first, and then what its backward needs"""


class FakeImpls(TorchDispatchMode):
    """Says what operators return of which PyTorch does not say it on fake tensors.

    A grouped product is described there only in bfloat16, and only for sizes that one kernel likes. What depends on
    data has the values that graphflops.capture.constant_propagation assumes.
    """

    def __init__(self, values: ConstantPropagation) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = values

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op.overloadpacket is aten._grouped_mm:
            return _of_groups(*args, **kwargs)
        return self.values.run(op, args, kwargs)


def _of_groups(left: Any, right: Any, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    groups: tuple[int, ...] = ()
    if left.dim() == right.dim():
        groups = tuple(left.shape[:-2] if offs is None else offs.shape)
    return left.new_empty((*groups, left.shape[-2], right.shape[-1]), dtype=out_dtype or left.dtype)


class MacCounterMode(TorchDispatchMode):
    """Counts the multiply-adds of whatever is dispatched while it is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        count = MAC_FORMULAS.get(_out_of_place(op))
        if count is not None:
            self.macs += count(out, *args) * (4 if any(each.is_complex() for each in tensors_in(args)) else 1)
        return out


def _out_of_place(op: Any) -> Any:
    """What an in-place operator is a variant of: ``aten.addmm`` of ``aten.addmm_``, as which it is counted."""
    name = op.overloadpacket.__name__
    return getattr(aten, name.removesuffix("_"), None) if op.namespace == "aten" else op.overloadpacket


def _pair(first: int) -> Callable[..., int]:
    """A product of two factors that stand at ``first`` and after it in the call: (…, n, k) by (…, k, m) or (k,)."""

    def count(out: Any, *args: Any) -> int:
        left, right = args[first], args[first + 1]
        if (stored := nnz_of(right)) is not None:
            return int(left.shape[-2] * stored)
        return int((nnz_of(left) or left.numel()) * (right.shape[-1] if right.dim() > 1 else 1))

    return count


def _convolution(out: Any, input: Any, weight: Any, *rest: Any) -> int:
    """Each element of the output, or of the input if it is transposed, meets one filter."""
    transposed = rest[4]
    return _filtered(input if transposed else out, weight)


def _filtered(positions: Any, weight: Any) -> int:
    return int(positions.numel() * (weight.numel() // weight.shape[0]))


def _convolution_backward(out: Any, gradient: Any, input: Any, weight: Any, *rest: Any) -> int:
    """Each of the two gradients that is asked for costs as much as forward did, with groups as without."""
    transposed, wanted = rest[4], rest[7]
    return _filtered(input if transposed else gradient, weight) * (int(wanted[0]) + int(wanted[1]))


def _conv_tbc(out: Any, input: Any, weight: Any, bias: Any, pad: int = 0) -> int:
    """A product for each tap of the kernel, of as many steps of time as it does not find padding at."""
    taps, inputs, outputs = weight.shape
    ends = (min(out.shape[0], input.shape[0] + pad - tap) for tap in range(taps))
    steps = sum(max(0, end - max(0, pad - tap)) for tap, end in enumerate(ends))
    return int(steps * out.shape[1] * inputs * outputs)


def _grouped(out: Any, left: Any, right: Any, *rest: Any) -> int:
    """A matrix for each group, whatever the left is; else the groups share what is summed over, or the columns."""
    if right.dim() == 3:
        return int(left.numel() * right.shape[-1])
    return int(left.shape[-2] * left.shape[-1] * right.shape[-1])


def _trilinear(out: Any, one: Any, two: Any, three: Any, *expanded: Any) -> int:
    """A multiply-add at each combination of indices; a factor does not have those that it is expanded along."""
    sizes: dict[int, int] = {}
    for factor, missing in zip((one, two, three), expanded[:3], strict=True):
        axes = [axis for axis in range(factor.dim() + len(missing)) if axis not in missing]
        sizes |= zip(axes, factor.shape, strict=True)
    return prod(sizes.values())


MAC_FORMULAS: Mapping[Any, Callable[..., int]] = {
    aten.mm: _pair(0),
    aten.bmm: _pair(0),
    aten.mv: _pair(0),
    aten.dot: _pair(0),
    aten.vdot: _pair(0),
    aten._scaled_mm: _pair(0),
    aten._int_mm: _pair(0),
    aten._euclidean_dist: lambda out, left, right: int(out.numel() * (left.shape[-1] + 2)),
    aten.addmm: _pair(1),
    aten._sparse_addmm: _pair(1),
    aten.baddbmm: _pair(1),
    aten.addbmm: _pair(1),
    aten.addmv: _pair(1),
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten.conv_tbc: _conv_tbc,
    aten._grouped_mm: _grouped,
    aten._trilinear: _trilinear,
}
