"""Hand count + list = graph, forward and backward, and the page that says so is what the command writes."""

from pathlib import Path

import pytest

from graphflops.models import ResNetBKConfig
from graphflops.models.reconciliation import page, reconcile

PAGE = Path(__file__).parents[2] / "docs" / "reconciliation.md"


@pytest.mark.slow
def test_the_page_is_the_output_of_the_command() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run make reconcile"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("convention", ["standard", "exact"])
@pytest.mark.parametrize(
    "config",
    [
        ResNetBKConfig(),
        ResNetBKConfig(d_model=32, n_layers=2, n_seq=48, num_experts=6, top_k=3, vocab_size=100),
        ResNetBKConfig(d_model=16, n_layers=3, n_seq=8, num_experts=2, top_k=2, vocab_size=50, grad_blend=0.0),
    ],
    ids=["baseline", "top-3 of 6", "every expert"],
)
def test_hand_count_and_list_are_the_graph(config: ResNetBKConfig, convention: str) -> None:
    report, hand, extras = reconcile(config, batch=4)
    report = report.under(convention)
    for phase, graph in (("forward", report.forward), ("backward", report.backward)):
        by_hand = sum(line[1 if phase == "forward" else 2] for line in hand)
        listed = sum(report.convention.flops(getattr(extra, phase)) for extra in extras)
        assert by_hand + listed == graph


def test_the_hand_count_is_the_published_one() -> None:
    _, hand, _ = reconcile(ResNetBKConfig())
    assert sum(forward for _, forward, _ in hand) == 16_287_760_384
    assert sum(backward for _, _, backward in hand) == 32_568_016_896


def test_everything_on_the_list_has_work_and_a_reason() -> None:
    _, _, extras = reconcile(ResNetBKConfig())
    for extra in extras:
        assert extra.forward or extra.backward
        assert len(extra.reason.split()) > 2
