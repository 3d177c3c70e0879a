"""The mixture of ResNet-BK says what its k experts are out of."""

import torch

from graphflops import analyze
from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK, ResNetBKConfig
from graphflops.report.text import as_text

EXPERTS = "blocks.0.bk_layer.moe_ffn.experts"


def test_a_rate_of_k_in_e_is_what_its_rule_says() -> None:
    with torch.device("meta"):
        model = ConfigurableResNetBK(ResNetBKConfig(n_layers=1, num_experts=4, top_k=2))
    tokens = torch.zeros(2, 128, dtype=torch.int64)
    by_rule = analyze(model, (tokens,))
    given = analyze(model, (tokens,), rates={"*.experts.*": "top_k/num_experts"})
    every = analyze(model, (tokens,), rates={"*.experts.*": 1})
    assert (given.total, given.at_full_rate.total) == (by_rule.total, by_rule.at_full_rate.total)
    assert every.by_module()[EXPERTS] == by_rule.at_full_rate.by_module()[EXPERTS] == 2 * by_rule.by_module()[EXPERTS]


def test_on_a_narrow_line_names_have_room_and_the_totals_say_what_everything_would_cost() -> None:
    report = analyze(ConfigurableResNetBK(BASELINE_CONFIG), (torch.empty(2, 128, dtype=torch.int64, device="meta"),))
    wide, narrow = as_text(report, 100), as_text(report, 80)
    assert "moe_ffn SparseMoE" in narrow
    assert [text.count("full") for text in (wide, narrow)] == [2, 1]
