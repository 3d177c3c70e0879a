"""Gradient flow: which gradients are computed, and how many are summed at each tensor."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from graphflops import Report, analyze

ROWS, A, B, C = 5, 3, 4, 2


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(A, B), nn.ReLU(), nn.Linear(B, C))


def macs(report: Report) -> tuple[int, int]:
    return int(report.work("dgrad").macs), int(report.work("wgrad").macs)


def step(model: nn.Module, *, input_gradient: bool = False) -> Report:
    return analyze(model, (torch.zeros(ROWS, A, requires_grad=input_gradient),))


FIRST, SECOND = ROWS * A * B, ROWS * B * C


class TestWhichGradients:
    def test_the_first_layer_has_no_dgrad(self) -> None:
        assert macs(step(chain())) == (SECOND, FIRST + SECOND)

    def test_the_first_layer_has_dgrad_if_the_input_requires_grad(self) -> None:
        assert macs(step(chain(), input_gradient=True)) == (FIRST + SECOND, FIRST + SECOND)

    def test_a_frozen_model_has_no_backward(self) -> None:
        report = step(chain().requires_grad_(False))
        assert report.backward == report.recompute == report.optimizer == 0
        assert report.under("exact").backward == 0
        assert report.forward > 0

    def test_a_trainable_head_on_a_frozen_trunk(self) -> None:
        model = chain()
        model[0].requires_grad_(False)
        report = step(model)
        assert macs(report) == (0, SECOND)
        assert report.optimizer == 15 * (B * C + C)

    def test_a_frozen_layer_propagates_gradients(self) -> None:
        model = chain()
        model[2].requires_grad_(False)
        assert macs(step(model)) == (SECOND, FIRST)

    def test_a_bias_alone(self) -> None:
        layer = nn.Linear(A, B)
        layer.weight.requires_grad_(False)
        report = step(layer)
        assert macs(report) == (0, 0)
        assert report.work("wgrad").accumulate == ROWS * B

    def test_a_detached_branch_has_no_gradients(self) -> None:
        first, second = nn.Linear(A, B), nn.Linear(B, C)

        class Detached(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = first, second

            def forward(self, x: Tensor) -> Tensor:
                return self.second(self.first(x).detach())

        assert macs(step(Detached())) == (0, SECOND)

    def test_gradients_end_at_a_detached_leaf(self) -> None:
        class Leaf(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Linear(A, B), nn.Linear(B, C)

            def forward(self, x: Tensor) -> Tensor:
                return self.second(self.first(x).detach().requires_grad_())

        assert macs(step(Leaf())) == (SECOND, SECOND)

    def test_a_checkpointed_region_has_the_same_gradients(self) -> None:
        region = chain()
        for reentrant in (True, False):
            report = analyze(
                lambda x, reentrant=reentrant: checkpoint(region, x, use_reentrant=reentrant),
                (torch.zeros(ROWS, A, requires_grad=True),),
            )
            assert macs(report) == (FIRST + SECOND, FIRST + SECOND)

    def test_a_parameter_with_the_name_of_an_input_or_of_an_operation(self) -> None:
        class Named(nn.Module):
            def __init__(self, first: str, second: str) -> None:
                super().__init__()
                self.names = first, second
                for name in self.names:
                    self.register_parameter(name, nn.Parameter(torch.zeros(A, A)))

            def forward(self, x: Tensor) -> Tensor:
                first, second = (getattr(self, name) for name in self.names)
                return x @ first @ second

        product = ROWS * A * A
        for names in (("x", "mm"), ("p", "q")):
            report = step(Named(*names))
            assert report.work("forward").macs == 2 * product
            assert macs(report) == (product, 2 * product)
            assert report.optimizer == 15 * 2 * A * A

    def test_parameters_of_modules_that_a_function_calls(self) -> None:
        first, second = nn.Linear(A, B), nn.Linear(B, C)
        report = analyze(lambda x: second(first(x)), (torch.zeros(ROWS, A),))
        assert macs(report) == (SECOND, FIRST + SECOND)
        assert sorted(report.parameters.values()) == sorted([A * B, B, B * C, C])
        assert report.optimizer == 15 * (A * B + B + B * C + C)
        assert report.coverage.ops == 2

    def test_both_branches_of_where_have_gradients(self) -> None:
        def model(mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return torch.where(mask, x @ x, y @ y)

        x, y = (torch.zeros(A, A, requires_grad=True) for _ in range(2))
        report = analyze(model, (torch.zeros(A, A, dtype=torch.bool), x, y))
        assert macs(report) == (4 * A * A * A, 0)

    def test_a_no_grad_region_has_no_gradients(self) -> None:
        class Region(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Linear(A, B), nn.Linear(B, C)

            def forward(self, x: Tensor) -> Tensor:
                with torch.no_grad():
                    x = self.first(x)
                return self.second(x)

        assert macs(step(Region())) == (0, SECOND)

    def test_a_layer_without_effect_on_the_output_has_no_gradients(self) -> None:
        class Dead(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.dead = nn.Linear(A, B), nn.Linear(A, B)

            def forward(self, x: Tensor) -> Tensor:
                self.dead(x)
                return self.used(x)

        report = step(Dead())
        assert report.work("forward").macs == 2 * FIRST, "its forward runs"
        assert macs(report) == (0, FIRST)
        assert report.optimizer == 15 * (A * B + B)

    def test_a_constant_has_no_gradient(self) -> None:
        constant = torch.zeros(B, ROWS)
        report = analyze(lambda x: constant @ x, (torch.zeros(ROWS, A, requires_grad=True),))
        assert macs(report) == (B * ROWS * A, 0)

    def test_without_training_there_is_only_forward(self) -> None:
        report = analyze(chain(), (torch.zeros(ROWS, A),), training=False)
        assert report.total == report.forward > 0

    def test_lora(self) -> None:
        rank = 1

        class LoRA(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.base = nn.Linear(A, B).requires_grad_(False)
                self.down, self.up = nn.Linear(A, rank, bias=False), nn.Linear(rank, B, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                return self.base(x) + self.up(self.down(x))

        down, up = ROWS * A * rank, ROWS * rank * B
        assert macs(step(LoRA())) == (up, down + up)


class TestFanIn:
    def fan_in(self, report: Report) -> int:
        entries = [entry for entry in report.entries if entry.kind == "fan-in"]
        return sum(int(work.accumulate) for entry in entries for work in entry.work.values())

    @pytest.mark.parametrize(("readers", "additions"), [(1, 0), (2, 1), (5, 4)])
    def test_each_reader_beyond_the_first_adds_once(self, readers: int, additions: int) -> None:
        def model(x: Tensor) -> list[Tensor]:
            return [x.neg() for _ in range(readers)]

        assert self.fan_in(analyze(model, (torch.zeros(7, requires_grad=True),))) == additions * 7

    def test_an_operand_that_is_used_twice_counts_twice(self) -> None:
        report = analyze(lambda x: x @ x, (torch.zeros(3, 3, requires_grad=True),))
        assert macs(report) == (2 * 27, 0)
        assert self.fan_in(report) == 9

    def test_the_gradients_of_a_tied_weight_are_summed(self) -> None:
        model = nn.Sequential(nn.Linear(A, A, bias=False), nn.Linear(A, A, bias=False))
        model[1].weight = model[0].weight
        report = step(model)
        assert self.fan_in(report) == A * A
        assert report.optimizer == 15 * A * A

    def test_a_reader_without_effect_on_the_output_adds_nothing(self) -> None:
        def model(x: Tensor) -> Tensor:
            x.neg()
            x.detach().neg()
            return x.neg()

        assert self.fan_in(analyze(model, (torch.zeros(7, requires_grad=True),))) == 0

    def test_the_parts_of_a_split_are_separate(self) -> None:
        def model(x: Tensor) -> list[Tensor]:
            first, second = x.chunk(2)
            return [first.neg(), first.exp(), second.neg()]

        assert self.fan_in(analyze(model, (torch.zeros(8, requires_grad=True),))) == 4


class EngineAdditions(TorchDispatchMode):
    """Counts the elements of the additions that autograd's engine runs, while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.add, torch.ops.aten.add_):
            self.elements += out.numel()
        return out


class TestAgainstTheAutogradEngine:
    """The additions that the engine runs are the fan-in; no other additions are in the backward of these models."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(A, A) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + layer(x) * layer(x).relu()
            return x

    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.ones(A)), nn.Linear(A, A)

        def forward(self, x: Tensor) -> Tensor:
            parts = (self.layer(x) * self.scale).chunk(A, dim=-1)
            return torch.cat([parts[0], parts[0].exp(), *parts], dim=-1) * (x.T @ x).sum() * self.scale[0]

    @pytest.mark.parametrize("model", [Residual(), Reused()], ids=["residual", "reused"])
    @pytest.mark.parametrize("input_gradient", [True, False])
    def test_fan_in_is_the_number_of_additions_of_the_engine(self, model: nn.Module, input_gradient: bool) -> None:
        x = torch.ones(ROWS, A, requires_grad=input_gradient)
        report = analyze(model, (x,))
        out = model(x)
        leaves = [*model.parameters(), *([x] if input_gradient else [])]
        with EngineAdditions() as engine:
            torch.autograd.grad(out, leaves, torch.ones_like(out))
        assert TestFanIn().fan_in(report) == engine.elements > 0
