"""Functions of complex numbers against their formulas in real ones, on counting numbers, values included."""

import cmath
from collections.abc import Callable
from typing import Any

import counting_numbers as c
import pytest
import torch
from cases import complexes, cost_of, costs_of
from counting_numbers import Real, tallied, tally_of

from graphflops import Work

Pair = tuple[Any, Any]
AT = (0.3, -0.8)


def times(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def inverse(z: Pair) -> Pair:
    square = z[0] * z[0] + z[1] * z[1]
    return z[0] / square, Real(-float(z[1])) / square  # a conjugate is a view


def exp(z: Pair) -> Pair:
    size = c.exp(z[0])
    return size * c.cos(z[1]), size * c.sin(z[1])


def log(z: Pair) -> Pair:
    angle = c._function(lambda _: cmath.phase(complex(float(z[0]), float(z[1]))), "transcendental")
    return 0.5 * c.log(z[0] * z[0] + z[1] * z[1]), angle(z[1])


def sqrt(z: Pair) -> Pair:
    size = c.sqrt(z[0] * z[0] + z[1] * z[1])
    real = c.sqrt((size + z[0]) * 0.5)
    return real, z[1] / (2 * real)


def sigmoid(z: Pair) -> Pair:
    shrunk = exp((-z[0], -z[1]))
    return inverse((1 + shrunk[0], shrunk[1]))


def tanh(z: Pair) -> Pair:
    x, y = 2 * z[0], 2 * z[1]
    below = c.cosh(x) + c.cos(y)
    return c.sinh(x) / below, c.sin(y) / below


FORWARD: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[Pair], Pair]]] = {
    "exp": (torch.exp, exp),
    "log": (torch.log, log),
    "sqrt": (torch.sqrt, sqrt),
    "rsqrt": (torch.rsqrt, lambda z: inverse(sqrt(z))),
    "reciprocal": (torch.reciprocal, inverse),
    "sigmoid": (torch.sigmoid, sigmoid),
    "tanh": (torch.tanh, tanh),
    "sin": (torch.sin, lambda z: (c.sin(z[0]) * c.cosh(z[1]), c.cos(z[0]) * c.sinh(z[1]))),
    "cosh": (torch.cosh, lambda z: (c.cosh(z[0]) * c.cos(z[1]), c.sinh(z[0]) * c.sin(z[1]))),
    "square": (lambda z: z**2, lambda z: times(z, z)),
    "cube": (lambda z: z**3, lambda z: times(times(z, z), z)),
    "power": (lambda z: z**2.7, lambda z: exp(times((2.7 + Real(0) * 0, Real(0)), log(z)))),
    "log2": (torch.log2, lambda z: tuple(part * 1.4426950408889634 for part in log(z))),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", FORWARD)
def test_is_its_formula_in_real_numbers(name: str) -> None:
    function, formula = FORWARD[name]
    (real, imag), tally = tallied(formula, (Real(AT[0]), Real(AT[1])))
    expected = function(torch.complex(*(torch.tensor(number, dtype=torch.float64) for number in AT)))
    assert complex(float(real), float(imag)) == pytest.approx(expected.item())
    if name == "power":
        tally["elementwise"] -= 2  # what made the exponent a counting number
    assert tally_of(cost_of(function, complexes(1)).forward) == tally


@pytest.mark.parametrize("name", FORWARD)
def test_has_a_gradient_that_multiplies(name: str) -> None:
    (cost,) = costs_of(FORWARD[name][0], complexes(5))
    assert cost.grads["self"].elementwise >= 5 * 6


def test_a_norm_squares_both_parts() -> None:
    """√Σ re² + im²: two squares and two additions an element; backward g·z/y, two products and two quotients."""
    cost = cost_of(torch.linalg.vector_norm, complexes(7))
    assert (cost.forward, cost.grads["self"]) == (Work(elementwise=28, division=1), Work(elementwise=14, division=14))
