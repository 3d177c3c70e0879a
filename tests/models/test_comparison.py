"""From one model to another: what each flag or component adds or saves, adding up exactly to the difference."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import Cost, FLOPsCount, FLOPsCounter, NotSupported, UsageError, analyze, compare_models, rule
from graphflops.analysis.rates import measure
from graphflops.cli import main
from graphflops.models import BASELINE_CONFIG, FULL_CONFIG, ConfigurableResNetBK, ResNetBKConfig, TransformerLM
from graphflops.models.flops_count import PhaseCounts
from graphflops.models.length_sweep import length_sweep
from graphflops.models.training_run import step_report, training_run_cost
from graphflops.models.waterfall import Waterfall, difference, intermediate_configs, print_waterfall, waterfall
from graphflops.report.terminal import text_of

SMALL = {"vocab_size": 40, "d_model": 8, "n_layers": 2, "n_seq": 8, "koopman_dim": 12}
BASELINE, FULL = replace(BASELINE_CONFIG, **SMALL), replace(FULL_CONFIG, **SMALL)
OPTIONS = "vocab_size=40,d_model=8,n_layers=2,n_seq=8"


def tokens(batch: int = 3, length: int = 8) -> torch.Tensor:
    return torch.empty(batch, length, dtype=torch.int64, device="meta")


@pytest.fixture(scope="module")
def between() -> Waterfall:
    return waterfall(BASELINE, FULL, 3, names=("BASELINE", "FULL"))


class TestWaterfall:
    def test_goes_flag_by_flag_from_one_model_to_the_other(self, between: Waterfall) -> None:
        assert between.start == PhaseCounts.of(analyze(ConfigurableResNetBK(BASELINE), (tokens(),)), integer=True)
        assert between.end == PhaseCounts.of(analyze(ConfigurableResNetBK(FULL), (tokens(),)), integer=True)
        assert [step.name for step in between.steps] == [
            name for name in vars(FULL) if getattr(FULL, name) != getattr(BASELINE, name)
        ]

    def test_adds_up_in_every_phase(self, between: Waterfall) -> None:
        changes = [step.change for step in between.steps]
        assert between.start + sum(changes, PhaseCounts()) == between.end
        assert sum(changes, PhaseCounts()) == between.difference
        for phase in ("forward", "backward", "optimizer", "total", "integer"):
            assert (
                sum(change.to_dict(integer=True)[phase] for change in changes)
                == between.difference.to_dict(integer=True)[phase]
            )

    def test_a_bar_is_the_flag_alone(self) -> None:
        (bar,) = waterfall(BASELINE, replace(BASELINE, use_distillation=True), 3).steps
        teacher = analyze(ConfigurableResNetBK(BASELINE).eval(), (tokens(),), training=False).forward
        assert bar.name == "use_distillation"
        assert teacher < bar.change.forward < teacher + 20 * 3 * 8 * 40  # and the divergence of the logits
        assert bar.change.optimizer == 0

    def test_integers_stand_beside_what_is_saved(self) -> None:
        (bar,) = waterfall(BASELINE, replace(BASELINE, use_quantization=True), 3).steps
        assert bar.change.forward < 0 < bar.change.integer

    def test_sizes_change_first(self) -> None:
        names = [name for name, _ in intermediate_configs(BASELINE, replace(FULL, d_model=16, n_layers=4))]
        assert names[0] == "d_model, n_layers"

    def test_what_is_not_possible_alone_waits(self) -> None:
        start = replace(BASELINE, use_analytic_gradient=False)
        end = replace(BASELINE, use_custom_kernels=True)
        assert [name for name, _ in intermediate_configs(end, start)] == ["use_custom_kernels", "use_analytic_gradient"]
        assert [name for name, _ in intermediate_configs(start, end)] == ["use_analytic_gradient", "use_custom_kernels"]

    def test_what_is_possible_only_together_comes_together(self) -> None:
        odd = ResNetBKConfig(**{**SMALL, "n_layers": 3, "n_seq": 7})
        even = replace(odd, n_seq=8, use_multi_scale=True, n_layers=4, top_k=4)
        assert list(intermediate_configs(odd, even))[-1][1] == even
        start = replace(even, top_k=4, num_experts=4)
        together = list(
            intermediate_configs(start, replace(start, top_k=1, num_experts=1, n_seq=9, use_multi_scale=False))
        )
        assert together[-1][1].n_seq == 9

    def test_between_a_model_and_itself_there_is_nothing(self) -> None:
        between = waterfall(FULL, FULL, 3)
        assert between.steps == ()
        assert between.difference == PhaseCounts()

    def test_reads_as_a_table(self, between: Waterfall) -> None:
        printed = text_of(lambda console: print_waterfall(between, console), 100)
        assert printed.startswith("from BASELINE to FULL, ")
        assert "use_gradient_checkpointing" in printed
        assert "+" in printed
        assert "−" in printed

    def test_is_of_any_convention(self) -> None:
        end = replace(BASELINE, use_koopman=True)
        exact = waterfall(BASELINE, end, 3, convention="exact", optimizer=None)
        assert exact.convention == "exact"
        assert exact.difference.backward != waterfall(BASELINE, end, 3).difference.backward
        assert exact.difference.optimizer == 0


class TestRates:
    def test_hold_where_sequences_skip_layers(self) -> None:
        adaptive = replace(BASELINE, use_adaptive_computation=True)
        full, half = (waterfall(BASELINE, adaptive, 3, rates=rates) for rates in (None, {"blocks.1.*": 0.5}))
        assert half.start == full.start
        saved = full.end.forward - half.end.forward
        layer = analyze(ConfigurableResNetBK(adaptive), (tokens(),)).by_module()["blocks.1"]
        assert abs(saved - layer // 2) <= 20  # counts are rounded down, each by itself
        assert half.steps[0].change.forward < 0 < full.steps[0].change.forward

    def test_hold_over_a_run_too(self) -> None:
        config = replace(BASELINE, use_adaptive_computation=True, use_active_learning=True)
        full, none = (training_run_cost(config, 2, 3, rates=rates) for rates in (None, {"blocks.1.*": 0}))
        assert none.forward < full.forward

    def test_are_refused_where_nothing_is_skipped(self) -> None:
        with pytest.raises(UsageError, match="use_adaptive_computation"):
            waterfall(BASELINE, replace(BASELINE, use_koopman=True), 3, rates={"blocks.1.*": 0.5})

    def test_rate_zero_leaves_the_decision(self) -> None:
        model = ConfigurableResNetBK(replace(BASELINE, use_adaptive_computation=True))
        full, none = (analyze(model, (tokens(),), rates=rates) for rates in (None, {"blocks": 0}))
        assert none.by_module()["blocks"] == 0
        assert none.by_module()["halting"] == full.by_module()["halting"] > 0

    def test_one_changes_nothing(self) -> None:
        model = ConfigurableResNetBK(replace(BASELINE, use_adaptive_computation=True))
        full, one = (analyze(model, (tokens(),), rates=rates) for rates in (None, {"blocks": 1}))
        assert [entry.work for entry in one.entries] == [entry.work for entry in full.entries]

    def test_are_measured(self) -> None:
        model = ConfigurableResNetBK(replace(BASELINE, use_adaptive_computation=True, n_layers=4)).eval()
        rates = measure(model, [torch.randint(0, 40, (3, 8))])
        assert set(rates) <= {path for path, _ in model.named_modules() if path.startswith(("blocks.", "halting"))}
        assert any(path.startswith("blocks.3") for path in rates)


class TestCompareModels:
    def test_has_the_waterfall_of_two_configurations(self, capsys: pytest.CaptureFixture[str]) -> None:
        config = replace(BASELINE, use_koopman=True, use_multi_scale=True)
        one, other = ConfigurableResNetBK(BASELINE), ConfigurableResNetBK(config)
        compared = compare_models(one, other, 3, 8, model1_name="plain", model2_name="full")
        assert compared["waterfall"].start.flops == compared["plain"] == FLOPsCounter(one, 3, 8).count_total_flops()
        assert compared["waterfall"].end.flops == compared["full"]
        assert "use_koopman" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(lambda: ConfigurableResNetBK(replace(BASELINE, d_model=16)), id="sizes alone"),
            pytest.param(
                lambda: ConfigurableResNetBK(replace(BASELINE, use_koopman=True)).requires_grad_(False),
                id="frozen since",
            ),
            pytest.param(lambda: TransformerLM(vocab_size=40, d_model=8, n_layers=2, n_seq=8), id="another model"),
        ],
    )
    def test_has_none_where_flags_do_not_tell_the_difference(self, other) -> None:
        compared = compare_models(ConfigurableResNetBK(BASELINE), other(), 3, 8)
        assert set(compared) == {"Model 1", "Model 2", "speedup"}

    def test_no_model_is_called_waterfall(self) -> None:
        model = ConfigurableResNetBK(BASELINE)
        with pytest.raises(UsageError, match="expected two different names"):
            compare_models(model, model, 3, 8, model1_name="waterfall")


class TestDifference:
    def test_goes_component_by_component(self) -> None:
        one, other = (
            analyze(ConfigurableResNetBK(replace(BASELINE, n_layers=layers)), (tokens(),)) for layers in (2, 3)
        )
        between = difference(one, other)
        changes = {step.name: step.change for step in between.steps}
        assert changes["layer_0"] == changes["lm_head"] == PhaseCounts()
        assert changes["layer_2"].forward == other.by_component()["layer_2"]
        assert between.difference == PhaseCounts.of(other, integer=True) - PhaseCounts.of(one, integer=True)

    @pytest.mark.parametrize("rows", [{"depth": 1}, {"depth": 3}, {"by": "role"}])
    def test_goes_by_level_or_role(self, rows: dict[str, Any]) -> None:
        one, other = (
            analyze(ConfigurableResNetBK(replace(BASELINE, n_layers=layers)), (tokens(),)) for layers in (2, 3)
        )
        changes = {step.name: step.change.forward for step in difference(one, other, **rows).steps}
        assert sum(changes.values()) == other.forward - one.forward
        if "by" in rows:
            assert changes["norm"] == other.by_role()["norm"] - one.by_role()["norm"] > 0
        else:
            before, after = one.by_module(), other.by_module()
            paths = {name for name in changes if name.count(".") == rows["depth"] - 1 and name != "other"}
            assert paths
            assert all(changes[path] == after[path] - before.get(path, 0) for path in paths)

    @pytest.mark.parametrize("rows", [{"depth": 0}, {"depth": True}, {"by": "layer"}, {"by": "role", "depth": 1}])
    def test_refuses_other_levels(self, rows: dict[str, Any]) -> None:
        report = analyze(nn.Linear(2, 2), (torch.zeros(1, 2),))
        with pytest.raises(UsageError):
            difference(report, report, **rows)

    def test_equal_changes_of_blocks_are_one_row_that_fits(self) -> None:
        one, other = (
            analyze(ConfigurableResNetBK(replace(BASELINE, n_layers=12, d_model=width)), (tokens(),))
            for width in (8, 16)
        )
        lines = text_of(lambda console: print_waterfall(difference(one, other), console), 80).splitlines()
        assert [line.split()[:2] for line in lines if "layer_" in line] == [["layer_0–11", "×12"]]
        assert max(map(len, lines)) <= 80

    def test_is_of_one_convention(self) -> None:
        report = analyze(ConfigurableResNetBK(BASELINE), (tokens(),))
        with pytest.raises(UsageError, match="exact"):
            difference(report, report.under("exact"))


class TestARun:
    def test_is_as_many_steps_where_no_option_says_otherwise(self) -> None:
        assert training_run_cost(BASELINE, 7, 3) == 7 * PhaseCounts.of(step_report(BASELINE, 3), integer=True)

    def test_a_curriculum_makes_its_steps_on_shorter_sequences(self) -> None:
        config = replace(BASELINE, use_curriculum_learning=True)
        model = ConfigurableResNetBK(config)
        steps = [PhaseCounts.of(analyze(model, (tokens(length=length),)), integer=True) for length in (2, 4, 6, 8)]
        assert training_run_cost(config, 12, 3) == 3 * sum(steps, PhaseCounts())

    @pytest.mark.parametrize(("steps", "gradients"), [(1, 1), (2, 1), (7, 4)])
    def test_cached_gradients_leave_the_optimizer_its_work(self, steps: int, gradients: int) -> None:
        step = step_report(BASELINE, 3)
        run = training_run_cost(replace(BASELINE, use_gradient_caching=True), steps, 3)
        assert run.flops == FLOPsCount(gradients * step.forward, gradients * step.backward, steps * step.optimizer)

    def test_active_learning_looks_at_a_pool_before_each_gradient(self) -> None:
        chosen = training_run_cost(replace(BASELINE, use_active_learning=True), 5, 3, pool=4)
        plain = training_run_cost(BASELINE, 5, 3)
        pool = analyze(ConfigurableResNetBK(BASELINE).eval(), (tokens(batch=12),), training=False).forward
        extra = chosen - plain
        assert (extra.backward, extra.optimizer) == (0, 0)
        entropy = 5 * 12 * 8 * 40  # for each number of each candidate, the entropy's work
        assert 5 * pool + 4 * entropy < extra.forward < 5 * pool + 9 * entropy

    @pytest.mark.parametrize("steps", [0, 1.5, True])
    def test_has_a_number_of_steps(self, steps: object) -> None:
        with pytest.raises(UsageError, match="steps must be"):
            training_run_cost(BASELINE, steps, 3)


class TestFamily:
    def test_is_linear_but_for_the_transformer(self) -> None:
        members = {curve.name: curve for curve in length_sweep([8, 16, 32], d_model=16, n_layers=1)}
        assert members["ResNet-BK"].growth == 1
        assert 0.98 < members["Mamba"].growth < 1  # the exponential of A is taken once a sequence
        assert members["Transformer"].growth > 1
        bits = [members["Transformer"].per_token(length) for length in (8, 16, 32)]
        assert (bits[2] - bits[1]) == 2 * (bits[1] - bits[0])  # a token's part of N² is N

    def test_says_what_the_claim_against_mamba_is_worth(self) -> None:
        members = {curve.name: curve for curve in length_sweep([8])}
        resnet_bk, all_experts, mamba = (
            members[name].per_token(8) for name in ("ResNet-BK", "ResNet-BK, all experts", "Mamba")
        )
        assert resnet_bk < mamba < all_experts

    @pytest.mark.parametrize("lengths", [[], [0], [1.5]])
    def test_has_lengths(self, lengths: list[object]) -> None:
        with pytest.raises(UsageError, match="lengths"):
            length_sweep(lengths)


class TestCommand:
    def test_prints_and_writes_the_waterfall(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "compared.json"
        arguments = ["--from", OPTIONS, "--to", f"{OPTIONS},use_quantization=1,use_pruning=1", "--batch", "3"]
        assert main(["compare", *arguments, "--json", str(file)]) == 0
        data = json.loads(file.read_text())
        assert data["first"]["total"] + sum(step["total"] for step in data["steps"]) == data["second"]["total"]
        assert (data["unit"], data["convention"], data["of"]) == ("FLOP", "standard", "a step")
        assert "use_quantization" in capsys.readouterr().out

    def test_compares_any_two_models_or_reports(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        saved = tmp_path / "saved.json"
        analyze(torch.nn.Softmax(-1), (torch.zeros(2, 4),)).to_json(saved)
        assert main(["compare", str(saved), "torch.nn:ReLU", "--input", "2x4"]) == 0
        printed = capsys.readouterr().out
        assert "from" in printed
        assert "torch.nn:ReLU" in printed

    def test_of_a_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["--from", OPTIONS, "--to", f"{OPTIONS},use_gradient_caching=true", "--batch", "3"]
        assert main(["compare", *arguments, "--steps", "10"]) == 0
        assert "10 steps" in capsys.readouterr().out

    def test_of_the_length_sweep(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compare", "--lengths", "8,16", "--json", str(tmp_path / "family.json")]) == 0
        assert "Transformer" in capsys.readouterr().out
        assert json.loads((tmp_path / "family.json").read_text())["members"][0]["name"] == "ResNet-BK"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["a:b"], "two models"),
            (["a:b", "c:d", "--lengths", "8"], "give no other models"),
            (["--input", "2x3"], "--batch and --seq"),
            (["--lengths", "eight"], "128,512,2048"),
            (["--to", "HUGE_CONFIG"], "no preset"),
            (["--to", "FULL_CONFIG,n_seq=7"], "n_seq must be a multiple of 2"),
            (["no_such_module:x", "no_such_module:y"], "no module"),
        ],
    )
    def test_describes_the_problem(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["compare", *arguments]) == 1
        assert message in capsys.readouterr().err


class TestWhatDoesNotCompare:
    """It is refused, or said beside the numbers."""

    def report(self, *, training: bool = True, rows: int = 2, optimizer: str | None = "adamw", **options):
        return analyze(
            nn.Sequential(nn.Linear(3, 4), nn.ReLU()),
            (torch.empty(rows, 3),),
            training=training,
            optimizer=optimizer,
            **options,
        )

    @pytest.mark.parametrize("optimizer", ["adamw", None])
    def test_a_training_step_and_a_forward_pass(self, optimizer: str | None) -> None:
        trained, other = self.report(optimizer=optimizer), self.report(training=False)
        with pytest.raises(UsageError, match="mine is the report of a training step and theirs of a forward pass"):
            difference(trained, other, names=("mine", "theirs"))
        with pytest.raises(UsageError, match="theirs is the report of a training step and mine of a forward pass"):
            difference(other, trained, names=("mine", "theirs"))

    def test_two_forward_passes_are_no_steps(self) -> None:
        between = difference(self.report(training=False), self.report(training=False))
        assert between.scope == "a forward pass"
        assert not between.notes

    def test_a_model_that_is_frozen_has_a_step_all_the_same(self) -> None:
        frozen = analyze(nn.Linear(3, 4).requires_grad_(False), (torch.empty(2, 3),))
        assert difference(self.report(), frozen).difference.backward < 0

    @pytest.mark.parametrize(
        ("other", "note"),
        [
            ({"rows": 5}, "the inputs differ: input float32(2, 3) and input float32(5, 3)"),
            ({"optimizer": "sgd"}, "the optimizers differ: adamw and sgd"),
            ({"optimizer": None}, "the optimizers differ: adamw and none"),
            ({"rates": {"0": 0.5}}, "only second has rates"),
        ],
    )
    def test_other_differences_are_reported(self, other, note: str) -> None:
        between = difference(self.report(), self.report(**other), names=("first", "second"))
        assert between.notes == (note,)
        assert f"note: {note}" in str(between)
        assert between.to_dict()["notes"] == [note]

    def test_a_lower_bound_is_called_one(self) -> None:
        @rule(nn.ReLU)
        def relu(input) -> Cost:
            raise NotSupported("not this one")

        unknown = self.report(training=False, rules=[relu])
        between = difference(self.report(training=False), unknown, names=("first", "second"))
        assert between.notes == ("second has 1 unsupported op: its numbers are lower bounds",)
        assert "1 op is unsupported, and in neither number" in str(unknown.diff("fvcore"))

    @pytest.mark.parametrize("phase", ["backward", "dgrad", "wgrad", "recompute", "optimizer"])
    def test_a_forward_pass_has_no_other_phase(self, phase) -> None:
        with pytest.raises(UsageError, match=f"of Sequential is of a forward pass alone, and has no {phase}"):
            self.report(training=False).diff("torch", phase)

    def test_models_in_two_modes(self, capsys: pytest.CaptureFixture[str]) -> None:
        compare_models(ConfigurableResNetBK(BASELINE), ConfigurableResNetBK(BASELINE).eval(), 3, 8, "mine", "theirs")
        assert "note: mine is in training mode and theirs in evaluation mode" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--input", "2x3"], "--input: not for saved reports"),
            (["--batch", "4"], "--batch: not for saved reports"),
            (["--rate", "0=0.5"], "--rate: not for saved reports"),
            (["--seq", "4"], "--seq: not for saved reports"),
            (["--steps", "4"], "--steps: only for configurations of ResNet-BK"),
            (["--to", "n_layers=2"], "--to: only for configurations of ResNet-BK"),
            ([], "is the report of a training step and"),
        ],
    )
    def test_options_of_something_else_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
    ) -> None:
        first = str(self.report().to_json(tmp_path / "first.json"))
        second = str(self.report(training=False).to_json(tmp_path / "second.json"))
        assert main(["compare", first, second, *options]) == 1
        assert message in capsys.readouterr().err

    def test_a_saved_report_has_its_inputs(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        saved = str(self.report().to_json(tmp_path / "first.json"))
        assert main(["explain", saved, "--as", "fvcore", "--input", "2x3"]) == 1
        assert "need a model, not a saved report" in capsys.readouterr().err
