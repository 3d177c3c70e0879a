"""Activation functions: work of one element forward, and of one element of the gradient."""

from __future__ import annotations

import torch

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import unary
from graphflops.rulebook import rule
from graphflops.sizes import Spec

aten = torch.ops.aten

SELECT = Work(elementwise=1)
SIGMOID = Work(elementwise=2, transcendental=1, division=1)  # 1 / (1 + e⁻ˣ)

relu = unary(aten.relu, each=SELECT, grad=SELECT)
relu6 = unary(aten.hardtanh, each=2 * SELECT, grad=3 * SELECT)  # two bounds; then the gradient or zero
leaky_relu = unary(aten.leaky_relu, each=Work(elementwise=2), grad=Work(elementwise=2))
prelu_kernel = unary(aten.celu, aten.elu, each=Work(elementwise=3, transcendental=1), grad=Work(elementwise=3))
sigmoid = unary(aten.sigmoid, each=SIGMOID, grad=Work(elementwise=3))  # g·y·(1 − y)
tanh = unary(aten.tanh, each=Work(transcendental=1), grad=Work(elementwise=3))  # g·(1 − y²)
silu = unary(aten.silu, each=SIGMOID + Work(elementwise=1), grad=SIGMOID + Work(elementwise=5))  # g·σ·(1 + x·(1 − σ))
softplus = unary(aten.softplus, each=Work(elementwise=1, transcendental=2), grad=SIGMOID + Work(elementwise=1))
log_sigmoid = unary(
    aten.log_sigmoid_forward, each=Work(elementwise=3, transcendental=2), grad=SIGMOID + Work(elementwise=1)
)
hardsigmoid = unary(aten.hardsigmoid, each=Work(elementwise=3, division=1), grad=Work(elementwise=3, division=1))
hardswish = unary(aten.hardswish, each=Work(elementwise=4, division=1), grad=Work(elementwise=6, division=1))
mish = unary(
    aten.mish, each=Work(elementwise=2, transcendental=3), grad=SIGMOID + Work(elementwise=6, transcendental=3)
)


@rule(aten.gelu)
def gelu(self: Spec, approximate: str = "none") -> Cost:
    """x·Φ(x). Exactly, Φ = (1 + erf(x/√2))/2; "tanh" has tanh(√(2/π)·(x + 0.044715·x³)) for erf.

    Backward Φ + x·φ, with Φ computed again and φ the normal density, or the derivative of the approximation.
    """
    if approximate == "tanh":
        forward, backward = Work(elementwise=8, transcendental=1), Work(elementwise=17, transcendental=1)
    else:
        forward, backward = Work(elementwise=4, transcendental=1), Work(elementwise=9, transcendental=2)
    return Cost(self.numel * forward, {"self": self.numel * backward})


@rule(aten.glu)
def glu(self: Spec, out: Spec) -> Cost:
    """a·σ(b) of the two halves of x. Backward σ again, g·σ for a and g·a·σ·(1 − σ) for b."""
    return Cost(out.numel * (SIGMOID + Work(elementwise=1)), {"self": out.numel * (SIGMOID + Work(elementwise=5))})


@rule(aten.clamp, aten.clamp_min, aten.clamp_max)
def clamp(self: Spec, out: Spec, min: object = None, max: object = None) -> Cost:
    """One comparison an element for each bound; backward the same comparisons, then the gradient or zero."""
    bounds = 2 if min is not None and max is not None else 1
    n = out.numel
    if not self.is_floating:
        return Cost(Work(integer=bounds * n), {"*": NOTHING})
    selected = Work(elementwise=(bounds + 1) * n)
    return Cost(Work(elementwise=bounds * n), {"self": selected, "min": selected, "max": selected})
