"""Elementwise arithmetic. Complex numbers in real operations: add 2, multiply 6, divide 11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Spec
from graphflops.rules.rule import rule
from graphflops.rules.templates import (
    ALL_OPERANDS,
    additions,
    comparison,
    derivative,
    multiplications,
    sum_to_size,
    unary,
)

ONE = Work(elementwise=1)
DIVIDE = Work(division=1)
CURVE = Work(transcendental=1)

# Of a complex number, in real operations.
PRODUCT = 6 * ONE
SCALED = 2 * ONE  # a product with a real number, or a sum of two complex ones
QUOTIENT = 9 * ONE + 2 * DIVIDE
LENGTH = 3 * ONE + DIVIDE  # √(re² + im²)
INVERSE_OF = 3 * ONE + 2 * DIVIDE  # z̄ / |z|²
EXPONENTIAL = 3 * CURVE + SCALED  # eˣ·(cos y + i·sin y)
LOGARITHM = 4 * ONE + 2 * CURVE  # ½·log(x² + y²) + i·atan2(y, x)
ROOT = LENGTH + 3 * ONE + 2 * DIVIDE  # a = √((|z| + x)/2), then y / 2a
TURNED = 4 * CURVE + SCALED  # sin x·cosh y + i·cos x·sinh y, and the like
TANGENT = 4 * CURVE + 3 * ONE + 2 * DIVIDE  # (sin 2x + i·sinh 2y) / (cos 2x + cosh 2y)
ARC = PRODUCT + SCALED + ROOT + SCALED + LOGARITHM  # log(z + √(z² ± 1)), as asin and acos are too
ARC_BACK = PRODUCT + ONE + ROOT + QUOTIENT  # g / √(z² ± 1)
TAN_ARC = SCALED + QUOTIENT + LOGARITHM + SCALED  # ½·log((1 + z) / (1 − z)), and so of the tangent
TAN_ARC_BACK = PRODUCT + ONE + QUOTIENT  # g / (1 ± z²)

# operations that PyTorch runs beyond a formula, or instead of it
AGAIN = "PyTorch computes the function again in the backward pass."
BOUNDS = "That x lies within its bounds is looked for by PyTorch, and not counted."
FRACTION = "A fraction is a rounding and a subtraction in PyTorch."
INVERSE = "Backward PyTorch multiplies by one inverse, of a root where there is one."
POWER = "PyTorch calls a power for y³."
SHIFT = "Backward the exponent is shifted; PyTorch makes a power of two and divides by it."
TRUTHS = "PyTorch compares numbers taken for truth values to 0 first, and infinity to absolute values."
ZEROS = "Of complex numbers PyTorch looks for 0 before it divides, backward."

neg = unary(aten.neg, forward=ONE, grad=ONE, on_complex=(2 * ONE, 2 * ONE))
abs_ = unary(  # √(re² + im²)
    aten.abs, forward=ONE, grad=2 * ONE, on_complex=(3 * ONE + DIVIDE, 2 * ONE + 2 * DIVIDE), note=ZEROS
)
sign = unary(  # of a complex number z/|z|; then g/|z|, less its part along z
    aten.sign, aten.sgn, forward=ONE, grad=ZERO, on_complex=(LENGTH + 2 * DIVIDE, LENGTH + 8 * ONE + 2 * DIVIDE)
)
rounding = unary(aten.floor, aten.ceil, aten.round, aten.trunc, aten.frac, forward=ONE, grad=ZERO, note=FRACTION)
sqrt = unary(aten.sqrt, forward=DIVIDE, grad=ONE + DIVIDE, on_complex=(ROOT, SCALED + QUOTIENT))  # g / 2y
rsqrt = unary(  # −½·g·y³
    aten.rsqrt, forward=DIVIDE, grad=4 * ONE, on_complex=(ROOT + INVERSE_OF, 3 * PRODUCT + SCALED), note=POWER
)
reciprocal = unary(aten.reciprocal, forward=DIVIDE, grad=3 * ONE, on_complex=(3 * ONE + 2 * DIVIDE, 14 * ONE))  # −g·y²
exp = unary(aten.exp, forward=CURVE, grad=ONE, on_complex=(EXPONENTIAL, PRODUCT))
expm1 = unary(aten.expm1, aten.exp2, forward=CURVE, grad=2 * ONE, on_complex=(EXPONENTIAL + SCALED, PRODUCT + SCALED))
log = unary(aten.log, forward=CURVE, grad=DIVIDE, on_complex=(LOGARITHM, QUOTIENT))
log1p = unary(
    aten.log1p, aten.log2, aten.log10,
    forward=CURVE, grad=ONE + DIVIDE, on_complex=(LOGARITHM + SCALED, QUOTIENT + SCALED),
)  # fmt: skip
sin = unary(aten.sin, forward=CURVE, grad=CURVE + ONE, on_complex=(TURNED, TURNED + PRODUCT))
cos = unary(  # −g·sin x
    aten.cos, forward=CURVE, grad=CURVE + 2 * ONE, on_complex=(TURNED + ONE, TURNED + PRODUCT + SCALED)
)
tan = unary(aten.tan, forward=CURVE, grad=3 * ONE, on_complex=(TANGENT, 2 * PRODUCT + ONE))
hyperbolic = unary(aten.sinh, aten.cosh, forward=CURVE, grad=CURVE + ONE, on_complex=(TURNED, TURNED + PRODUCT))
asin = unary(  # g / √(1 − x²)
    aten.asin, forward=CURVE, grad=2 * ONE + 2 * DIVIDE, on_complex=(ARC, ARC_BACK), note=INVERSE
)
acos = unary(aten.acos, forward=CURVE, grad=3 * ONE + 2 * DIVIDE, on_complex=(ARC, ARC_BACK + SCALED), note=INVERSE)
atan = unary(aten.atan, forward=CURVE, grad=2 * ONE + DIVIDE, on_complex=(TAN_ARC, TAN_ARC_BACK))  # g / (1 + x²)
erf = unary(aten.erf, aten.erfc, forward=CURVE, grad=CURVE + 4 * ONE)  # g·2/√π·exp(−x²)
frexp = unary(aten.frexp, forward=ONE, grad=ONE, note=SHIFT)  # mantissa and exponent, from the bits
asinh = unary(  # g / √(x² ± 1)
    aten.asinh, aten.acosh, forward=CURVE, grad=2 * ONE + 2 * DIVIDE, on_complex=(ARC, ARC_BACK), note=INVERSE
)
atanh = unary(  # g / (1 − x²)
    aten.atanh, forward=CURVE, grad=ONE + ONE + DIVIDE, on_complex=(TAN_ARC, TAN_ARC_BACK), note=INVERSE
)
gamma = unary(aten.lgamma, aten.digamma, forward=CURVE, grad=CURVE + ONE)  # g·ψ(x)
erfinv = unary(aten.erfinv, forward=CURVE, grad=CURVE + 3 * ONE, note=AGAIN)  # g·√π/2·exp(y²)
angle = unary(  # g·(−im, re) / |z|²
    aten.angle, forward=ONE, grad=ZERO, on_complex=(CURVE, 6 * ONE + DIVIDE), note=ZEROS
)
degrees = unary(aten.deg2rad, aten.rad2deg, forward=ONE, grad=ONE)
logit = unary(aten.logit, forward=ONE + DIVIDE + CURVE, grad=2 * ONE + DIVIDE, note=BOUNDS)
logit_backward = derivative(  # G·g·(2·x − 1) / (x·(1 − x))², with G the gradient of the gradient
    aten.logit_backward, function=logit, second=6 * ONE + DIVIDE
)

comparisons = comparison(
    aten.eq, aten.ne, aten.lt, aten.le, aten.gt, aten.ge, aten.isnan, aten.isinf, aten.isfinite,
    aten.logical_and, aten.logical_or, aten.logical_not, aten.logical_xor,
    aten.bitwise_and, aten.bitwise_or, aten.bitwise_not, aten.bitwise_xor,
    note=TRUTHS,
)  # fmt: skip


@rule(aten.allclose)
def allclose(self: Spec, other: Spec) -> Cost:
    """|x − y| ≤ a + r·|y|: a difference, two absolute values, a product, a sum and a comparison an element."""
    return Cost(Work(elementwise=6 * self.numel), {ALL_OPERANDS: ZERO})


@rule(aten._amp_foreach_non_finite_check_and_unscale_)
def unscale(self: Sequence[Spec]) -> Cost:
    """Gradients of a scaled loss: each is multiplied by the inverse of the scale and asked whether it is finite."""
    return Cost(Work(elementwise=2 * sum(tensor.numel for tensor in self)), {ALL_OPERANDS: ZERO})


@rule(aten._amp_update_scale_)
def update_scale(self: Spec) -> Cost:
    """The scale of a loss for the next step: its growth is counted and compared, and it is multiplied."""
    return Cost(Work(elementwise=3 * self.numel), {ALL_OPERANDS: ZERO})


@rule(aten.add)
def add(self: Any, other: Any, out: Spec, alpha: float = 1) -> Cost:
    """a + α·b: one addition, and one multiplication if α is not 1. Backward the gradient passes; α multiplies b's."""
    scaled = multiplications(out.numel, out) if alpha != 1 else ZERO
    grads = {"self": sum_to_size(out, self), "other": scaled + sum_to_size(out, other)}
    return Cost(additions(out.numel, out) + scaled, grads)


