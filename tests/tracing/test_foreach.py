"""Operators on lists of tensors are loops of the operator on one, with the same gradients and in-place writes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import Report, analyze

Lists = Callable[[list[Tensor]], Any]


def report_of(run: Lists) -> Report:
    x, y = (torch.zeros(shape, requires_grad=True) for shape in ((3, 4), (5,)))
    return analyze(lambda x, y: run([x, y]), (x, y), optimizer=None)


CASES: dict[str, tuple[Lists, Lists]] = {
    "a product": (lambda xs: torch._foreach_mul(xs, xs), lambda xs: [x * x for x in xs]),
    "with a number": (lambda xs: torch._foreach_mul(xs, 2.0), lambda xs: [x * 2.0 for x in xs]),
    "with numbers": (lambda xs: torch._foreach_div(xs, [2.0, 3.0]), lambda xs: [x / 2.0 for x in xs]),
    "scaled": (lambda xs: torch._foreach_add(xs, xs, alpha=2), lambda xs: [torch.add(x, x, alpha=2) for x in xs]),
    "interpolated": (lambda xs: torch._foreach_lerp(xs, xs, 0.5), lambda xs: [torch.lerp(x, x, 0.5) for x in xs]),
    "three": (
        lambda xs: torch._foreach_addcdiv(xs, xs, xs, value=0.5),
        lambda xs: [torch.addcdiv(x, x, x, value=0.5) for x in xs],
    ),
    "norms": (lambda xs: torch._foreach_norm(xs), lambda xs: [torch.linalg.vector_norm(x) for x in xs]),
    "a bound": (lambda xs: torch._foreach_maximum(xs, 0.5), lambda xs: [x.clamp_min(0.5) for x in xs]),
    "a function": (lambda xs: torch._foreach_exp(xs), lambda xs: [x.exp() for x in xs]),
    "by the operator's name": (lambda xs: torch.ops.aten._foreach_neg(xs), lambda xs: [-x for x in xs]),
}


@pytest.mark.parametrize("name", CASES)
def test_is_the_loop_of_the_operator_on_one(name: str) -> None:
    at_once, one_by_one = map(report_of, CASES[name])
    assert not at_once.unknown
    for phase in ("forward", "backward"):
        assert at_once.by_operator(phase) == one_by_one.by_operator(phase)
    assert at_once.forward > 0


def test_in_place_writes_are_read_afterwards() -> None:
    def run(xs: list[Tensor], write: Callable[[list[Tensor], list[Tensor]], Any]) -> Any:
        results = [x.exp() for x in xs]
        write(results, xs)
        return results

    at_once = report_of(lambda xs: run(xs, torch._foreach_mul_))
    one_by_one = report_of(lambda xs: run(xs, lambda ms, xs: [m.mul_(x) for m, x in zip(ms, xs, strict=True)]))
    assert at_once.by_operator("backward") == one_by_one.by_operator("backward")
    assert at_once.backward > report_of(lambda xs: [x.exp() for x in xs]).backward


def test_an_update_inside_of_a_model_is_known() -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            names, weights = zip(*self.layer.named_parameters(), strict=True)
            loss = self.layer(x).square().sum()
            moved = torch._foreach_sub(weights, torch._foreach_mul(torch.autograd.grad(loss, weights), 0.1))
            return torch.func.functional_call(self.layer, dict(zip(names, moved, strict=True)), (x,))

    report = analyze(Adapted(), (torch.zeros(3, 4),), optimizer=None)
    assert not report.unknown
    assert report.by_operator()["sub"] == 4 * 4 + 4
