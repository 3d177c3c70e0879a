"""Activation functions: work of one element forward, and of one element of the gradient."""

from __future__ import annotations

from typing import Any

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Spec
from graphflops.rules.rule import rule
from graphflops.rules.templates import derivative, gradient, sum_to_size, unary

SELECT = Work(elementwise=1)
CHOICE = "To compare and choose is one operation here; PyTorch's kernels are described as two."
BOUNDS = "A bound is one operation here; PyTorch compares, chooses, and looks for NaN."
SIGMOID = Work(elementwise=2, transcendental=1, division=1)  # 1 / (1 + e⁻ˣ)

relu = unary(aten.relu, forward=SELECT, grad=SELECT, note=CHOICE)
relu6 = unary(aten.hardtanh, forward=2 * SELECT, grad=3 * SELECT, note=BOUNDS)  # two bounds; then the gradient or zero
threshold = unary(aten.threshold, forward=SELECT, grad=SELECT, note=CHOICE)
hardshrink = unary(aten.hardshrink, forward=2 * SELECT, grad=3 * SELECT, note=BOUNDS)  # as relu6
softshrink = unary(aten.softshrink, forward=Work(elementwise=3), grad=3 * SELECT, note=BOUNDS)  # two bounds and x ∓ λ
rrelu = unary(aten.rrelu_with_noise, forward=Work(elementwise=2), grad=Work(elementwise=2), note=CHOICE)
leaky_relu = unary(aten.leaky_relu, forward=Work(elementwise=2), grad=Work(elementwise=2), note=CHOICE)
celu = unary(  # α·(e^(x/α) − 1) below zero; g·e^(x/α)
    aten.celu,
    forward=Work(elementwise=3, division=1, transcendental=1),
    grad=Work(elementwise=2, division=1, transcendental=1),
    note="PyTorch multiplies by 1/α, and by other constants that are 1 by default.",
)
OF_COMPLEX = Work(elementwise=8, transcendental=3, division=2)  # the sigmoid: a sign, eᶻ, 1, and an inverse
sigmoid = unary(  # g·y·(1 − y)
    aten.sigmoid, forward=SIGMOID, grad=Work(elementwise=3), on_complex=(OF_COMPLEX, Work(elementwise=14))
)
tanh = unary(  # g·(1 − y²); of a complex number (sinh 2x + i·sin 2y) / (cosh 2x + cos 2y)
    aten.tanh, forward=Work(transcendental=1), grad=Work(elementwise=3),
    on_complex=(Work(elementwise=3, transcendental=4, division=2), Work(elementwise=13)),
)  # fmt: skip
silu = unary(
    aten.silu, forward=SIGMOID + Work(elementwise=1), grad=SIGMOID + Work(elementwise=5)
)  # g·σ·(1 + x·(1 − σ))
softplus = unary(
    aten.softplus, forward=Work(elementwise=1, transcendental=2), grad=SIGMOID + Work(elementwise=1), note=CHOICE
)
log_sigmoid = unary(  # −log(1 + e⁻ˣ); g / (1 + eˣ)
    aten.log_sigmoid_forward,
    forward=Work(elementwise=3, transcendental=2),
    grad=Work(elementwise=1, transcendental=1, division=1),
    note="PyTorch splits x at 0 so that nothing overflows, and keeps e⁻|x| for the way back.",
)
hardsigmoid = unary(
    aten.hardsigmoid, forward=Work(elementwise=3, division=1), grad=Work(elementwise=3, division=1), note=BOUNDS
)
hardswish = unary(
    aten.hardswish, forward=Work(elementwise=4, division=1), grad=Work(elementwise=6, division=1), note=BOUNDS
)
mish = unary(  # x·t with t = tanh(log(1 + eˣ)); g·(t + x·σ·(1 − t²))
    aten.mish,
    forward=Work(elementwise=2, transcendental=3),
    grad=SIGMOID + Work(elementwise=7, transcendental=3),
    note="PyTorch compares x to the threshold of softplus, and chooses.",
)

threshold_backward = derivative(aten.threshold_backward, function=threshold)
hardtanh_backward = derivative(aten.hardtanh_backward, function=relu6)
hardsigmoid_backward = derivative(aten.hardsigmoid_backward, function=hardsigmoid)
hardshrink_backward = derivative(aten.hardshrink_backward, function=hardshrink, upstream="grad_out")
softshrink_backward = derivative(aten.softshrink_backward, function=softshrink)
leaky_relu_backward = derivative(aten.leaky_relu_backward, function=leaky_relu)
rrelu_backward = derivative(aten.rrelu_with_noise_backward, function=rrelu)
sigmoid_backward = derivative(  # G·g·(1 − 2·y), with G the gradient of the gradient
    aten.sigmoid_backward, function=sigmoid, second=Work(elementwise=4), point="output"
)
tanh_backward = derivative(aten.tanh_backward, function=tanh, second=Work(elementwise=3), point="output")  # −2·G·g·y
silu_backward = derivative(  # G·g·σ·(1 − σ)·(2 + x·(1 − 2·σ))
    aten.silu_backward, function=silu, second=SIGMOID + Work(elementwise=9)
)
softplus_backward = derivative(  # G·g·β·σ·(1 − σ)
    aten.softplus_backward, function=softplus, second=SIGMOID + Work(elementwise=5)
)
log_sigmoid_backward = derivative(  # G·g·σ·(σ − 1)
    aten.log_sigmoid_backward, function=log_sigmoid, second=SIGMOID + Work(elementwise=4)
)
hardswish_backward = derivative(  # G·g/3 within the bounds
    aten.hardswish_backward, function=hardswish, second=Work(elementwise=3, division=1)
)
mish_backward = derivative(  # G·g·σ·(1 − t²)·(2 + x·(1 − σ − 2·t·σ))
    aten.mish_backward, function=mish, second=SIGMOID + Work(elementwise=13, transcendental=3)
)


