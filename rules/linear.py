"""Matrix products: linear layers, matmul in all its forms. A multiply-add is one mac."""

from __future__ import annotations

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import additions, multiply_adds
from graphflops.rulebook import rule
from graphflops.sizes import Spec

aten = torch.ops.aten


@rule(aten.linear)
def linear(input: Spec, weight: Spec, out: Spec, bias: Spec | None = None) -> Cost:
    """y = x·Wᵀ + b. The bias is the first addend of each sum, so forward it costs nothing.

    >>> from graphflops import spec
    >>> linear(spec(32, 512), spec(1024, 512), spec(32, 1024)).forward
    Work(macs=16777216)
    """
    macs = multiply_adds(out.numel * weight.shape[-1], out)
    return Cost(macs, {"input": macs, "weight": macs, "bias": Work(accumulate=out.numel)})


@rule(aten.mm, aten.bmm)
def mm(self: Spec, mat2: Spec, out: Spec) -> Cost:
    """C = A·B, batched or not. dA = dC·Bᵀ and dB = Aᵀ·dC cost as much as C does."""
    macs = multiply_adds(out.numel * self.shape[-1], out)
    return Cost(macs, {"self": macs, "mat2": macs})


@rule(aten.mv)
def mv(self: Spec, vec: Spec) -> Cost:
    """y = A·v. dA = dy·vᵀ has no sum to add up: one multiplication an element, a mac as torch counts it."""
    macs = multiply_adds(self.numel, self)
    return Cost(macs, {"self": macs, "vec": macs})


@rule(aten.dot, aten.vdot)
def dot(self: Spec) -> Cost:
    """Σᵢ aᵢ·bᵢ. Each gradient is the other vector times a number: multiplications, not multiply-adds."""
    scaled = Work(elementwise=self.numel)
    return Cost(multiply_adds(self.numel, self), {"self": scaled, "tensor": scaled, "other": scaled})


@rule(aten.addmm)
def addmm(self: Spec, mat1: Spec, out: Spec) -> Cost:
    """β·C + α·A·B with α = β = 1: C is the first addend of each sum. The gradient of a row for all is a bias's."""
    macs = multiply_adds(out.numel * mat1.shape[-1], out)
    return Cost(macs, {"mat1": macs, "mat2": macs, "self": _bias(self, out)})


@rule(aten.baddbmm)
def baddbmm(self: Spec, batch1: Spec, out: Spec) -> Cost:
    """As addmm, for each of the batch."""
    macs = multiply_adds(out.numel * batch1.shape[-1], out)
    return Cost(macs, {"batch1": macs, "batch2": macs, "self": _bias(self, out)})


@rule(aten.outer, aten.ger)
def outer(self: Spec, vec2: Spec, out: Spec) -> Cost:
    """a·bᵀ: one multiplication an element forward, a matrix-vector product for each gradient."""
    macs = multiply_adds(out.numel, out)
    return Cost(additions(out.numel, out), {"self": macs, "vec2": macs, "input": macs})


@rule(aten.embedding)
def embedding(out: Spec) -> Cost:
    """Rows of a table: looking up is free; the gradient adds every row looked up into the table's.

    The additions stand in elementwise, not in accumulate, so that token and position embedding cost B·N·D backward as
    the published table of ResNet-BK says.
    """
    return Cost(NOTHING, {"weight": Work(elementwise=out.numel)})


def _bias(addend: Spec, out: Spec) -> Work:
    """The gradient of an addend: of one with fewer axes as a bias's, else what broadcasting copied is summed."""
    if len(addend.shape) < len(out.shape):
        return Work(accumulate=out.numel)
    return Work(accumulate=out.numel - addend.numel)
