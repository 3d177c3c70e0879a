"""Models with control-flow operators, torch.func transforms, autograd.grad, conversions and packed sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from graphflops import analyze
from graphflops.analysis.mac_counter import MacCount, count_macs

D = 8
ROWS = 16
LAYER = nn.Linear(D, D)
PRODUCT = ROWS * D * D


def branches(x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda x: LAYER(LAYER(x)), lambda x: x.clone(), (x,))


def branch_of_a_constant(x: Tensor) -> Tensor:
    return torch.cond(torch.tensor(1) > 2, lambda x: x.clone(), lambda x: LAYER(x), (x,))


def recurrence(x: Tensor) -> Any:
    def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        state = LAYER(state) + row
        return state, state.clone()

    return scan(step, torch.zeros(1, D), x.unsqueeze(1))


def loop(x: Tensor) -> Any:
    return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, LAYER(x)), (torch.tensor(0), x))


def attention(x: Tensor) -> Tensor:
    q = x.view(1, 2, ROWS, D // 2)
    causal = create_block_mask(lambda b, h, i, j: i >= j, None, None, ROWS, ROWS, device=x.device)
    return flex_attention(q, q, q, score_mod=lambda s, b, h, i, j: s + (i - j), block_mask=causal)


def gradient(x: Tensor) -> Tensor:
    return grad(lambda x: LAYER(x).pow(2).sum())(x)


def gradients_of_each_row(x: Tensor) -> Any:
    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(LAYER, parameters, (row,)).pow(2).sum()

    return vmap(grad(loss), (None, 0))(dict(LAYER.named_parameters()), x)


def jacobian(x: Tensor) -> Tensor:
    return jacrev(lambda row: torch.tanh(LAYER(row)))(x[0])


def gradient_penalty(x: Tensor) -> Tensor:
    (g,) = torch.autograd.grad(torch.tanh(LAYER(x)).sum(), LAYER.weight, create_graph=True)
    return g.pow(2).sum()


PROGRAMS: dict[Callable[..., Any], int] = {
    branches: 2 * PRODUCT,
    branch_of_a_constant: PRODUCT,
    recurrence: PRODUCT,
    loop: 3 * PRODUCT,
    attention: 2 * 2 * ROWS * ROWS * D // 2,
    gradient: 2 * PRODUCT,
    gradients_of_each_row: 2 * PRODUCT,
    jacobian: D * D + D * D * D,
    gradient_penalty: 2 * PRODUCT,
}
"""function → the multiply-adds of its forward"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
class TestPrograms:
    def test_forward_multiply_adds(self, program: Callable[..., Any]) -> None:
        assert analyze(program, (torch.zeros(ROWS, D),)).macs == PROGRAMS[program]

    def test_multiply_adds_are_those_that_autograd_dispatches(self, program: Callable[..., Any]) -> None:
        x = torch.zeros(ROWS, D, requires_grad=True)
        report = analyze(program, (x,), attention="math", strict=True)
        macs = MacCount(int(report.work("forward").macs), int(report.work("backward").macs))
        assert macs == count_macs(program, (x,))

    def test_pytorch_is_not_modified(self, program: Callable[..., Any]) -> None:
        before = torch.compile, nn.Module._apply
        analyze(program, (torch.zeros(ROWS, D),))
        assert (torch.compile, nn.Module._apply) == before


class TestConversions:
    def test_a_layer_that_forward_converts_keeps_its_parameters(self) -> None:
        class Converts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(D, D)

            def forward(self, x: Tensor) -> Tensor:
                self.layer = self.layer.to(torch.bfloat16)
                return self.layer(x.bfloat16())

        model = Converts()
        report = analyze(model, (torch.zeros(ROWS, D),))
        assert report.macs == report.work("wgrad").macs == PRODUCT
        assert report.optimizer == analyze(nn.Linear(D, D), (torch.zeros(ROWS, D),)).optimizer
        assert report.parameters == {"layer.weight": D * D, "layer.bias": D}
        assert model.layer.weight.dtype == torch.float32

    def test_work_does_not_depend_on_the_device(self) -> None:
        class Moves(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x.to("cuda") @ torch.zeros(D, D, device="cuda")).cuda().cpu()

        assert analyze(Moves(), (torch.zeros(ROWS, D),)).macs == PRODUCT


class TestPackedSequences:
    @pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
    def test_each_sequence_runs_to_its_own_length(self, layer: type[nn.RNN], gates: int) -> None:
        class Packed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer(D, D)

            def forward(self, x: Tensor) -> Tensor:
                packed = nn.utils.rnn.pack_padded_sequence(x, [5, 3, 1])
                return nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0])[0]

        x = torch.zeros(5, 3, D, requires_grad=True)
        report = analyze(Packed(), (x,), strict=True)
        assert report.macs == (5 + 3 + 1) * gates * 2 * D * D
        assert report.work("backward").macs == count_macs(Packed(), (x,)).backward


def test_a_constant_tensor_is_formatted_as_its_number() -> None:
    def named(x: Tensor) -> Tensor:
        return x @ {"layer_3": x.T}[f"layer_{torch.tensor(3)}"]

    assert analyze(named, (torch.zeros(ROWS, D),)).macs == ROWS * D * ROWS