@rule(aten.sub)
def sub(self: Any, other: Any, out: Spec, alpha: float = 1) -> Cost:
    """a − α·b, as ``add``; the gradient of b changes its sign, one operation an element."""
    return add(self, other, out, alpha) + Cost(ZERO, {"other": additions(out.numel, out)})


@rule(aten.rsub)
def rsub(self: Any, other: Any, out: Spec, alpha: float = 1) -> Cost:
    """b − α·a: ``sub`` with its operands exchanged."""
    turned = sub(other, self, out, alpha)
    return Cost(turned.forward, {"self": turned.grads["other"], "other": turned.grads["self"]})


@rule(aten.mul)
def mul(self: Any, other: Any, out: Spec) -> Cost:
    """a·b. Each gradient is one multiplication by the other factor; a real factor times a complex one is 2.

    Of a real factor the gradient is the real part of a complex product, which autograd computes as a whole.
    """
    n = out.numel
    by_self, by_other = (
        multiplications(n, out) if _is_complex(operand) else additions(n, out) for operand in (self, other)
    )
    product = by_other if _is_complex(self) else additions(n, out)
    return Cost(product, {"self": by_other + sum_to_size(out, self), "other": by_self + sum_to_size(out, other)})


@rule(aten.div)
def div(self: Any, other: Any, out: Spec, rounding_mode: str | None = None) -> Cost:
    """a / b: one division. da = g / b; db = −g·(a/b)/b as autograd computes it: two divisions, a product and a sign.

    A complex division is 9 + 2: z·w̄ at 6, |w|² at 3, two divisions. A quotient that is rounded has no gradient;
    PyTorch mends the rounding of floats by its remainder, which is left out.
    """
    n = out.numel
    if rounding_mode is not None:
        rounded = Work(elementwise=n, division=n) if out.is_floating else Work(integer=2 * n)
        return Cost(rounded, {"self": ZERO, "other": ZERO})
    if not out.is_complex:
        quotient, other_grad = Work(division=n), Work(elementwise=2 * n, division=2 * n)
    elif _is_complex(other):
        quotient, other_grad = Work(elementwise=9 * n, division=2 * n), Work(elementwise=26 * n, division=4 * n)
    else:
        quotient, other_grad = Work(division=2 * n), Work(elementwise=8 * n, division=4 * n)
    return Cost(quotient, {"self": quotient + sum_to_size(out, self), "other": other_grad + sum_to_size(out, other)})


