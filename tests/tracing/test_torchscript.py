"""TorchScript: the same numbers at every analysis, and after real runs."""

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.analysis.mac_counter import count_macs

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor, scale: float = 2.0, shift: int = 1) -> Tensor:
        return self.down(self.up(x).sigmoid() * scale) + shift


def scripted() -> nn.Module:
    return torch.jit.script(Gated())  # type: ignore[no-any-return]


def inside() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), scripted())


def traced() -> nn.Module:
    return torch.jit.trace(Gated(), (torch.zeros(3, 4),))  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", [scripted, traced, inside])
@pytest.mark.parametrize("runs", [0, 4])
def test_later_analyses_and_those_after_real_runs_give_the_same_numbers(build: object, runs: int) -> None:
    plain = nn.Sequential(nn.Linear(4, 4), Gated()) if build is inside else Gated()
    dispatched = count_macs(plain, (torch.zeros(3, 4),))
    model = build()  # type: ignore[operator]
    for _ in range(runs):
        model(torch.zeros(3, 4)).sum().backward()
    for _ in range(2):
        report = analyze(model, (torch.zeros(3, 4),))
        assert (report.work("forward").macs, report.work("backward").macs) == (dispatched.forward, dispatched.backward)
        assert report.optimizer > 0


def test_arguments_by_name_and_by_default_are_those_of_its_forward() -> None:
    report = analyze(scripted(), (torch.zeros(3, 4),), {"shift": 2})
    assert report.work("forward").macs == 2 * 3 * 4 * 6


def test_the_setting_of_other_threads_is_left_alone() -> None:
    analyze(scripted(), (torch.zeros(3, 4),))
    assert torch._C._get_graph_executor_optimize()
