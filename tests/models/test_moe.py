"""The sparse mixture of experts against a dense one that runs every expert on every token."""

import pytest
import torch
from torch import Tensor

from graphflops.models import SparseMoE

D, E = 6, 4


def mixture(top_k: int, dtype: torch.dtype = torch.float64) -> SparseMoE:
    torch.manual_seed(top_k)
    return SparseMoE(D, E, top_k, dropout=0.1).to(dtype).eval()


def dense_reference(moe: SparseMoE, x: Tensor) -> Tensor:
    """All experts on all tokens, weighed by the gate's probabilities with all but the k largest masked to zero."""
    probabilities = moe.gate(x).softmax(-1)
    kept = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(moe.top_k).indices, 1.0)
    outputs = torch.stack([expert(x) for expert in moe.experts], dim=-1)  # (..., D, E)
    return (outputs * (probabilities * kept).unsqueeze(-2)).sum(-1)


@pytest.mark.parametrize("top_k", range(1, E + 1))
def test_equals_the_dense_mixture_in_values_and_gradients(top_k: int) -> None:
    moe = mixture(top_k)
    leaves = [x := torch.randn(3, 5, D, dtype=torch.float64, requires_grad=True), *moe.parameters()]
    cotangent = torch.randn(3, 5, D, dtype=torch.float64)
    sparse, dense = moe(x), dense_reference(moe, x)
    torch.testing.assert_close(sparse, dense)
    for actual, expected in zip(
        torch.autograd.grad(sparse, leaves, cotangent), torch.autograd.grad(dense, leaves, cotangent), strict=True
    ):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("top_k", range(1, E + 1))
def test_runs_exactly_k_experts_per_token(top_k: int) -> None:
    moe, worked_on = mixture(top_k), []
    for expert in moe.experts:
        expert.register_forward_hook(lambda _, args, __: worked_on.append(args[0].shape[0]))
    moe(torch.randn(7, 5, D, dtype=torch.float64))
    assert sum(worked_on) == 7 * 5 * top_k


def test_gate_learns_even_when_one_expert_is_chosen() -> None:
    moe = mixture(top_k=1)
    moe(torch.randn(8, D, dtype=torch.float64)).square().sum().backward()
    assert moe.gate.weight.grad is not None
    assert moe.gate.weight.grad.abs().max() > 0


def test_experts_without_tokens_add_nothing_and_get_zero_gradients() -> None:
    moe = mixture(top_k=1)
    with torch.no_grad():
        moe.gate.weight.zero_()
        moe.gate.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    x = torch.randn(4, D, dtype=torch.float64)
    y = moe(x)
    torch.testing.assert_close(y, dense_reference(moe, x))
    y.sum().backward()
    idle = [max(parameter.grad.abs().max() for parameter in expert.parameters()) == 0 for expert in moe.experts]
    assert idle == [True, False, True, True]


@pytest.mark.parametrize("shape", [(D,), (5, D), (2, 3, D), (2, 3, 4, D), (0, D)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    y = mixture(2, dtype)(torch.zeros(shape, dtype=dtype))
    assert (y.shape, y.dtype) == (shape, dtype)


def test_drops_hidden_units_in_training_only() -> None:
    moe, x = mixture(2), torch.randn(16, D, dtype=torch.float64)
    torch.testing.assert_close(moe(x), moe(x), rtol=0, atol=0)
    moe.train()
    assert not torch.equal(moe(x), moe(x))


def test_holds_its_sizes_as_plain_numbers() -> None:
    moe = SparseMoE(D, E, 2, dropout=0)
    assert (moe.d_model, moe.num_experts, moe.top_k, moe.dropout) == (D, E, 2, 0.0)
    assert isinstance(moe.dropout, float)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"d_model": 0}, "d_model"),
        ({"d_model": 6.0}, "d_model"),
        ({"num_experts": 0}, "num_experts"),
        ({"num_experts": True}, "num_experts"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": E + 1}, rf"1\.\.{E}, got {E + 1}"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_refuses_arguments_out_of_range(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SparseMoE(**{"d_model": D, "num_experts": E, "top_k": 1, "dropout": 0.1, **arguments})
