"""FLOPsCounter, FLOPsCount and compare_models, as people have them in their notes."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from graphflops import CaptureError, FLOPsCount, FLOPsCounter, UsageError, analyze, compare_models
from graphflops.models import ConfigurableResNetBK, LanguageModel, ResNetBKConfig

COMPONENTS = ["embedding", "layer_0", "layer_1", "final_layernorm", "lm_head"]


def tiny(**changes: int) -> ConfigurableResNetBK:
    return ConfigurableResNetBK(
        ResNetBKConfig(**{"vocab_size": 50, "d_model": 8, "n_layers": 2, "n_seq": 6, **changes})
    )


@pytest.fixture
def counter() -> FLOPsCounter:
    return FLOPsCounter(tiny(), batch_size=3, seq_len=6)


class TestCounts:
    def test_a_count_adds_scales_and_sums(self) -> None:
        count = FLOPsCount(1, 2, 3)
        assert count.total == 6
        assert count + count == 2 * count == count * 2 == sum([count, count]) == FLOPsCount(2, 4, 6)
        assert count.to_dict() == {"forward": 1, "backward": 2, "optimizer": 3, "total": 6}
        assert count["backward"] == 2

    def test_each_pass_alone_and_together(self, counter: FLOPsCounter) -> None:
        report = analyze(counter.model, (torch.zeros(3, 6, dtype=torch.int64),))
        total = counter.count_total_flops()
        assert (total.forward, total.backward, total.optimizer) == (report.forward, report.backward, report.optimizer)
        assert counter.count_forward_flops() == FLOPsCount(forward=report.forward)
        assert counter.count_backward_flops() == FLOPsCount(backward=report.backward)
        assert counter.count_optimizer_flops("adamw") == FLOPsCount(optimizer=report.optimizer)

    @pytest.mark.parametrize(("name", "per_parameter"), [("adamw", 15), ("adam", 14), ("sgd_momentum", 4), ("sgd", 2)])
    def test_optimizers(self, counter: FLOPsCounter, name: str, per_parameter: int) -> None:
        parameters = sum(parameter.numel() for parameter in counter.model.parameters())
        assert counter.count_optimizer_flops(name).optimizer == per_parameter * parameters
        assert counter.count_total_flops(optimizer_name=name).optimizer == per_parameter * parameters

    def test_a_model_that_changed_is_counted_anew(self, counter: FLOPsCounter) -> None:
        before = counter.count_total_flops()
        counter.model.requires_grad_(False)
        assert counter.count_total_flops() == FLOPsCount(forward=before.forward)


class TestBreakdown:
    def test_it_needs_no_earlier_call_and_adds_up_to_the_totals(self, counter: FLOPsCounter) -> None:
        breakdown = counter.get_breakdown()
        total = counter.count_total_flops()
        assert list(breakdown) == COMPONENTS
        for phase in ("forward", "backward", "optimizer", "total"):
            assert sum(part[phase] for part in breakdown.values()) == getattr(total, phase)

    def test_any_model_of_token_ids(self) -> None:
        class Wrapped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.transformer = nn.ModuleDict({"wte": nn.Embedding(9, 4)})
                self.transformer["h"] = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
                self.lm_head = nn.Linear(4, 9, bias=False)
                self.lm_head.weight = self.transformer["wte"].weight

            def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
                x = self.transformer["wte"](input_ids)
                for layer in self.transformer["h"]:
                    x = x + layer(x)
                return {"logits": self.lm_head(x)}

        counter = FLOPsCounter(Wrapped(), 2, 3)
        breakdown = counter.get_breakdown()
        assert {"transformer.wte", "layer_0", "layer_1", "lm_head"} <= set(breakdown)
        assert sum(part["total"] for part in breakdown.values()) == counter.count_total_flops().total

    def test_a_language_model_as_well(self) -> None:
        model = LanguageModel(vocab_size=50, d_model=8, n_layers=2, n_seq=6)
        assert list(FLOPsCounter(model, 3, 6).get_breakdown()) == COMPONENTS


class TestSizesAndParts:
    def test_the_sizes_are_attributes(self, counter: FLOPsCounter) -> None:
        sizes = counter.d_model, counter.n_layers, counter.vocab_size, counter.num_experts, counter.top_k
        assert sizes == (8, 2, 50, 4, 1)

    def test_a_linear_layer_is_two_flops_a_product_forward_and_four_backward(self, counter: FLOPsCounter) -> None:
        assert counter.count_linear_flops(8, 16) == FLOPsCount(2 * 3 * 6 * 8 * 16, 4 * 3 * 6 * 8 * 16)

    def test_parts_are_those_of_the_first_block(self, counter: FLOPsCounter) -> None:
        report = counter.report()

        def part(path: str) -> FLOPsCount:
            return FLOPsCount(report.by_module("forward")[path], report.by_module("backward")[path])

        assert counter.count_embedding_flops() == part("embedding")
        assert counter.count_bk_core_flops() == part("blocks.0.bk_layer.bk_core")
        assert counter.count_moe_flops() == part("blocks.0.bk_layer.moe_ffn")
        assert counter.count_layernorm_flops() == part("blocks.0.layer_norm") == part("final_layernorm")
        assert counter.count_output_projection_flops() == part("blocks.0.bk_layer.output_proj")
        assert counter.count_lm_head_flops() == part("lm_head") == counter.count_linear_flops(8, 50)

    def test_missing_parts_of_a_model_are_none_or_reported(self) -> None:
        counter = FLOPsCounter(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), 2, 3)
        sizes = counter.d_model, counter.n_layers, counter.vocab_size, counter.num_experts, counter.top_k
        assert sizes == (4, None, 9, None, None)
        with pytest.warns(UserWarning, match="Sequential has no mixture of experts"):
            assert counter.count_moe_flops() == FLOPsCount()

    def test_sizes_are_read_from_a_config_as_others_spell_them(self) -> None:
        class Config:
            hidden_size, num_hidden_layers, vocab_size = 4, 7, 9
            top_k = 50  # of sampling, not of experts

        model = nn.Embedding(9, 4)
        model.config = Config()
        counter = FLOPsCounter(model, 2, 3)
        assert (counter.d_model, counter.n_layers, counter.vocab_size, counter.top_k) == (4, 7, 9, None)

    def test_experts_of_others(self) -> None:
        class Mixture(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.router, self.num_experts_per_tok = nn.Linear(4, 3), 2
                self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return sum(expert(x) for expert in self.experts) * self.router(x).sum()

        counter = FLOPsCounter(nn.Sequential(nn.Embedding(9, 4), Mixture()), 2, 3)
        assert (counter.num_experts, counter.top_k) == (3, 2)
        assert counter.count_moe_flops().forward == counter.report().by_module()["1"]

    def test_components_are_counts_by_name(self, counter: FLOPsCounter) -> None:
        assert list(counter.component_flops) == COMPONENTS
        assert sum(counter.component_flops.values()) == counter.count_total_flops()


class TestOutput:
    def test_the_summary(self, counter: FLOPsCounter, capsys: pytest.CaptureFixture[str]) -> None:
        counter.print_summary()
        out = capsys.readouterr().out
        total = counter.count_total_flops()
        for message in (
            *COMPONENTS,
            "ConfigurableResNetBK",
            f"{total.total:,}",
            f"{total.backward:,}",
            "0 unsupported",
        ):
            assert message in out
        for heading in ("FLOPs Counter Summary", "Forward Pass:", "Backward Pass:", "Optimizer Step:"):
            assert heading in out

    def test_the_summary_and_the_json_of_another_optimizer(
        self, counter: FLOPsCounter, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        sgd = counter.count_total_flops(optimizer_name="sgd")
        counter.print_summary(optimizer_name="sgd")
        assert f"{sgd.total:,}" in capsys.readouterr().out
        counter.save_to_json(tmp_path / "count.json", optimizer_name="sgd")
        data = json.loads((tmp_path / "count.json").read_text())
        assert (data["optimizer"], data["total_flops"]) == ("sgd", sgd.to_dict())

    def test_the_json(self, counter: FLOPsCounter, tmp_path: Path) -> None:
        counter.save_to_json(tmp_path / "count.json")
        data = json.loads((tmp_path / "count.json").read_text())
        assert data["model_config"] == {
            "model": "ConfigurableResNetBK",
            "d_model": 8,
            "n_layers": 2,
            "vocab_size": 50,
            "num_experts": 4,
            "top_k": 1,
            "seq_len": 6,
            "batch_size": 3,
        }
        assert data["total_flops"] == counter.count_total_flops().to_dict()
        assert data["component_breakdown"] == counter.get_breakdown()
        assert (data["optimizer"], data["convention"], data["unit"]) == ("adamw", "standard", "FLOP")
        assert data["schema_version"] == 1

    def test_json_that_cannot_be_written(self, counter: FLOPsCounter, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot write"):
            counter.save_to_json(tmp_path / "nowhere" / "count.json")


class TestComparison:
    def test_both_counts_by_name_and_how_much_less_the_second_needs(self, capsys: pytest.CaptureFixture[str]) -> None:
        shallow, deep = tiny(), tiny(n_layers=4)
        compared = compare_models(deep, shallow, 3, 6, model1_name="deep", model2_name="shallow")
        counts = {"deep": FLOPsCounter(deep, 3, 6), "shallow": FLOPsCounter(shallow, 3, 6)}
        for name, counter in counts.items():
            assert compared[name] == counter.count_total_flops()
        for phase in ("forward", "backward", "total"):
            assert compared["speedup"][phase] == compared["deep"][phase] / compared["shallow"][phase] > 1
        out = capsys.readouterr().out
        assert "deep" in out
        assert "shallow" in out
        assert f"{compared['deep'].total:,}" in out
        assert out.startswith("Model Comparison")
        assert out.splitlines()[-1].startswith("Speedup: ")

    def test_a_frozen_model_has_no_backward_to_be_faster_in(self) -> None:
        frozen = tiny().requires_grad_(False)
        speedup = compare_models(tiny(), frozen, 3, 6)["speedup"]
        assert speedup["backward"] == float("inf")

    def test_two_models_need_two_names(self) -> None:
        with pytest.raises(UsageError, match="two different names"):
            compare_models(tiny(), tiny(), 3, 6, model1_name="a", model2_name="a")


class TestWhenSomethingIsWrong:
    @pytest.mark.parametrize(
        ("batch", "length", "message"),
        [(0, 6, "batch_size"), (3, 0, "seq_len"), (1.5, 6, "batch_size"), (True, 6, "batch_size")],
    )
    def test_sizes(self, batch: int, length: int, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            FLOPsCounter(tiny(), batch, length)

    def test_a_length_that_the_model_does_not_take(self) -> None:
        with pytest.raises(CaptureError, match=r"n_seq") as caught:
            FLOPsCounter(tiny(), 3, 7).count_total_flops()
        assert "int64(3, 7)" in str(caught.value)

    def test_a_model_of_something_else_is_told_what_it_was_fed(self) -> None:
        with pytest.raises(CaptureError, match="token ids"):
            FLOPsCounter(nn.Conv2d(3, 3, 3), 3, 7).count_total_flops()

    def test_not_a_model(self) -> None:
        with pytest.raises(UsageError, match=r"torch.nn.Module"):
            FLOPsCounter("model", 3, 7)

    def test_an_optimizer_that_is_not_known(self, counter: FLOPsCounter) -> None:
        with pytest.raises(UsageError, match="adam, adamw, sgd, sgd_momentum"):
            counter.count_optimizer_flops("lion")
