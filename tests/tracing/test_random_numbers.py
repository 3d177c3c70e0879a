"""Random numbers that a program reads: drawn with a fixed seed, always the same ones, and listed as assumptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_run import Program, analyzed_macs, real_macs, report_of
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs
from graphflops.tracing.session.random_numbers import Draws

X = torch.zeros(12, 8)
ASSUMPTION = "random number read; drawn with a fixed seed"

PROGRAMS: dict[str, Callable[..., Any]] = {
    "rand": lambda m, x: m.linear(x) if torch.rand(1) < 2 else x,
    "an item": lambda m, x: m.linear(x) if torch.rand(()).item() <= 1 else x,
    "uniform": lambda m, x: m.linear(x) if torch.empty(1).uniform_(2, 3).item() > 1 else x,
    "as another": lambda m, x: m.linear(x) if torch.rand_like(x[0, 0]) < 2 else x,
    "an order": lambda m, x: [x := m.linear(x) for _ in torch.randperm(4).tolist()][-1],
    "an integer": lambda m, x: m.linear(x[torch.randint(5, 6, (1,)).item() :]),
    "of an array": lambda m, x: m.linear(x) if torch.rand(3).numpy().sum() < 4 else x,
    "by chance": lambda m, x: m.linear(x) if torch.bernoulli(torch.ones(())) else x,
    "one of some": lambda m, x: m.linear(x[torch.multinomial(torch.tensor([0.0, 1.0]), 1).item() :]),
    "a distribution": lambda m, x: m.linear(x) if torch.distributions.Uniform(2.0, 3.0).sample().item() > 1 else x,
    "a generator": lambda m, x: m.linear(x) if torch.rand(1, generator=torch.Generator()) < 2 else x,
    "a seed": lambda m, x: m.linear(x) if torch.empty((), dtype=torch.int64).random_().item() >= 0 else x,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_random_number_that_python_reads_is_an_assumption(name: str) -> None:
    model = Program(PROGRAMS[name])
    before = torch.get_rng_state()
    assert analyzed_macs(model, X) == fake_macs(model) == real_macs(model, X) != (0, 0)
    assert [text.partition(": ")[2] for text in report_of(model, X).assumptions][-1:] == [ASSUMPTION]
    torch.set_rng_state(before)


def fake_macs(model: nn.Module) -> tuple[int, int]:
    count = count_macs(model, (X,))
    return count.forward, count.backward


class Dropping(nn.Module):
    """Layers that are dropped at random."""

    def __init__(self, rate: float, *, count: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(count))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if not self.training or torch.rand([]) >= self.rate:
                x = layer(x)
        return x


def test_layers_that_are_seldom_dropped_are_kept() -> None:
    assert analyze(Dropping(0.1), (X,)).macs == analyze(Dropping(0.1).eval(), (X,)).macs == 24 * 12 * 64


def test_others_are_dropped_the_same_way_every_time_also_by_the_mac_counter() -> None:
    macs = {analyze(Dropping(0.5), (X,), training=False).macs for _ in range(3)}
    assert macs == {count_macs(Dropping(0.5), (X,), training=False).forward}
    assert 0 < macs.pop() < 24 * 12 * 64


def test_the_global_generator_is_not_used() -> None:
    model = Dropping(0.5)
    before = torch.get_rng_state()
    analyze(model, (X,))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_draws_are_in_the_middle() -> None:
    first = torch.rand(64, generator=Draws().generator)
    assert 0.1 <= first.min() <= first.max() <= 0.9
