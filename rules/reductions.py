"""Reductions: a sum of n numbers counts n additions, the first one into zero, as a multiply-add does."""

from __future__ import annotations

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import ANY, additions, moves
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
    return Cost(Work(elementwise=self.numel, division=out.numel), {"self": Work(division=self.numel)})


@rule(aten.var, aten.std)
def var(self: Spec) -> Cost:
    """Σ (x − mean)² / (n − 1): mean, subtract, square, add: 4 an element. Backward 2·g·(x − mean)/(n − 1): 3."""
    return Cost(Work(elementwise=4 * self.numel), {"self": Work(elementwise=3 * self.numel)})


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


@rule(aten.cumsum, aten.logcumsumexp)
def cumsum(self: Spec) -> Cost:
    """One addition an element, and one backward, from the other end."""
    each = additions(self.numel, self)
    return Cost(each, {"self": each})


@rule(aten.prod, aten.cumprod)
def prod_(self: Spec, out: Spec) -> Cost:
    """One multiplication an element; backward g·y/x: a product and a division an element."""
    return Cost(additions(self.numel, self), {"self": Work(elementwise=self.numel, division=self.numel)})


@rule(aten.linalg_vector_norm, aten.norm)
def vector_norm(self: Spec, out: Spec) -> Cost:
    """√Σ x²: a product and an addition an element, a root a result; backward g·x/y: two an element."""
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
