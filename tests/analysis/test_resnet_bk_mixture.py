"""Rates of the experts of ResNet-BK."""

import torch

from graphflops import analyze
from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK, ResNetBKConfig
from graphflops.report.text import as_text

EXPERTS = "blocks.0.bk_layer.moe_ffn.experts"


def test_the_rate_top_k_over_num_experts_is_that_of_the_rule() -> None:
    with torch.device("meta"):
        model = ConfigurableResNetBK(ResNetBKConfig(n_layers=1, num_experts=4, top_k=2))
    tokens = torch.zeros(2, 128, dtype=torch.int64)
    by_rule = analyze(model, (tokens,))
    by_rate = analyze(model, (tokens,), rates={"*.experts.*": "top_k/num_experts"})
    all_experts = analyze(model, (tokens,), rates={"*.experts.*": 1})
    assert (by_rate.total, by_rate.at_full_rate.total) == (by_rule.total, by_rule.at_full_rate.total)
    full = by_rule.at_full_rate.by_module()[EXPERTS]
    assert all_experts.by_module()[EXPERTS] == full == 2 * by_rule.by_module()[EXPERTS]


def test_a_narrow_terminal_has_full_costs_in_the_totals_alone() -> None:
    report = analyze(ConfigurableResNetBK(BASELINE_CONFIG), (torch.empty(2, 128, dtype=torch.int64, device="meta"),))
    wide, narrow = as_text(report, 100), as_text(report, 80)
    assert "moe_ffn SparseMoE" in narrow
    assert [text.count("full") for text in (wide, narrow)] == [2, 1]
