"""ResNet-BK baseline, batch 32, sequence 128: the published hand count, part by part, to the last FLOP."""

from itertools import pairwise

import pytest
import torch

import graphflops
from graphflops import FLOPsCounter, Report
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

B, N, D, V, E, K, L = 32, 128, 64, 30_000, 4, 1, 4


def step(n: int = N, batch: int = B, **options: object) -> Report:
    tokens = torch.empty(batch, n, dtype=torch.int64, device="meta")
    return graphflops.analyze(ConfigurableResNetBK(ResNetBKConfig(n_seq=n)), (tokens,), **options)


@pytest.fixture(scope="module")
def report() -> Report:
    return step()


def backward_of(report: Report, path: str, operator: str) -> int:
    return report.by_module_and_operator("backward")[path][operator]


def part_of(report: Report, path: str, part: str, *phases: str) -> int:
    entries = [entry for entry in report.select(path) if entry.part == part]
    works = [work for entry in entries for phase, work in entry.work.items() if phase in phases]
    return sum(int(report.convention.flops(work)) for work in works)


def test_embedding_adds_token_and_position(report: Report) -> None:
    assert report.by_module()["embedding"] == 262_144
    assert report.by_module("backward")["embedding.token"] == 262_144


@pytest.mark.parametrize("layer", range(L))
class TestEachLayer:
    def test_layer_norm(self, report: Report, layer: int) -> None:
        assert report.by_module()[f"blocks.{layer}.layer_norm"] == 1_310_720
        assert report.by_module("backward")[f"blocks.{layer}.layer_norm"] == 1_310_720

    def test_moe_is_gate_and_softmax_and_experts(self, report: Report, layer: int) -> None:
        path = f"blocks.{layer}.bk_layer.moe_ffn"
        forward = {part: part_of(report, path, part, "forward") for part in ("gate", "softmax", "experts")}
        backward = {part: part_of(report, path, part, "dgrad", "wgrad") for part in forward}
        assert forward == {"gate": 2_097_152, "softmax": 49_152, "experts": 134_742_016}
        assert sum(forward.values()) == 136_888_320
        assert sum(backward.values()) == 273_776_640

    def test_bk_core(self, report: Report, layer: int) -> None:
        path = f"blocks.{layer}.bk_layer.bk_core"
        assert report.by_module_and_operator()[path]["bk_core"] == 139_264
        assert backward_of(report, path, "bk_core") == 106_496

    def test_output_projection(self, report: Report, layer: int) -> None:
        assert report.by_module()[f"blocks.{layer}.bk_layer.output_proj"] == 1_048_576
        assert report.by_module("backward")[f"blocks.{layer}.bk_layer.output_proj"] == 2_097_152


def test_final_layer_norm(report: Report) -> None:
    assert report.by_module()["final_layernorm"] == 1_310_720
    assert report.by_module("backward")["final_layernorm"] == 1_310_720


def test_lm_head(report: Report) -> None:
    assert report.by_module()["lm_head"] == 15_728_640_000
    assert report.by_module("backward")["lm_head"] == 31_457_280_000


def test_optimizer(report: Report) -> None:
    assert sum(report.parameters.values()) == 4_146_120
    assert report.optimizer == 62_191_800
    assert step(optimizer="sgd").optimizer == 8_292_240


def test_every_op_is_counted_or_zero_by_rule(report: Report) -> None:
    assert report.coverage.unknown == 0
    assert report.coverage.counted > 0
    assert not report.unsupported_ops()
    assert not report.uncalled_modules()


def test_the_summary_reads_as_published(report: Report) -> None:
    readings = [f"{flops / 1e9:.1f}" for flops in (report.forward, report.backward, report.total)]
    assert readings == ["16.3", "32.6", "48.9"]
    assert f"{report.optimizer / 1e9:.2f}" == "0.06"
    for phase in ("forward", "backward", "total"):
        components = report.by_component(phase)
        assert f"{100 * components['lm_head'] / sum(components.values()):.1f}" in ("96.5", "96.6")
        for layer in range(L):
            assert f"{100 * components[f'layer_{layer}'] / sum(components.values()):.1f}" == "0.9"


def test_forward_and_backward_double_with_the_sequence_length() -> None:
    lengths = [128, 256, 512, 1024, 2048]
    reports = [step(n) for n in lengths]
    for shorter, longer in pairwise(reports):
        assert longer.forward == 2 * shorter.forward
        assert longer.backward == 2 * shorter.backward
        bk_scale = L * 1  # a sum of B·N·D products has B·N·D − 1 additions
        assert longer.under("exact").backward == 2 * shorter.under("exact").backward + bk_scale


def test_ten_thousand_steps_scale_the_count() -> None:
    count = FLOPsCounter(ConfigurableResNetBK(ResNetBKConfig()), B, N).count_total_flops()
    assert (count * 10_000).total == 10_000 * count.total


def test_with_autograd_through_the_recursion_every_step_of_it_is_counted() -> None:
    config = ResNetBKConfig(n_seq=16, n_layers=1, use_analytic_gradient=False)
    tokens = torch.empty(2, 16, dtype=torch.int64, device="meta")
    report = graphflops.analyze(ConfigurableResNetBK(config), (tokens,))
    path = "blocks.0.bk_layer.bk_core"
    assert report.coverage.unknown == 0
    assert report.by_module()[path] > 34 * 2 * 16  # a scaled recursion does more than the textbook's
    assert report.by_module("backward")[path] > 26 * 2 * 16
