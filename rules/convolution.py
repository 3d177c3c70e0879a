"""Convolution: every output element is a sum over one filter; groups, strides and dilation included."""

from __future__ import annotations

from graphflops.costs import Cost, Work
from graphflops.laws import multiply_adds
from graphflops.names import aten
from graphflops.rulebook import rule
from graphflops.sizes import Spec, prod


@rule(aten.convolution)
def convolution(input: Spec, weight: Spec, transposed: bool, out: Spec) -> Cost:
    """out · (channels in / groups) · kernel: what an output element's filter holds. The bias is its first addend.

    A transposed convolution is the gradient of a plain one: each *input* element meets a filter. The gradients of input
    and weight cost as much as forward each, with groups as without. Padding counts as if it were data.
    """
    positions = input if transposed else out
    macs = multiply_adds(positions.numel * prod(weight.shape[1:]), out)
    return Cost(macs, {"input": macs, "weight": macs, "bias": Work(accumulate=out.numel)})


@rule(aten.conv_tbc)
def conv_tbc(self: Spec, weight: Spec, out: Spec, pad: int = 0) -> Cost:
    """Time first: (T, B, in) by (kernel, in, out), a product for each tap of the kernel. Padding is skipped.

    Of p steps of padding, tap i < p finds p − i at the beginning, and so from the other end: p·(p + 1) in all, of a
    kernel that is no shorter than p. PyTorch computes the gradients of input, weight and bias together, also where one
    of them is wanted.
    """
    taps, *channels = weight.shape
    steps = taps * out.shape[0] - pad * (pad + 1)
    macs = multiply_adds(steps * out.shape[1] * prod(channels), out)
    return Cost(macs, {"self|weight|bias": 2 * macs + Work(accumulate=out.numel)})
