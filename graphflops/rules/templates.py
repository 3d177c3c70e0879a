"""Templates of rules for elementwise and other simple operators, so that such a rule is one line of a table.

    exp = unary(aten.exp, Work(transcendental=1), grad=Work(elementwise=1))
    transpose = free("a view", aten.t, aten.transpose)

Work is given for one element; the templates multiply it by the number of elements and handle dtypes and broadcasting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graphflops.core.costs import ZERO, Cost, Work, covers
from graphflops.core.errors import NotSupported
from graphflops.core.retired import renamed_arguments
from graphflops.core.sizes import Size, Spec
from graphflops.rules.rule import Rule, template
from graphflops.rules.targets import Target, qualified_name

ALL_OPERANDS = "*"
"""the key of ``Cost.grads`` for the gradients of all operands"""


@renamed_arguments(of="operand")
def multiply_adds(count: Size, operand: Spec) -> Work:
    """Multiply-adds on elements of ``operand``: a complex one is 4 real ones, one of integers is a MAC too."""
    return Work(macs=4 * count if operand.is_complex else count)


@renamed_arguments(of="operand")
def additions(count: Size, operand: Spec) -> Work:
    """Additions, comparisons or selections on elements of ``operand``: a complex one is 2 real ones."""
    if operand.is_complex:
        return Work(elementwise=2 * count)
    return Work(elementwise=count) if operand.is_floating else Work(integer=count)


@renamed_arguments(of="operand")
def multiplications(count: Size, operand: Spec) -> Work:
    """Multiplications on elements of ``operand``: a complex one is 4 multiplications and 2 additions."""
    if operand.is_complex:
        return Work(elementwise=6 * count)
    return Work(elementwise=count) if operand.is_floating else Work(integer=count)


def quantize_work(elements: Size, rows: Size) -> Work:
    """The work of quantization: |x|, its maximum, x/s and rounding for each element, and the scale s of each row."""
    return Work(elementwise=3 * elements + rows, division=elements + rows)


def dequantize_work(elements: Size, rows: Size) -> Work:
    """The work of quantization followed by dequantization: as ``quantize_work``, and a product with the scale."""
    return quantize_work(elements, rows) + Work(elementwise=elements)


def sum_to_size(out: Spec, operand: Any) -> Work:
    """The sum of a gradient over broadcast dimensions: one addition for each copy beyond the first."""
    if not isinstance(operand, Spec):
        return ZERO
    if out.numel == 0:
        return ZERO  # one element broadcast to none: there is nothing to sum
    return Work(accumulate=(out.numel - operand.numel) * (2 if out.is_complex else 1))


@renamed_arguments(each="forward")
def unary(
    *targets: Target, forward: Work, grad: Work, on_complex: tuple[Work, Work] | None = None, note: str = ""
) -> Rule:
    """An elementwise function of ``self``, by its work for one element: ``forward`` and of the gradient (``grad``).

    ``on_complex`` are both for complex numbers. ``note`` names the further operations that PyTorch runs.
    """

    def formula(self: Spec) -> Cost:
        work, backward = forward, grad
        if self.is_complex:
            if on_complex is None:
                raise NotSupported(f"the rule of {qualified_name(targets[0])} does not cover complex numbers")
            work, backward = on_complex
        if not (self.is_floating or work.transcendental or work.division):
            work = Work(integer=sum(work.counts()))
        return Cost(self.numel * work, {"self": self.numel * backward})

    return template(_name(targets), _with_note("elementwise: each element of self the same", note), targets, formula)


def comparison(*targets: Target, note: str = "") -> Rule:
    """Comparisons and logic: one operation for each element of the output, and no gradient."""

    def formula(self: Spec, out: Spec) -> Cost:
        return Cost(additions(out.numel, self), {ALL_OPERANDS: ZERO})

    about = "one comparison for each element; a bool has no gradient"
    return template(_name(targets), _with_note(about, note), targets, formula)


def free(reason: str, *targets: Target) -> Rule:
    """An operation without FLOPs, forward and backward, for the reason given: a view, a copy, the creation of data."""

    def formula() -> Cost:
        return Cost(grads={ALL_OPERANDS: ZERO})

    return template(_name(targets), f"zero: {reason}", targets, formula)


def gradient(cost: Cost, *operands: str) -> Work:
    """The work of the gradients of some operands in a cost; work that they share is counted once."""
    return sum((work for key, work in cost.grads.items() if any(covers(key, name) for name in operands)), ZERO)


def operands_in_mask(names: tuple[str, ...], output_mask: Sequence[bool]) -> tuple[str, ...]:
    """The operands whose gradients a backward operator computes.

    >>> operands_in_mask(("input", "weight", "bias"), (True, False, True))
    ('input', 'bias')
    """
    return tuple(name for name, in_mask in zip(names, output_mask, strict=False) if in_mask)


@renamed_arguments(of="function")
def derivative(
    *targets: Target, function: Rule, second: Work = ZERO, upstream: str = "grad_output", point: str = "self"
) -> Rule:
    """The gradient of an elementwise function as an operator of its own, at the gradient's work in the rule of that
    ``function``.

    It is linear in the upstream gradient, whose own gradient costs the same. ``second`` is the work, for one element,
    of the gradient with respect to ``point``, the operand at which the derivative is taken.
    """

    def formula(out: Spec) -> Cost:
        first = gradient(function.cost(out), "self")
        return Cost(
            first, {upstream: first, point: out.numel * (second if not out.is_complex else _on_complex(second))}
        )

    about = (
        f"the gradient of rule {function.name}, run as an operator; the gradient of the upstream gradient is the same"
    )
    return template(_name(targets), about, targets, formula)


def _on_complex(work: Work) -> Work:
    """Work with real products replaced by complex ones."""
    return replace(work, elementwise=6 * work.elementwise)


def ceil_log2(size: Size) -> Size:
    """⌈log₂ n⌉, exact for integers of any length; of a symbol a formula.

    >>> [ceil_log2(n) for n in (1, 2, 3, 1024, 1025)]
    [0, 1, 2, 10, 11]
    """
    if isinstance(size, int):
        return (size - 1).bit_length()
    import sympy

    return sympy.ceiling(sympy.log(size, 2))


def _with_note(about: str, note: str) -> str:
    return f"{about}. {note}" if note else about


def _name(targets: tuple[Target, ...]) -> str:
    return qualified_name(targets[0]).split(".")[-1]
