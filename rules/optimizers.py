"""Optimizers: work of one update of a parameter, for each element."""

from __future__ import annotations

from graphflops.core.costs import Cost, Work
from graphflops.core.sizes import Spec
from graphflops.rules.rule import rule

STEP = Work(elementwise=2)  # p − lr·d
MOMENTUM = Work(elementwise=2)  # v = μ·v + g
MOMENTS = Work(elementwise=7)  # m = β₁·m + (1 − β₁)·g at 3; v = β₂·v + (1 − β₂)·g² at 4
ADAPTED = Work(elementwise=1, division=4)  # m / (1 − β₁ᵗ), v / (1 − β₂ᵗ), √, + ε, ÷
DECAY = Work(elementwise=1)  # p·(1 − lr·λ), decoupled; the factor is one number


@rule("optimizer.sgd")
def sgd(param: Spec) -> Cost:
    """p − lr·g: 2."""
    return Cost(param.numel * STEP)


@rule("optimizer.sgd_momentum")
def sgd_momentum(param: Spec) -> Cost:
    """v = μ·v + g, p − lr·v: 4."""
    return Cost(param.numel * (MOMENTUM + STEP))


@rule("optimizer.adam")
def adam(param: Spec) -> Cost:
    """Two moments, their bias corrections, a root, a quotient, a step (Kingma & Ba 2015): 14."""
    return Cost(param.numel * (MOMENTS + ADAPTED + STEP))


@rule("optimizer.adamw")
def adamw(param: Spec) -> Cost:
    """Adam and decoupled weight decay (Loshchilov & Hutter 2019): 15."""
    return Cost(param.numel * (MOMENTS + ADAPTED + STEP + DECAY))
