"""A tensor of a list that has tensors among its numbers: PyTorch asks each for its number, and here none has any."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

LAYER = nn.Linear(4, 4)
X = torch.ones(3, 4)

MAKERS: dict[str, Callable[[Tensor], Tensor]] = {
    "one": lambda y: torch.tensor([y.sum()]),
    "a number beside it": lambda y: torch.tensor([y.sum(), 2.0]),
    "nested": lambda y: torch.tensor([[y[0, 0], y[0, 1]], [1.0, 2]]),
    "a dtype": lambda y: torch.tensor([y.sum()], dtype=torch.float64),
    "of several": lambda y: torch.tensor((y.sum(), torch.tensor(2.0, dtype=torch.float64), True)),
    "as_tensor": lambda y: torch.as_tensor([y.sum(), 1.0]),
    "new_tensor": lambda y: y.new_tensor([y.double().sum()]),
    "trained": lambda y: torch.tensor([y.sum()], requires_grad=True),
}


@pytest.mark.parametrize("name", MAKERS)
def test_it_has_the_shape_and_dtype_of_the_real_one(name: str) -> None:
    real = MAKERS[name](LAYER(X).detach())

    def model(x: Tensor) -> Tensor:
        scalar = MAKERS[name](LAYER(x).detach())
        assert (scalar.shape, scalar.dtype, scalar.requires_grad) == (real.shape, real.dtype, real.requires_grad)
        return LAYER(x) * scalar.sum()

    assert analyze(model, (X,), strict=True).work("forward").macs == count_macs(model, (X,)).forward == 2 * 3 * 4 * 4


def test_positions_that_are_known_stay_known() -> None:
    def model(x: Tensor) -> Tensor:
        return LAYER(x)[torch.tensor([torch.tensor(1), torch.tensor(0)])]

    assert analyze(model, (X,)).work("forward").macs == 3 * 4 * 4
