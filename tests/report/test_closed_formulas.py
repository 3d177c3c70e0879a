"""Closed formulas of papers, on models of ours: against the numbers that the papers print, and against the graph."""

from decimal import Decimal
from pathlib import Path

import pytest
import torch
from gpt import GPT, Chinchilla, PaLM
from torch import nn
from torch.nn import functional as F
from vit import ViT

from graphflops import Report, UsageError, analyze
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

DAY = 86_400


def step(model: nn.Module, batch: int, sequence: int, **options: bool) -> Report:
    return analyze(model, (torch.zeros(batch, sequence, dtype=torch.long, device="meta"),), **options)


def gpt(checkpointed: bool = False) -> GPT:
    with torch.device("meta"):
        return GPT(vocabulary=100, sequence=24, layers=3, width=32, heads=4, checkpointed=checkpointed)


class TestMegatron:
    """Narayanan et al. 2021, Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM."""

    @pytest.mark.parametrize("checkpointed", [False, True])
    def test_it_is_the_matrix_products_of_a_gpt_that_learns(self, checkpointed: bool) -> None:
        report = analyze(
            gpt(checkpointed), (torch.zeros(2, 24, dtype=torch.long, device="meta"),), attention="math", optimizer=None
        )
        assert (report.recompute > 0) is checkpointed
        products, formula = report.with_convention("torch"), report.with_convention("megatron")
        for phase in ("forward", "backward", "recompute", "total"):
            assert formula.flops(phase) == products.flops(phase)

    @pytest.mark.parametrize(
        ("layers", "width", "heads", "billions", "gpus", "teraflops", "days"),
        [
            (96, 12_288, 96, "174.6", 384, 153, 84),
            (96, 12_288, 96, "174.6", 768, 149, 43),
            (96, 12_288, 96, "174.6", 1536, 141, 23),
            (105, 20_480, 128, "529.6", 560, 171, 156),
            (105, 20_480, 128, "529.6", 1120, 167, 80),
            (105, 20_480, 128, "529.6", 2240, 159, 42),
        ],
    )
    def test_days_for_300_billion_tokens_as_in_table_2(
        self, layers: int, width: int, heads: int, billions: str, gpus: int, teraflops: int, days: int
    ) -> None:
        with torch.device("meta"):
            report = step(GPT(51_200, 2048, layers, width, heads), 1, 2048)
        assert rounded(sum(report.parameters.values()), 10**9, billions)
        # The paper's runs have checkpoints, this graph has none: the forward pass of the layers once more.
        formula = report.with_convention("megatron")
        recomputed = sum(formula.by_operator()[part] for part in ("linear", "attention"))
        seconds = [(formula.total + recomputed) * 300e9 / 2048 / (gpus * (teraflops + half) * 1e12)
                   for half in (0.5, -0.5)]  # fmt: skip
        assert seconds[0] < (days + 0.5) * DAY
        assert seconds[1] > (days - 0.5) * DAY


class TestPaLM:
    """Chowdhery et al. 2022, PaLM: Scaling Language Modeling with Pathways, section 4.1 and appendix B."""

    def test_utilization_of_palm_540b_as_printed(self) -> None:
        with torch.device("meta"):
            report = step(PaLM(256_000, layers=118, width=18_432, heads=48, head_width=256), 1, 2048)
        assert rounded(sum(report.parameters.values()), 10**9, "540.35")
        formula = report.with_convention("palm")
        per_second, peak = 238_300, 6144 * 275 * 10**12
        without = formula.by_operator("total")["linear"]
        assert f"{100 * formula.total / 2048 * per_second / peak:.1f}" == "46.2"
        assert f"{100 * without / 2048 * per_second / peak:.1f}" == "45.7"

    def test_checkpoints_are_not_in_it(self) -> None:
        kept, checkpointed = (step(gpt(is_on), 2, 24).with_convention("palm") for is_on in (False, True))
        assert checkpointed.recompute == 0
        assert checkpointed.total == kept.total

    def test_a_model_without_a_vocabulary_has_one_too(self) -> None:
        with torch.device("meta"):
            report = analyze(ViT().eval(), (torch.empty(1, 3, 224, 224),), training=False)
        assert report.with_convention("palm").forward == 2 * 197 * (
            86_567_656 + 2 * 12 * 12 * 64 * 197
        )  # torchvision's count


class TestChinchilla:
    """Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, appendix F."""

    @pytest.mark.parametrize(
        ("layers", "width", "hidden", "heads", "head_width", "parameters", "ratio"),
        [
            (10, 640, 2560, 10, 64, "73", "1.03"),
            (20, 1024, 4096, 16, 64, "305", "1.10"),
            (24, 1280, 5120, 10, 128, "552", "1.08"),
            (26, 1792, 7168, 14, 128, "1143", "1.04"),
            (28, 2048, 8192, 16, 128, "1593", "1.03"),
            (40, 3584, 14336, 28, 128, "6796", "0.99"),
        ],
    )
    def test_ratios_to_6nd_as_in_table_a4(
        self, layers: int, width: int, hidden: int, heads: int, head_width: int, parameters: str, ratio: str
    ) -> None:
        """The printed ratios are those of attention and dense blocks, without the formula's embeddings and logits."""
        with torch.device("meta"):
            report = step(Chinchilla(32_000, layers, width, hidden, heads, head_width), 1, 2048)
        n = sum(report.parameters.values()) - 32_000 * width
        assert n // 10**6 == int(parameters)
        parts = report.with_convention("chinchilla").by_operator("total")
        assert f"{(parts['linear'] + parts['attention']) / (6 * n * 2048):.2f}" == ratio

    def test_embeddings_are_a_matrix_product_like_the_logits(self) -> None:
        parts = step(gpt(), 2, 24).with_convention("chinchilla").by_operator()
        assert parts["embedding"] == parts["logits"] == step(gpt(), 2, 24).with_convention("torch").by_module()["head"]