@rule(aten.elu)
def elu(self: Spec, scale: float = 1) -> Cost:
    """x, or α·(eˣ − 1) below zero; SELU scales it too. Backward from y: g, or g·(y + α).

    PyTorch computes eˣ again in the backward pass, multiplies by scales that are 1, and compares and chooses in two.
    """
    scaled = Work(elementwise=1) if scale != 1 else ZERO
    forward = Work(elementwise=3, transcendental=1) + scaled
    return Cost(self.numel * forward, {"self": self.numel * (Work(elementwise=3) + scaled)})


@rule(aten.elu_backward)
def elu_backward(grad_output: Spec, scale: float = 1) -> Cost:
    """Backward of ``elu``. Double backward: the same again upstream, and for x G·g·(y + α) below
    zero, with G the gradient of the gradient.
    """
    first = gradient(elu(grad_output, scale), "self")
    return Cost(first, {"grad_output": first, "self_or_result": first + Work(elementwise=grad_output.numel)})


@rule(aten._prelu_kernel)
def prelu(self: Spec, weight: Spec, out: Spec) -> Cost:
    """x, or w·x below zero: a comparison and a product, and so for both gradients.

    To compare and choose is one operation here; PyTorch's kernels are described as two.
    """
    work = Work(elementwise=2 * out.numel)
    return Cost(work, {"self": work, "weight": work + sum_to_size(out, weight)})


@rule(aten._prelu_kernel_backward)
def prelu_backward(grad_output: Spec, grad_outputs: frozenset[int]) -> Cost:
    """Backward of ``prelu``: a comparison and a product each.

    Double backward: upstream a comparison, and a product for each gradient that is used, which are added; a comparison
    and a product for x, if the gradient of w is used, and for w, if that of x is.
    """
    n = grad_output.numel
    work = Work(elementwise=2 * n)
    upstream = Work(elementwise=2 * len(grad_outputs) * n)
    return Cost(
        2 * work,
        {
            "grad_output": upstream,
            "self": work if 1 in grad_outputs else ZERO,
            "weight": work if 0 in grad_outputs else ZERO,
        },
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


@rule(aten.gelu_backward)
def gelu_backward(grad_output: Spec, approximate: str = "none") -> Cost:
    """Backward of ``gelu``. Double backward: the same again upstream; for x G·g·φ·(2 − x²), with G
    the gradient of the gradient, or of "tanh" with its u = √(2/π)·(x + 0.044715·x³) and t = tanh u
    ½·G·g·(1 − t²)·(2·u′ + x·(u″ − 2·t·u′²)).
    """
    first = gradient(gelu(grad_output, approximate), "self")
    second = Work(elementwise=22 if approximate == "tanh" else 7, transcendental=1)
    return Cost(first, {"grad_output": first, "self": grad_output.numel * second})


@rule(aten.glu)
def glu(self: Spec, out: Spec) -> Cost:
    """a·σ(b) of the two halves of x. Backward σ again, g·σ for a and g·a·σ·(1 − σ) for b."""
    return Cost(out.numel * (SIGMOID + Work(elementwise=1)), {"self": out.numel * (SIGMOID + Work(elementwise=5))})


@rule(aten.glu_backward)
def glu_backward(grad_output: Spec, self: Spec) -> Cost:
    """Backward of ``glu``. Double backward: upstream G·σ + H·a·σ·(1 − σ), of the gradients G and H
    of both halves; H·g·σ·(1 − σ) for a, and g·σ·(1 − σ)·(G + H·a·(1 − 2·σ)) for b.
    """
    n = grad_output.numel
    first = gradient(glu(self, grad_output), "self")
    return Cost(
        first,
        {"grad_output": n * (SIGMOID + Work(elementwise=6)), "self": n * (SIGMOID + Work(elementwise=10))},
    )


@rule(aten.clamp, aten.clamp_min, aten.clamp_max)
def clamp(self: Spec, out: Spec, min: Any = None, max: Any = None) -> Cost:
    """One comparison an element for each bound; backward the same comparisons, then the gradient or zero.

    A bound is one operation here; PyTorch compares, chooses, and looks for NaN.
    """
    bounds = 2 if min is not None and max is not None else 1
    n = out.numel
    if not self.is_floating:
        return Cost(Work(integer=bounds * n), {"*": ZERO})
    selected = Work(elementwise=(bounds + 1) * n)
    return Cost(
        Work(elementwise=bounds * n),
        {
            "self": selected + sum_to_size(out, self),
            "min": selected + sum_to_size(out, min),
            "max": selected + sum_to_size(out, max),
        },
    )