@rule(aten.remainder, aten.fmod)
def remainder(self: Any, other: Any, out: Spec) -> Cost:
    """a − ⌊a/b⌋·b: a division, a rounding, a multiply and a subtract; integers likewise, which
    PyTorch names as one operation. The gradient passes to a.

    Backward to b, −g·⌊a/b⌋: the division and the rounding again, a sign and a product.
    """
    n = out.numel
    work = Work(elementwise=3 * n, division=n) if out.is_floating else Work(integer=4 * n)
    other_grad = Work(elementwise=3 * n, division=n)
    return Cost(work, {"self": sum_to_size(out, self), "other": other_grad + sum_to_size(out, other)})


@rule(aten.floor_divide)
def floor_divide(out: Spec) -> Cost:
    """⌊a/b⌋: a division and a rounding; no gradient."""
    n = out.numel
    return Cost(Work(elementwise=n, division=n) if out.is_floating else Work(integer=2 * n), {ALL_OPERANDS: ZERO})


@rule(aten.pow)
def pow_(self: Any, exponent: Any, out: Spec) -> Cost:
    """xᵉ: squares and cubes by multiplying, roots as one division, everything else as one transcendental.

    dx = g·e·xᵉ⁻¹; the gradient of an exponent that is a tensor is g·y·log x. A power of an integer is ``integer``.
    PyTorch calls a power for cubes and for what is left of a root, and looks for 0⁰. Of complex numbers a power is
    e^(e·log x).
    """
    n = out.numel
    if out.is_complex:
        scaled = SCALED if isinstance(exponent, (int, float)) else PRODUCT
        grads = {
            "self": n * (PRODUCT + scaled + _power(exponent, minus=1, is_complex=True)) + sum_to_size(out, self),
            "exponent": n * (2 * PRODUCT + LOGARITHM) + sum_to_size(out, exponent),
        }
        return Cost(n * _power(exponent, is_complex=True), grads)
    if not out.is_floating:
        return Cost(Work(integer=n * sum(_power(exponent).counts())))
    grads = {
        "self": Work(elementwise=2 * n) + n * _power(exponent, minus=1) + sum_to_size(out, self),
        "exponent": Work(elementwise=2 * n, transcendental=n) + sum_to_size(out, exponent),
    }
    return Cost(n * _power(exponent), grads)