class TestQuickReference:
    def test_it_is_the_published_step_of_resnet_bk(self) -> None:
        report = step(ConfigurableResNetBK(ResNetBKConfig()), 32, 128)
        assert f"{report.with_convention('quickref').total / 1e9:.1f}" == "48.9"

    def test_it_grows_in_proportion_to_the_sequence(self) -> None:
        one, two = (
            step(ConfigurableResNetBK(ResNetBKConfig(n_seq=n)), 2, n).with_convention("quickref") for n in (24, 48)
        )
        assert (two.forward, two.backward) == (2 * one.forward, 2 * one.backward)


class TestAnyOfThem:
    @pytest.mark.parametrize("name", ["megatron", "palm", "chinchilla", "quickref"])
    @pytest.mark.parametrize("phase", ["forward", "total"])
    def test_lines_from_the_graph_to_the_formula_add_up(self, name: str, phase: str) -> None:
        model = gpt() if name != "quickref" else ConfigurableResNetBK(ResNetBKConfig(n_seq=24))
        report = step(model, 2, 24)
        diff = report.diff(name, phase)
        assert diff.left == report.flops(phase)
        assert diff.right == report.with_convention(name).flops(phase)

    def test_megatron_is_right_about_the_matrix_products_forward(self) -> None:
        lines = {row.operator: row for row in step(gpt(), 2, 24).with_convention("torch").diff("megatron").rows}
        assert {row.difference for row in lines.values()} == {0}
        assert set(lines) == {"linear", "attention", "logits"}

    def test_a_model_that_does_not_learn_has_a_forward_pass_alone(self) -> None:
        converted = step(gpt(), 2, 24, training=False).with_convention("chinchilla")
        assert converted.total == converted.forward > 0

    def test_the_terms_are_in_the_report_and_survive_a_file(self, tmp_path: Path) -> None:
        converted = step(gpt(), 2, 24).with_convention("megatron")
        assert "24·B·s·l·h²" in converted.explain()
        assert Report.from_json(converted.to_json(tmp_path / "report.json")) == converted
        assert converted.with_convention("megatron") == converted
        with pytest.raises(UsageError, match="only the terms of its formula"):
            converted.with_convention("standard")
        with pytest.raises(UsageError, match="only the terms of its formula"):
            converted.diff("standard")

    def test_analyze_takes_it_as_any_convention(self) -> None:
        x = torch.zeros(2, 24, dtype=torch.long, device="meta")
        assert analyze(gpt(), (x,), convention="palm") == analyze(gpt(), (x,)).with_convention("palm")


class TestWhatIsMissingIsSaid:
    @pytest.mark.parametrize("name", ["megatron", "palm", "chinchilla"])
    def test_no_attention(self, name: str) -> None:
        report = analyze(nn.Linear(3, 4), (torch.zeros(2, 3),))
        with pytest.raises(UsageError, match=f"^{name} .* there is no attention"):
            report.with_convention(name)
        with pytest.raises(UsageError, match="there is no attention"):
            report.diff(name)

    def test_no_vocabulary(self) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        with pytest.raises(UsageError, match="there is no vocabulary"):
            analyze(layer, (torch.zeros(2, 5, 8),)).with_convention("megatron")

    def test_no_feed_forward_network(self) -> None:
        model = gpt()
        model.layers = nn.ModuleList([Attention()])
        with pytest.raises(UsageError, match="there is no feed-forward network"):
            step(model.to("meta"), 2, 24).with_convention("chinchilla")

    def test_no_one_sequence(self) -> None:
        model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        report = analyze(model, (torch.zeros(1, 5, 8), torch.zeros(1, 4, 8)))
        with pytest.raises(UsageError, match="attention layers differ"):
            report.with_convention("palm")

    def test_no_heads(self) -> None:
        heads = [torch.zeros(2, 5, 8) for _ in range(3)]
        with pytest.raises(UsageError, match="not over one sequence by heads"):
            analyze(F.scaled_dot_product_attention, tuple(heads)).with_convention("palm")

    def test_no_resnet_bk(self) -> None:
        with pytest.raises(UsageError, match=r"quickref .* it is not a ResNet-BK"):
            step(gpt(), 2, 24).with_convention("quickref")


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.unflatten(-1, (4, 8)).transpose(1, 2)
        return F.scaled_dot_product_attention(y, y, y).transpose(1, 2).flatten(2)


def rounded(number: int, unit: int, printed: str) -> bool:
    """Whether a number is what is printed, to its last digit, cut off or rounded."""
    digit = Decimal(1).scaleb(int(Decimal(printed).as_tuple().exponent))
    return abs(Decimal(number) / unit - Decimal(printed)) < digit
