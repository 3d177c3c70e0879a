"""Reductions: a sum of n numbers counts n additions, the first one into zero, as a multiply-add does."""

from __future__ import annotations

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.errors import Unpriced
from graphflops.laws import ANY, additions, moves, multiplications
from graphflops.rulebook import rule
from graphflops.sizes import Spec

aten = torch.ops.aten


@rule(aten.sum)
def sum_(self: Spec) -> Cost:
    """Σ x: n additions. The gradient is copied to every element, which is no arithmetic."""
    return Cost(additions(self.numel, self), {"self": NOTHING})


@rule(aten.mean)
def mean(self: Spec, out: Spec) -> Cost:
    """Σ x / n: n additions, one division a result; backward every element of the gradient is divided by n."""
    parts = 2 if self.is_complex else 1
    return Cost(
        additions(self.numel, self) + Work(division=parts * out.numel), {"self": Work(division=parts * self.numel)}
    )


@rule(aten.var)
def var(self: Spec, out: Spec) -> Cost:
    """Σ (x − mean)² / (n − 1): mean, subtract, square, add: 4 an element; two divisions a result.

    Backward 2/(n − 1)·g·(x − mean): 3 an element, the mean being kept.
    """
    return Cost(Work(elementwise=4 * self.numel, division=2 * out.numel), {"self": Work(elementwise=3 * self.numel)})


@rule(aten.std)
def std(self: Spec, out: Spec) -> Cost:
    """√var: a root a result. Backward g / (2·y) a result, then the gradient of the variance."""
    return var(self, out) + Cost(Work(division=out.numel), {"self": Work(elementwise=out.numel, division=out.numel)})


@rule(aten.max, aten.min, aten.amax, aten.amin, aten.median, aten.mode, aten.kthvalue)
def extremum(self: Spec) -> Cost:
    """One comparison an element; backward one selection an element."""
    chosen = additions(self.numel, self)
    return Cost(chosen, {"self": chosen, "other": chosen})


@rule(aten.argmax, aten.argmin, aten.any, aten.all, aten.count_nonzero)
def search(self: Spec) -> Cost:
    """One comparison an element, and no gradient."""
    return Cost(additions(self.numel, self), {ANY: NOTHING})


@rule(aten.topk, aten.sort)
def ordering(self: Spec) -> Cost:
    """One comparison an element, the leading term of a selection; what a full sort needs beyond it is left out.

    Backward puts each gradient back where its value came from: no arithmetic.
    """
    return Cost(additions(self.numel, self), {"self": NOTHING})


@rule(aten.cumsum)
def cumsum(self: Spec) -> Cost:
    """One addition an element, and one backward, from the other end."""
    each = additions(self.numel, self)
    return Cost(each, {"self": each})


@rule(aten.logcumsumexp)
def logcumsumexp(self: Spec) -> Cost:
    """yᵢ = log Σⱼ≤ᵢ eˣʲ: exp, add and log an element; backward eˣʲ·Σᵢ≥ⱼ gᵢ·e⁻ʸⁱ. The maximum is not counted."""
    n = self.numel
    return Cost(Work(elementwise=n, transcendental=2 * n), {"self": Work(elementwise=4 * n, transcendental=2 * n)})


@rule(aten.prod)
def prod_(self: Spec) -> Cost:
    """Π x: n multiplications; backward g·y/x: a product and a division an element."""
    return Cost(multiplications(self.numel, self), {"self": Work(elementwise=self.numel, division=self.numel)})


@rule(aten.cumprod)
def cumprod(self: Spec) -> Cost:
    """One multiplication an element; backward Σᵢ≥ⱼ gᵢ·yᵢ / xⱼ: a product, an addition and a division an element."""
    return Cost(multiplications(self.numel, self), {"self": Work(elementwise=2 * self.numel, division=self.numel)})


@rule(aten.linalg_vector_norm, aten.norm)
def vector_norm(self: Spec, out: Spec, ord: float | None = None, p: float | None = None) -> Cost:
    """√Σ x²: a product and an addition an element, a root a result; backward g·x/y: two an element.

    The norms of order 1 and ∞: an absolute value and an addition or comparison; backward g times the sign.
    """
    order = 2 if ord is None and p is None else ord if ord is not None else p
    if self.is_complex or order not in (1, 2, float("inf")):
        raise Unpriced(f"a norm of order {order} of {self.dtype} has no price")
    if order != 2:
        return Cost(Work(elementwise=2 * self.numel), {"self": Work(elementwise=2 * self.numel)})
    return Cost(
        Work(elementwise=2 * self.numel, division=out.numel),
        {"self": Work(elementwise=self.numel, division=self.numel)},
    )


@rule(aten.logsumexp)
def logsumexp(self: Spec, out: Spec) -> Cost:
    """log Σ eˣ: exp and add an element, a log a result; backward g·exp(x − y). The maximum is not counted."""
    n = self.numel
    return Cost(Work(elementwise=n, transcendental=n + out.numel), {"self": Work(elementwise=2 * n, transcendental=n)})


counting = moves("sizes and flags that the host reads", aten.sym_size, aten._local_scalar_dense, aten.is_nonzero)
