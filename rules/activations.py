"""Activation functions: work of one element forward, and of one element of the gradient."""

from __future__ import annotations

from typing import Any

from graphflops.costs import NOTHING, Cost, Work
from graphflops.laws import summed_back, unary
from graphflops.names import aten
from graphflops.rulebook import rule
from graphflops.sizes import Spec

SELECT = Work(elementwise=1)
CHOICE = "To compare and choose is one operation here; PyTorch's kernels are described as two."
BOUNDS = "A bound is one operation here; PyTorch compares, chooses, and looks for NaN."
SIGMOID = Work(elementwise=2, transcendental=1, division=1)  # 1 / (1 + e⁻ˣ)

relu = unary(aten.relu, each=SELECT, grad=SELECT, note=CHOICE)
relu6 = unary(aten.hardtanh, each=2 * SELECT, grad=3 * SELECT, note=BOUNDS)  # two bounds; then the gradient or zero
threshold = unary(aten.threshold, each=SELECT, grad=SELECT, note=CHOICE)
hardshrink = unary(aten.hardshrink, each=2 * SELECT, grad=3 * SELECT, note=BOUNDS)  # as relu6
softshrink = unary(aten.softshrink, each=Work(elementwise=3), grad=3 * SELECT, note=BOUNDS)  # two bounds and x ∓ λ
rrelu = unary(aten.rrelu_with_noise, each=Work(elementwise=2), grad=Work(elementwise=2), note=CHOICE)
leaky_relu = unary(aten.leaky_relu, each=Work(elementwise=2), grad=Work(elementwise=2), note=CHOICE)
celu = unary(  # α·(e^(x/α) − 1) below zero; g·e^(x/α)
    aten.celu,
    each=Work(elementwise=3, division=1, transcendental=1),
    grad=Work(elementwise=2, division=1, transcendental=1),
    note="PyTorch multiplies by 1/α, and by other constants that are 1 unless told.",
)
sigmoid = unary(aten.sigmoid, each=SIGMOID, grad=Work(elementwise=3))  # g·y·(1 − y)
tanh = unary(aten.tanh, each=Work(transcendental=1), grad=Work(elementwise=3))  # g·(1 − y²)
silu = unary(aten.silu, each=SIGMOID + Work(elementwise=1), grad=SIGMOID + Work(elementwise=5))  # g·σ·(1 + x·(1 − σ))
softplus = unary(
    aten.softplus, each=Work(elementwise=1, transcendental=2), grad=SIGMOID + Work(elementwise=1), note=CHOICE
)
log_sigmoid = unary(  # −log(1 + e⁻ˣ); g / (1 + eˣ)
    aten.log_sigmoid_forward,
    each=Work(elementwise=3, transcendental=2),
    grad=Work(elementwise=1, transcendental=1, division=1),
    note="PyTorch splits x at 0 so that nothing overflows, and keeps e⁻|x| for the way back.",
)
hardsigmoid = unary(
    aten.hardsigmoid, each=Work(elementwise=3, division=1), grad=Work(elementwise=3, division=1), note=BOUNDS
)
hardswish = unary(
    aten.hardswish, each=Work(elementwise=4, division=1), grad=Work(elementwise=6, division=1), note=BOUNDS
)
mish = unary(  # x·t with t = tanh(log(1 + eˣ)); g·(t + x·σ·(1 − t²))
    aten.mish,
    each=Work(elementwise=2, transcendental=3),
    grad=SIGMOID + Work(elementwise=7, transcendental=3),
    note="PyTorch compares x to the threshold of softplus, and chooses.",
)


@rule(aten.elu)
def elu(self: Spec, scale: float = 1) -> Cost:
    """x, or α·(eˣ − 1) below zero; SELU scales it too. Backward from y: g, or g·(y + α).

    PyTorch takes eˣ again on the way back, multiplies by scales that are 1, and compares and chooses in two.
    """
    scaled = Work(elementwise=1) if scale != 1 else NOTHING
    forward = Work(elementwise=3, transcendental=1) + scaled
    return Cost(self.numel * forward, {"self": self.numel * (Work(elementwise=3) + scaled)})


@rule(aten._prelu_kernel)
def prelu(self: Spec, weight: Spec, out: Spec) -> Cost:
    """x, or w·x below zero: a comparison and a product, and so for both gradients.

    To compare and choose is one operation here; PyTorch's kernels are described as two.
    """
    each = Work(elementwise=2 * out.numel)
    return Cost(each, {"self": each, "weight": each + summed_back(out, weight)})


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
def clamp(self: Spec, out: Spec, min: Any = None, max: Any = None) -> Cost:
    """One comparison an element for each bound; backward the same comparisons, then the gradient or zero.

    A bound is one operation here; PyTorch compares, chooses, and looks for NaN.
    """
    bounds = 2 if min is not None and max is not None else 1
    n = out.numel
    if not self.is_floating:
        return Cost(Work(integer=bounds * n), {"*": NOTHING})
    selected = Work(elementwise=(bounds + 1) * n)
    return Cost(
        Work(elementwise=bounds * n),
        {
            "self": selected + summed_back(out, self),
            "min": selected + summed_back(out, min),
            "max": selected + summed_back(out, max),
        },
    )
