"""An ``apply`` of an autograd Function that was looked up before the analysis is intercepted too."""

from typing import Any

import pytest
import torch

from graphflops import Cost, Report, Spec, Work, analyze, rule


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        return input @ weight

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient


class WithSetup(torch.autograd.Function):
    @staticmethod
    def forward(input: torch.Tensor, weight: torch.Tensor, shift: int = 2) -> Any:
        product = input @ weight
        return product, product.argmax(-1), product + shift

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.mark_non_differentiable(output[1], output[2])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *kwargs: Any) -> Any:
        x, weight = ctx.saved_tensors
        return gradient @ weight.t(), x.t() @ gradient, None


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor) -> torch.Tensor:
        ctx.mark_dirty(input)
        return input.mul_(2)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 2


product, with_setup, doubled = Product.apply, WithSetup.apply, Doubled.apply


class Model(torch.nn.Module):
    def __init__(self, early: bool) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(torch.ones(3, 4))
        self.second = torch.nn.Parameter(torch.ones(4, 5))
        self.early = early

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.early:
            result = doubled(product(input, self.first))
            result, _, fixed = with_setup(result, self.second, 3)
        else:
            result = Doubled.apply(Product.apply(input, self.first))
            result, _, fixed = WithSetup.apply(result, self.second, 3)
        assert not fixed.requires_grad
        return result, fixed


@rule(Product, WithSetup)
def matmul(input: Spec, weight: Spec) -> Cost:
    """N·K·M forward, and the same for either gradient."""
    macs = Work(macs=input.shape[0] * input.shape[1] * weight.shape[1])
    return Cost(macs, {"input": macs, "weight": macs})


@pytest.fixture(scope="module")
def reports() -> tuple[Report, Report]:
    early, late = (analyze(Model(is_early), (torch.zeros(2, 3),), rules=[matmul]) for is_early in (True, False))
    return early, late


def test_its_rule_is_found(reports: tuple[Report, Report]) -> None:
    early, _ = reports
    of_doubled = 2 * 4  # by its own code
    assert early.forward == 2 * 2 * 3 * 4 + 2 * 2 * 4 * 5 + of_doubled


def test_all_numbers_are_the_same(reports: tuple[Report, Report]) -> None:
    early, late = reports
    assert (early.forward, early.backward) == (late.forward, late.backward)
    assert early.backward > 0
    assert str(early.coverage) == str(late.coverage)


def test_apply_runs_as_ever_afterwards() -> None:
    x = torch.ones(1, 3, requires_grad=True)
    product(x, torch.ones(3, 2)).sum().backward()
    assert x.grad.tolist() == [[2.0, 2.0, 2.0]]
