"""A variant of ResNet-BK, unmodified, with the rules of the documentation."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from published import LanguageModel

from graphflops import Report, analyze
from graphflops.analysis.mac_counter import MacCount, count_macs
from graphflops.analysis.rates import measure

RULES = Path(__file__).parents[2] / "docs/examples/published_resnet_bk_rules.py"
TOKENS = torch.randint(0, 200, (4, 12), generator=torch.Generator().manual_seed(0))
TWO = {"num_experts": 4, "top_k": 2}


def analysed(**sizes: int) -> Report:
    return analyze(LanguageModel(**sizes), (TOKENS,), rules=[RULES], strict=True)


def products(report: Report) -> MacCount:
    return MacCount(int(report.work("forward").macs), int(report.work("backward").macs))


def test_it_runs_and_trains() -> None:
    torch.manual_seed(0)
    model = LanguageModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = F.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "experts" not in name)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("sizes", [{}, TWO, {"d_model": 8, "n_layers": 3}])
def test_all_ops_have_rules_and_matrix_products_are_those_of_autograd(sizes: dict[str, int]) -> None:
    report = analysed(**sizes)
    assert report.coverage.unknown == 0
    assert products(report) == count_macs(LanguageModel(**sizes), (TOKENS,))


def test_bk_core_is_the_published_count() -> None:
    report = analysed()
    assert report.by_operator("forward")["BKCoreFunction"] == 2 * 4 * 34 * 12
    assert report.by_operator("backward")["BKCoreFunction"] == 2 * 4 * 26 * 12


def test_the_experts_are_routed() -> None:
    report = analysed()
    active, full = (
        weighted.by_module()["blocks.0.bk_layer.moe_ffn.experts"] for weighted in (report, report.at_full_rate)
    )
    assert full == 4 * active == 4 * 48 * (8 * 16**2 + 2 * 16)


@pytest.mark.slow
def test_a_given_rate_overrides_that_of_the_rule() -> None:
    report = analyze(LanguageModel(), (TOKENS,), rules=[RULES], rates={"*.experts.*": "top_k/num_experts"})
    assert (report.total, report.at_full_rate.total) == (analysed().total, analysed().at_full_rate.total)
    half = analyze(LanguageModel(), (TOKENS,), rules=[RULES], rates={"*.experts.*": 0.5})
    assert (
        half.by_module()["blocks.0.bk_layer.moe_ffn.experts"] * 2
        == (half.at_full_rate.by_module()["blocks.0.bk_layer.moe_ffn.experts"])
    )


@pytest.mark.slow
def test_without_a_rule_the_loop_over_the_experts_is_routed() -> None:
    report = analyze(LanguageModel(), (TOKENS,))
    assert not report.unknown
    assert products(report) == products(analysed())
    assert set(report.routed_modules) == {
        f"blocks.{i}.bk_layer.moe_ffn.experts.{e}" for i in range(2) for e in range(4)
    }
    assert "routing: assuming balanced routing (1/4 of the rows each); set rates= to change" in str(report)


def test_measured_rates_yield_the_executed_rows() -> None:
    torch.manual_seed(1)
    model = LanguageModel(**TWO)
    rates = measure(model, [TOKENS])
    report = analyze(model, (TOKENS,), rates=rates)
    rows = []
    for block in model.blocks:
        for expert in block.bk_layer.moe_ffn.experts:
            expert.register_forward_hook(lambda module, args, out: rows.append(len(out)))
    model(TOKENS)
    assert sum(rows) == 2 * 2 * TOKENS.numel()
    experts = sum(report.by_module()[f"blocks.{i}.bk_layer.moe_ffn.experts"] for i in range(2))
    assert experts == sum(rows) * (8 * 16**2 + 2 * 16)


def test_the_rules_are_short() -> None:
    assert len(RULES.read_text(encoding="utf-8").splitlines()) <= 30
