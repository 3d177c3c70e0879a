"""Convolution: every output element is a sum over one filter; groups, strides and dilation included."""

from __future__ import annotations

import torch

from graphflops.costs import Cost, Work
from graphflops.laws import multiply_adds
from graphflops.rulebook import rule
from graphflops.sizes import Spec, prod

aten = torch.ops.aten


@rule(aten.convolution)
def convolution(input: Spec, weight: Spec, transposed: bool, out: Spec) -> Cost:
    """out · (channels in / groups) · kernel: what an output element's filter holds. The bias is its first addend.

    A transposed convolution is the gradient of a plain one: each *input* element meets a filter. The gradients of input
    and weight cost as much as forward each, with groups as without. Padding counts as if it were data.
    """
    positions = input if transposed else out
    macs = multiply_adds(positions.numel * prod(weight.shape[1:]), out)
    return Cost(macs, {"input": macs, "weight": macs, "bias": Work(accumulate=out.numel)})
