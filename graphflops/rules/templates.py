"""Laws that many operators obey, so that a rule for one of them is one line of a table.

    exp = unary(aten.exp, Work(transcendental=1), grad=Work(elementwise=1))
    transpose = moves("a view", aten.t, aten.transpose)

Works are given for one element; what dtype and broadcasting make of them is said here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graphflops.core.costs import ZERO, Cost, Work, covers
from graphflops.core.errors import NotSupported
from graphflops.core.sizes import Size, Spec
from graphflops.rules.rule import Rule, template
from graphflops.rules.targets import Target, qualified_name

ALL_OPERANDS = "*"
"""the key of ``Cost.grads`` that speaks of every operand"""


def multiply_adds(count: Size, of: Spec) -> Work:
    """Multiply-adds on elements of ``of``: a complex one is 4 real ones (8 FLOPs), one of integers is one as well."""
    return Work(macs=4 * count if of.is_complex else count)


def additions(count: Size, of: Spec) -> Work:
    """Additions, comparisons or selections on elements of ``of``: a complex one is 2 real ones."""
    if of.is_complex:
        return Work(elementwise=2 * count)
    return Work(elementwise=count) if of.is_floating else Work(integer=count)


def multiplications(count: Size, of: Spec) -> Work:
    """Multiplications on elements of ``of``: a complex one is 4 multiplications and 2 additions."""
    if of.is_complex:
        return Work(elementwise=6 * count)
    return Work(elementwise=count) if of.is_floating else Work(integer=count)


def quantize_work(elements: Size, rows: Size) -> Work:
    """The work of making integers of elements: |x|, its maximum, x/s and a rounding; and the scale s of each row."""
    return Work(elementwise=3 * elements + rows, division=elements + rows)


def dequantize_work(elements: Size, rows: Size) -> Work:
    """The work of making what integers stand for, of elements: the integers, times their scale."""
    return quantize_work(elements, rows) + Work(elementwise=elements)


def sum_to_size(out: Spec, operand: Any) -> Work:
    """What broadcasting copied is summed in the gradient: one addition for each copy beyond the first."""
    if not isinstance(operand, Spec):
        return ZERO
    if out.numel == 0:
        return ZERO  # of what has one element a broadcast to none makes less, and there is nothing to sum
    return Work(accumulate=(out.numel - operand.numel) * (2 if out.is_complex else 1))


def unary(
    *targets: Target, each: Work, grad: Work, on_complex: tuple[Work, Work] | None = None, note: str = ""
) -> Rule:
    """An elementwise function of ``self``: work of an element forward, and of an element of the gradient.

    ``note`` says what single operations PyTorch runs beyond that.
    """

    def formula(self: Spec) -> Cost:
        forward, backward = each, grad
        if self.is_complex:
            if on_complex is None:
                raise NotSupported(f"{qualified_name(targets[0])} of complex numbers has no price")
            forward, backward = on_complex
        if not (self.is_floating or forward.transcendental or forward.division):
            forward = Work(integer=sum(forward.counts()))
        return Cost(self.numel * forward, {"self": self.numel * backward})

    return template(_name(targets), _noted("elementwise: each element of self the same", note), targets, formula)


def comparison(*targets: Target, note: str = "") -> Rule:
    """Comparisons and logic: one operation for each element of the output, and no gradient."""

    def formula(self: Spec, out: Spec) -> Cost:
        return Cost(additions(out.numel, self), {ALL_OPERANDS: ZERO})

    about = "one comparison for each element; a truth value has no gradient"
    return template(_name(targets), _noted(about, note), targets, formula)


def free(reason: str, *targets: Target) -> Rule:
    """What moves or names data and computes nothing, forward and backward: zero, for the reason given."""

    def formula() -> Cost:
        return Cost(grads={ALL_OPERANDS: ZERO})

    return template(_name(targets), f"zero: {reason}", targets, formula)


def gradient(cost: Cost, *operands: str) -> Work:
    """The work of these operands' gradients, as a cost says; what they share is done once."""
    return sum((work for key, work in cost.grads.items() if any(covers(key, name) for name in operands)), ZERO)


def operands_in_mask(names: tuple[str, ...], output_mask: Sequence[bool]) -> tuple[str, ...]:
    """The operands whose gradients an operator is asked for.

    >>> operands_in_mask(("input", "weight", "bias"), (True, False, True))
    ('input', 'bias')
    """
    return tuple(name for name, asked in zip(names, output_mask, strict=False) if asked)


def derivative(
    *targets: Target, of: Rule, second: Work = ZERO, upstream: str = "grad_output", point: str = "self"
) -> Rule:
    """The gradient of an elementwise function as an operator of its own, at the work that rule ``of`` says of it.

    It is linear in the gradient that comes from upstream, whose own gradient costs as much again; ``second`` is the
    work of an element of the gradient of the point at which it is taken.
    """

    def formula(out: Spec) -> Cost:
        first = gradient(of.cost(out), "self")
        return Cost(
            first, {upstream: first, point: out.numel * (second if not out.is_complex else _on_complex(second))}
        )

    about = f"the gradient that rule {of.name} speaks of, run by itself; its own gradient upstream is the same again"
    return template(_name(targets), about, targets, formula)


def _on_complex(work: Work) -> Work:
    """Products of real numbers as such of complex ones."""
    return replace(work, elementwise=6 * work.elementwise)


def ceil_log2(size: Size) -> Size:
    """⌈log₂ n⌉, exact for numbers of any length; of a symbol as a formula that is a whole number wherever it is put in.

    >>> [ceil_log2(n) for n in (1, 2, 3, 1024, 1025)]
    [0, 1, 2, 10, 11]
    """
    if isinstance(size, int):
        return (size - 1).bit_length()
    import sympy

    return sympy.ceiling(sympy.log(size, 2))


def _noted(about: str, note: str) -> str:
    return f"{about}. {note}" if note else about


def _name(targets: tuple[Target, ...]) -> str:
    return qualified_name(targets[0]).split(".")[-1]
