"""Activation checkpointing: the region's forward once more, as far as autograd runs it, in a phase of its own."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from graphflops import Report, analyze
from graphflops.analysis.mac_counter import count_macs

D = 8


class Checkpointed(nn.Module):
    def __init__(self, region: nn.Module, *, reentrant: bool, frozen_before: bool = False) -> None:
        super().__init__()
        self.before = nn.Linear(D, D).requires_grad_(not frozen_before)
        self.region, self.reentrant = region, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.region, self.before(x), use_reentrant=self.reentrant)


def frozen(layer: nn.Module) -> nn.Module:
    return layer.requires_grad_(False)


REGIONS = {
    "a linear layer at the end": lambda: nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D)),
    "an activation at the end": lambda: nn.Sequential(nn.Linear(D, D), nn.Linear(D, D), nn.ReLU()),
    "one layer": lambda: nn.Linear(D, D),
    "a transformer layer": lambda: nn.TransformerEncoderLayer(D, 2, 16, batch_first=True),
    "frozen layers": lambda: nn.Sequential(
        nn.LayerNorm(D), frozen(nn.Linear(D, D)), nn.GELU(), frozen(nn.Linear(D, D))
    ),
    "a head on a frozen trunk": lambda: nn.Sequential(frozen(nn.Linear(D, D)), nn.Linear(D, D)),
}


def step(model: nn.Module, *, input_gradient: bool = False) -> Report:
    return analyze(model, (torch.zeros(3, 4, D, requires_grad=input_gradient),), attention="math")


@pytest.mark.sampled(11)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize("frozen_before", [True, False], ids=["frozen before", "trained before"])
@pytest.mark.parametrize("input_gradient", [True, False], ids=["input gradient", "no input gradient"])
def test_backward_and_recompute_are_what_autograd_dispatches(
    region: object, reentrant: bool, frozen_before: bool, input_gradient: bool
) -> None:
    model = Checkpointed(region(), reentrant=reentrant, frozen_before=frozen_before)  # type: ignore[operator]
    report = step(model, input_gradient=input_gradient)
    dispatched = count_macs(model, (torch.zeros(3, 4, D, requires_grad=input_gradient),))
    assert report.work("forward").macs == dispatched.forward
    assert report.work("backward").macs + report.work("recompute").macs == dispatched.backward


def test_the_last_layer_is_not_run_again_unless_early_stop_is_off() -> None:
    model = Checkpointed(REGIONS["a linear layer at the end"](), reentrant=False)
    layer = 3 * 4 * D * D
    assert step(model).work("recompute").macs == layer
    with set_checkpoint_early_stop(False):
        assert step(model).work("recompute").macs == 2 * layer


def test_dgrad_and_wgrad_are_those_of_the_model_without_checkpointing() -> None:
    region = REGIONS["a transformer layer"]()
    model = Checkpointed(region, reentrant=False)
    plain = step(nn.Sequential(model.before, region))
    report = step(model)
    assert (report.forward, report.dgrad, report.wgrad) == (plain.forward, plain.dgrad, plain.wgrad)
    assert report.recompute > plain.recompute == 0


def test_elementwise_work_is_run_again_too() -> None:
    model = Checkpointed(nn.Sequential(nn.GELU(), nn.GELU()), reentrant=False)
    report = step(model)
    once = sum(report.by_operator()[name] for name in ("gelu",)) // 2
    assert report.by_operator("recompute")["gelu"] == once, "the second reads what it saves from the first, and stops"


def test_without_training_nothing_is_run_again() -> None:
    model = Checkpointed(nn.Linear(D, D), reentrant=False)
    assert analyze(model, (torch.zeros(1, D),), training=False).recompute == 0