@rule(aten.polar)
def polar(abs: Spec, angle: Spec, out: Spec) -> Cost:
    """r·(cos θ + i·sin θ): two functions, two products. Backward two products and a sum for each, cos and sin kept.

    An angle that is broadcast is taken again for each. PyTorch's gradient is by the rules of complex numbers, the sign
    of the result and products of four real ones each, which is left out.
    """
    n = out.numel
    turned = Work(elementwise=3 * n)
    grads = {"abs": turned + _back(out, abs), "angle": turned + _back(out, angle)}
    return Cost(Work(elementwise=2 * n, transcendental=2 * n), grads)


@rule(aten.atan2)
def atan2(self: Spec, other: Spec, out: Spec) -> Cost:
    """The angle of (x, y): one function. Backward g / (x² + y²) once, then a product for each, and a sign for x.

    PyTorch looks for 0 before it divides, which is left out.
    """
    n = out.numel
    grads = {
        "self|other": Work(elementwise=3 * n, division=n),
        "self": Work(elementwise=n) + sum_to_size(out, self),
        "other": Work(elementwise=2 * n) + sum_to_size(out, other),
    }
    return Cost(Work(transcendental=n), grads)


@rule(aten.linalg_cross)
def cross(self: Spec, other: Spec, out: Spec) -> Cost:
    """a × b: two products and a difference an element; each gradient is a cross product too."""
    n = out.numel
    work = multiplications(2 * n, out) + additions(n, out)
    return Cost(work, {"self": work + sum_to_size(out, self), "other": work + sum_to_size(out, other)})


@rule(aten.maximum, aten.minimum, aten.fmax, aten.fmin)
def maximum(self: Spec, other: Spec, out: Spec) -> Cost:
    """One comparison an element; backward a comparison and a selection for each operand.

    PyTorch shares the gradient where both are the same, two comparisons and a division more; that is left out.
    """
    chosen = Work(elementwise=2 * out.numel)
    grads = {"self": chosen + sum_to_size(out, self), "other": chosen + sum_to_size(out, other)}
    return Cost(additions(out.numel, out), grads)


