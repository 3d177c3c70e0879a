"""Matrix products: linear layers, matmul in all its forms. A multiply-add is one mac."""

from __future__ import annotations

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import multiplications, multiply_adds, summed_back
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
    grads = {"input": macs, "weight": macs, "bias": Work(accumulate=out.numel)}
    if len(weight.shape) == 1:  # a vector: y is a number for each row, as in mv and dot
        grads["input"] = multiplications(input.numel, input)
        if len(input.shape) == 1:
            grads["weight"] = grads["input"]
    return Cost(macs, grads)


@rule(aten.mm, aten.bmm)
def mm(self: Spec, mat2: Spec, out: Spec) -> Cost:
    """C = A·B, batched or not. dA = dC·Bᵀ and dB = Aᵀ·dC cost as much as C does."""
    macs = multiply_adds(out.numel * self.shape[-1], out)
    return Cost(macs, {"self": macs, "mat2": macs})


@rule(aten.mv)
def mv(self: Spec, vec: Spec) -> Cost:
    """y = A·v. dv = Aᵀ·dy costs as much; dA = dy·vᵀ has no sum to add up: one multiplication an element."""
    macs = multiply_adds(self.numel, self)
    return Cost(macs, {"self": multiplications(self.numel, self), "vec": macs})


@rule(aten.dot, aten.vdot)
def dot(self: Spec) -> Cost:
    """Σᵢ aᵢ·bᵢ. Each gradient is the other vector times a number: multiplications, not multiply-adds."""
    scaled = multiplications(self.numel, self)
    return Cost(multiply_adds(self.numel, self), {"self": scaled, "tensor": scaled, "other": scaled})


@rule(aten.addmm)
def addmm(self: Spec, mat1: Spec, mat2: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """β·C + α·A·B: C is the first addend of each sum. The gradient of a row for all is a bias's.

    A factor α or β that is not 1 is one multiplication an element of what it multiplies, forward and backward.
    """
    macs = multiply_adds(out.numel * mat1.shape[-1], out)
    return Cost(
        macs + _scaled(out, alpha) + _scaled(out, beta),
        {
            "mat1": macs + _scaled(mat1, alpha),
            "mat2": macs + _scaled(mat2, alpha),
            "self": _scaled(out, beta) + _bias(self, out),
        },
    )


@rule(aten.baddbmm)
def baddbmm(self: Spec, batch1: Spec, batch2: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """As addmm, for each of the batch."""
    each = addmm(self, batch1, batch2, out, alpha, beta)
    return Cost(each.forward, {"batch1": each.grads["mat1"], "batch2": each.grads["mat2"], "self": each.grads["self"]})


@rule(aten.addmv)
def addmv(self: Spec, mat: Spec, vec: Spec, out: Spec, alpha: float = 1, beta: float = 1) -> Cost:
    """β·c + α·A·v, as addmm; dA is one multiplication an element, as in mv."""
    macs = multiply_adds(mat.numel, mat)
    return Cost(
        macs + _scaled(out, alpha) + _scaled(out, beta),
        {
            "mat": multiplications(mat.numel, mat) + _scaled(mat, alpha),
            "vec": macs + _scaled(vec, alpha),
            "self": _scaled(out, beta) + _bias(self, out),
        },
    )


@rule(aten.outer, aten.ger)
def outer(self: Spec, vec2: Spec, out: Spec) -> Cost:
    """a·bᵀ: one multiplication an element forward, and for each gradient, which is then summed over the other index."""
    product = multiplications(out.numel, out)
    return Cost(product, {"self": product + summed_back(out, self), "vec2": product + summed_back(out, vec2)})


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


def _scaled(by: Spec, factor: float) -> Work:
    return NOTHING if factor == 1 else multiplications(by.numel, by)
