"""Every flag of the configuration is real: it builds, trains, is captured, and costs what autograd dispatches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from graphflops import Report, Work, analyze
from graphflops.analysis.mac_counter import count_macs
from graphflops.models import (
    BASELINE_CONFIG,
    FULL_CONFIG,
    STEP2_CONFIG,
    STEP4_CONFIG,
    STEP5_CONFIG,
    STEP6_CONFIG,
    ConfigurableResNetBK,
    ResNetBKConfig,
)
from graphflops.models.configuration import FLAGS, STEPS

B, N, V = 3, 16, 40
SMALL = {"vocab_size": V, "d_model": 8, "n_layers": 4, "n_seq": N, "koopman_dim": 12}
PRESETS = [BASELINE_CONFIG, STEP2_CONFIG, STEP4_CONFIG, STEP5_CONFIG, STEP6_CONFIG, FULL_CONFIG]
ON_A_STEP_ALONE = ("use_curriculum_learning", "use_active_learning", "use_gradient_caching")
SAME_WORK = ("use_mixed_precision", "use_custom_kernels", *ON_A_STEP_ALONE)


def small(config: ResNetBKConfig, **changes: object) -> ResNetBKConfig:
    return replace(config, **{**SMALL, **changes})


def turned(flag: str, **changes: object) -> ResNetBKConfig:
    return small(BASELINE_CONFIG, **{flag: not getattr(BASELINE_CONFIG, flag)}, **changes)


def model(config: ResNetBKConfig) -> ConfigurableResNetBK:
    torch.manual_seed(0)
    return ConfigurableResNetBK(config)


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(0, V, (B, N), generator=torch.Generator().manual_seed(seed))


def step(config: ResNetBKConfig, **options: object) -> Report:
    with torch.device("meta"):
        return analyze(ConfigurableResNetBK(config), (torch.empty(B, N, dtype=torch.int64),), **options)


CONFIGS = [
    *(pytest.param(turned(flag), id=flag) for flag in FLAGS),
    pytest.param(turned("use_scattering_router", use_birman_schwinger=True, use_quantization=True), id="physics"),
    *(pytest.param(small(config), id=name) for name, config in zip(STEPS, PRESETS, strict=True)),
]


@pytest.mark.sampled(7)
@pytest.mark.parametrize("config", CONFIGS)
class TestEachConfiguration:
    def test_trains_every_parameter_that_is_trained_at_all(self, config: ResNetBKConfig) -> None:
        config = replace(config, top_k=config.experts_left)  # so that every expert has a token
        net = model(config)
        loss = net(tokens(), tokens(1))
        loss.backward()
        assert loss.isfinite()
        for name, parameter in net.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
            assert parameter.grad is None or parameter.grad.isfinite().all(), name

    def test_costs_the_multiply_adds_that_autograd_dispatches(self, config: ResNetBKConfig) -> None:
        report, net = step(config), model(config)
        dispatched = count_macs(net, (tokens(),))
        assert report.coverage.unknown == 0
        assert report.macs == dispatched.forward
        assert report.work("backward").macs + report.work("recompute").macs == dispatched.backward

    def test_is_the_same_on_real_tensors(self, config: ResNetBKConfig) -> None:
        real = analyze(model(config), (tokens(),))
        assert [entry.work for entry in real.entries] == [entry.work for entry in step(config).entries]

    def test_answers_in_eval(self, config: ResNetBKConfig) -> None:
        with torch.no_grad():
            assert model(config).eval()(tokens()).shape == (B, N, V)


def test_the_full_model_learns() -> None:
    net = model(small(FULL_CONFIG, dropout=0.0))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-2)
    losses = []
    for _ in range(20):
        loss = net(tokens(), tokens())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("flag", SAME_WORK)
def test_options_without_work_change_no_work(flag: str) -> None:
    assert step(turned(flag)).work("total") == step(small(BASELINE_CONFIG)).work("total")


def test_checkpointing_adds_what_runs_again_and_nothing_else() -> None:
    plain, report = step(small(BASELINE_CONFIG)), step(turned("use_gradient_checkpointing"))
    for phase in ("forward", "dgrad", "wgrad", "optimizer"):
        assert report.work(phase) == plain.work(phase)
    assert 0 < report.recompute < sum(plain.by_module()[f"blocks.{i}"] for i in range(4))


class TestDtypes:
    def test_mixed_precision_multiplies_in_bfloat16(self) -> None:
        plain, mixed = step(small(BASELINE_CONFIG)), step(turned("use_mixed_precision"))
        for phase in ("forward", "backward"):
            assert (
                plain.by_dtype(phase)["float32"].macs
                == mixed.by_dtype(phase)["bfloat16"].macs
                == plain.work(phase).macs
            )
            assert mixed.by_dtype(phase)["float32"].macs == 0
            assert sum(mixed.by_dtype(phase).values()) == mixed.work(phase)
        assert mixed.by_dtype("optimizer") == {"float32": mixed.work("optimizer")}

    def test_the_custom_kernel_is_in_single_precision(self) -> None:
        single, double = step(turned("use_custom_kernels")), step(small(BASELINE_CONFIG))
        core = 34 * B * N * 4
        at = {entry.dtype: entry for entry in single.entries if entry.operator == "bk_core_single"}
        assert list(at) == ["float32"]
        assert sum(single.work("forward").counts()) == sum(double.work("forward").counts())
        lost = sum(double.by_dtype()["float64"].counts()) - sum(single.by_dtype()["float64"].counts())
        assert lost >= core

    @pytest.mark.parametrize("bits", [4, 8])
    def test_integers_have_the_width_that_is_asked_for(self, bits: int) -> None:
        report = step(turned("use_quantization", quantization_bits=bits))
        integers = report.work("forward").integer
        assert report.by_dtype()[f"int{bits}"] == Work(integer=integers)
        assert integers == 2 * B * N * (4 * (2 * 8 * 16) + 8 * V)  # experts of four layers, and the head
        assert report.work("backward").macs == step(small(BASELINE_CONFIG)).work("backward").macs

    def test_survive_a_round_trip_by_json(self, tmp_path) -> None:
        report = step(turned("use_quantization"))
        loaded = Report.from_json(report.to_json(tmp_path / "report.json"))
        assert loaded.by_dtype("total") == report.by_dtype("total")

    def test_a_comparison_is_of_the_dtype_that_it_reads(self) -> None:
        report = analyze(lambda x: x > 0, (torch.zeros(4, dtype=torch.float64),))
        assert list(report.by_dtype()) == ["float64"]


class TestTwins:
    def test_pruned_experts_are_a_model_built_with_fewer(self) -> None:
        pruned = step(turned("use_pruning", pruned_experts=2))
        assert pruned.entries == step(small(BASELINE_CONFIG, num_experts=2)).entries

    def test_a_teacher_is_the_plain_model_in_eval_and_gets_no_gradient(self) -> None:
        report = step(turned("use_distillation"))
        with torch.device("meta"):
            teacher = ConfigurableResNetBK(small(BASELINE_CONFIG)).eval()
            alone = analyze(teacher, (torch.empty(B, N, dtype=torch.int64),), training=False)
        path = "distillation.teacher"
        assert report.by_module()[path] == alone.forward
        assert [report.by_module(phase)[path] for phase in ("backward", "recompute", "optimizer")] == [0, 0, 0]

    def test_koopman_stands_in_for_the_layers_in_eval(self) -> None:
        d, k = SMALL["d_model"], SMALL["koopman_dim"]
        with torch.device("meta"):
            net = ConfigurableResNetBK(turned("use_koopman")).eval()
            report = analyze(net, (torch.empty(B, N, dtype=torch.int64),), training=False)
        layers = (2 * d * k + 2 * k * k) * B * N * 4
        assert report.macs == layers + B * N * d * V
        assert not any(entry.path.endswith("moe_ffn") for entry in report.entries if entry.work)

    def test_scales_halve_the_work_of_the_middle_layers(self) -> None:
        scaled, plain = step(turned("use_multi_scale")), step(small(BASELINE_CONFIG))
        full = plain.by_module()["blocks.1.bk_layer"]
        assert scaled.by_module()["blocks.1.bk_layer.layer"] == full // 2
        assert scaled.by_module()["blocks.0"] == plain.by_module()["blocks.0"]

    def test_a_model_of_six_layers_has_a_quarter_of_the_sequence_in_the_middle(self) -> None:
        assert turned("use_multi_scale", n_layers=6).scales == (1, 2, 4, 4, 2, 1)

    @pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
    def test_sparsity_takes_a_share_of_the_resolvent(self, share: float) -> None:
        report = step(turned("use_learned_sparsity", sparsity_share=share))
        assert report.by_operator()["bk_core"] == 34 * B * round(share * N) * 4

    def test_halting_units_are_the_only_multiply_adds_that_adaptive_computation_adds(self) -> None:
        adaptive, plain = step(turned("use_adaptive_computation")), step(small(BASELINE_CONFIG))
        d = SMALL["d_model"]
        assert adaptive.macs - plain.macs == 3 * B * N * (d * d // 2 + d // 2)
        assert adaptive.by_module()["blocks"] == plain.by_module()["blocks"]
        assert any("adaptive.py" in assumption for assumption in adaptive.assumptions)

    def test_autograd_through_the_recursion_costs_more_than_the_analytic_gradient(self) -> None:
        through, analytic = step(turned("use_analytic_gradient")), step(small(BASELINE_CONFIG))
        assert analytic.by_operator("backward")["bk_core"] == 26 * B * N * 4
        assert through.backward > analytic.backward
        assert through.macs == analytic.macs


class TestLosses:
    def test_targets_give_the_cross_entropy(self) -> None:
        net = model(small(BASELINE_CONFIG)).eval()
        expected = torch.nn.functional.cross_entropy(net(tokens()).flatten(0, 1), tokens(1).flatten())
        torch.testing.assert_close(net(tokens(), tokens(1)), expected)

    def test_targets_of_another_shape_are_refused(self) -> None:
        with pytest.raises(ValueError, match="targets must be"):
            model(small(BASELINE_CONFIG))(tokens(), tokens()[:, :-1])

    def test_the_loss_is_counted_when_targets_are_given(self) -> None:
        config = small(BASELINE_CONFIG)
        with torch.device("meta"):
            ids = torch.empty(B, N, dtype=torch.int64)
            report = analyze(ConfigurableResNetBK(config), (ids, ids))
        assert report.macs == step(config).macs
        assert report.forward > step(config).forward
        assert report.coverage.unknown == 0

    @pytest.mark.parametrize(
        ("flag", "path"),
        [("use_koopman", "bk_layer.koopman"), ("use_physics_informed", "bk_layer.energy")],
    )
    def test_terms_of_their_own_reach_their_parameters_through_logits_alone(self, flag: str, path: str) -> None:
        net = model(turned(flag))
        net(tokens()).sum().backward()
        grads = [parameter.grad for name, parameter in net.named_parameters() if path in name and "bias" not in name]
        assert grads
        assert all(grad is not None and grad.any() for grad in grads)
        assert step(turned(flag)).by_module("backward")[f"blocks.0.{path}"] > 0


class TestShorterSequences:
    def test_are_taken_with_a_curriculum(self) -> None:
        net = model(turned("use_curriculum_learning", use_multi_scale=True, use_learned_sparsity=True))
        assert net(tokens()[:, :8]).shape == (B, 8, V)

    @pytest.mark.parametrize("length", [7, 18])
    def test_have_to_fit_the_scales(self, length: int) -> None:
        net = model(turned("use_curriculum_learning", use_multi_scale=True))
        with pytest.raises(ValueError, match="fewer in steps of 2"):
            net(torch.zeros(B, length, dtype=torch.int64))
