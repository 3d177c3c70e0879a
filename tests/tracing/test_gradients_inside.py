"""Gradients that a program takes by itself, of whole models, beside what autograd runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from graphflops import analyze
from graphflops.analysis.mac_counter import MacCounterMode, count_macs

Program = Callable[..., Any]


class Run(nn.Module):
    """A program that is given a model, as a model."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        super().__init__()
        self.program, self.model = program, model

    def forward(self, *inputs: Any) -> Any:
        return self.program(self.model, *inputs)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8))


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


def penalty(model: Any, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    result: Tensor = slope.square().mean() + model(x).mean()
    return result


def saliency(model: Any, x: Tensor) -> Any:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(model(x).max(-1)[0].sum(), x)


def attack(model: Any, x: Tensor, y: Tensor) -> Tensor:
    for _ in range(2):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
        x = (x + 0.1 * slope.sign()).clamp(0, 1)
    return F.cross_entropy(model(x.detach()), y)


def adapted(model: Any, x: Tensor, y: Tensor) -> Tensor:
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for _ in range(2):
        loss = F.cross_entropy(torch.func.functional_call(model, (weights, buffers), (x,)), y)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: value - 0.1 * g for (name, value), g in zip(weights.items(), slopes, strict=True)}
    return F.cross_entropy(torch.func.functional_call(model, (weights, buffers), (x,)), y)


def attended(model: Any, x: Tensor) -> Tensor:
    return penalty(lambda x: F.scaled_dot_product_attention(model(x), x, x), x)


IMAGES, CLASSES, ROWS, WORDS = torch.zeros(3, 3, 8, 8), torch.tensor([0, 1, 0]), torch.zeros(4, 8), torch.zeros(2, 5, 8)
PROGRAMS: dict[str, tuple[Program, Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "a penalty": (penalty, network, (IMAGES,)),
    "saliency": (saliency, network, (IMAGES,)),
    "an attack": (attack, network, (IMAGES, CLASSES)),
    "inner steps": (adapted, network, (IMAGES, CLASSES)),
    "a penalty on a smooth model": (penalty, smooth, (ROWS,)),
    "a Jacobian": (lambda model, x: torch.func.vmap(torch.func.jacrev(model))(x), smooth, (ROWS,)),
    "a penalty on an encoder": (penalty, encoder, (WORDS,)),
    "saliency of an encoder": (saliency, encoder, (WORDS,)),
    "a penalty on attention": (attended, lambda: nn.Linear(8, 8), (WORDS,)),
}


def reported(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, int]:
    report = analyze(model, inputs, optimizer=None, attention="math")
    assert not report.unknown
    counted = report.under("torch")
    return int(counted.forward) // 2, int(counted.backward) // 2


@pytest.mark.parametrize("name", PROGRAMS)
def test_is_what_autograd_runs(name: str) -> None:
    program, make, inputs = PROGRAMS[name]
    dispatched = count_macs(Run(program, make()), inputs)
    assert reported(Run(program, make()), inputs) == (dispatched.forward, dispatched.backward)


def by_formula(model: Any, x: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return attended(model, x)


def dropped(model: Any, x: Tensor) -> Tensor:
    return penalty(lambda x: F.scaled_dot_product_attention(model(x), x, x, dropout_p=0.1), x)


FORWARD_MODE: dict[str, tuple[Program, Callable[[], nn.Module], Tensor]] = {
    "a Jacobian along a direction": (lambda m, x: torch.func.jvp(m, (x,), (torch.ones_like(x),))[1], smooth, ROWS),
    "a Hessian": (
        lambda m, x: torch.func.vmap(torch.func.hessian(lambda x: m(x).sum()))(x),
        lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1)),
        ROWS,
    ),
    "attention by its formula": (by_formula, lambda: nn.Linear(8, 8), WORDS),
    "attention with dropout": (dropped, lambda: nn.Linear(8, 8), WORDS),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, where it loads its forward derivatives
@pytest.mark.parametrize("name", FORWARD_MODE)
def test_is_what_a_real_run_runs(name: str) -> None:
    """Where fake tensors cannot be differentiated forward, and where the kernel matters: on small real ones."""
    program, make, x = FORWARD_MODE[name]
    model = Run(program, make())
    with MacCounterMode() as forward:
        result = model(x)
    with MacCounterMode() as backward:
        result.sum().backward()
    assert reported(Run(program, make()), (x,)) == (forward.macs, backward.macs)