@rule("aten.where.self")
def where(out: Spec, self: Any = None, other: Any = None) -> Cost:
    """One selection an element, and one for each gradient."""
    chosen = additions(out.numel, out)
    grads = {"self": chosen + sum_to_size(out, self), "other": chosen + sum_to_size(out, other), "condition": ZERO}
    return Cost(chosen, grads)


@rule(aten.masked_fill, aten.tril, aten.triu)
def masked_fill(self: Spec, out: Spec, value: Any = None) -> Cost:
    """One selection an element, and one for each gradient."""
    chosen = additions(out.numel, out)
    return Cost(chosen, {"self": chosen + sum_to_size(out, self), "value": chosen + sum_to_size(out, value)})


@rule(aten.addcmul)
def addcmul(self: Spec, tensor1: Spec, tensor2: Spec, out: Spec) -> Cost:
    """a + v·b·c: two multiplications and an addition; two multiplications for each factor's gradient."""
    n = out.numel
    factor = multiplications(2 * n, out)
    return Cost(
        factor + additions(n, out),
        {
            "self": sum_to_size(out, self),
            "tensor1": factor + sum_to_size(out, tensor1),
            "tensor2": factor + sum_to_size(out, tensor2),
        },
    )


@rule(aten.addcdiv)
def addcdiv(self: Spec, tensor1: Spec, tensor2: Spec, out: Spec) -> Cost:
    """a + v·b/c: a product, a division and an addition; v·g/c for b, and −v·g·b/c² for c as two divisions.

    PyTorch divides once, by c², and multiplies more.
    """
    n = out.numel
    return Cost(
        Work(elementwise=2 * n, division=n),
        {
            "self": sum_to_size(out, self),
            "tensor1": Work(elementwise=n, division=n) + sum_to_size(out, tensor1),
            "tensor2": Work(elementwise=3 * n, division=2 * n) + sum_to_size(out, tensor2),
        },
    )


@rule(aten.lerp)
def lerp(self: Spec, end: Spec, weight: Any, out: Spec) -> Cost:
    """a + w·(b − a): three operations; backward 1 − w and a product for a, a product for b, two for w.

    PyTorch has a second formula for |w| ≥ ½, for the sake of rounding, of which the choice is left out.
    """
    n = out.numel
    return Cost(
        Work(elementwise=3 * n),
        {
            "self": Work(elementwise=2 * n) + sum_to_size(out, self),
            "end": Work(elementwise=n) + sum_to_size(out, end),
            "weight": Work(elementwise=2 * n) + sum_to_size(out, weight),
        },
    )


def _back(out: Spec, operand: Spec) -> Work:
    return Work(accumulate=out.numel - operand.numel)


def _is_complex(factor: Any) -> bool:
    return factor.is_complex if isinstance(factor, Spec) else isinstance(factor, complex)


def _power(exponent: Any, minus: int = 0, *, is_complex: bool = False) -> Work:
    e = exponent - minus if isinstance(exponent, (int, float)) else None
    if e in (0, 1):
        return ZERO
    if e in (2, 3):
        return (int(e) - 1) * (PRODUCT if is_complex else ONE)
    if e in (0.5, -0.5, -1):
        return {0.5: ROOT, -0.5: ROOT + INVERSE_OF, -1: INVERSE_OF}[e] if is_complex else DIVIDE
    return LOGARITHM + PRODUCT + EXPONENTIAL if is_complex else CURVE


@rule(aten.xlogy)
def xlogy(self: Any, other: Any, out: Spec) -> Cost:
    """x·log y: a log and a product; dx = g·log y, dy = g·x / y. That x is 0 or y NaN is looked for by PyTorch."""
    n = out.numel
    return Cost(
        Work(elementwise=n, transcendental=n),
        {
            "self": Work(elementwise=n, transcendental=n) + sum_to_size(out, self),
            "other": Work(elementwise=n, division=n) + sum_to_size(out, other),
        },
    )
