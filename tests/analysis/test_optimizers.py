"""optimizer=: the update by a rule, or by the operators of the optimizer's step."""

import functools

import pytest
import torch
from torch import nn

from graphflops import CaptureError, Cost, MissingRules, UsageError, Work, analyze, rule
from graphflops.analysis.mac_counter import MacCounterMode
from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.cli import main
from graphflops.report.report import Report

ROWS, A, B, C = 3, 4, 8, 6
X = (torch.zeros(ROWS, A),)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(A, B, bias=False), nn.ReLU(), nn.Linear(B, C, bias=False))


class Lion(torch.optim.Optimizer):
    """u = sign(β·m + (1 − β)·g), p − lr·u, m = β·m + (1 − β)·g, as packages implement it."""

    def __init__(self, params, lr=1e-4):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in filter(lambda p: p.grad is not None, group["params"]):
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.add_(m.mul(0.9).add(p.grad, alpha=0.1).sign_(), alpha=-group["lr"])
                m.mul_(0.99).add_(p.grad, alpha=0.01)


class TestByRule:
    @pytest.mark.parametrize(
        ("optimizer", "flops"),
        [
            ("AdamW", 15),
            ("Adam", 14),
            ("SGD", 2),
            (torch.optim.AdamW, 15),
            (functools.partial(torch.optim.SGD, momentum=0.9), 4),
        ],
    )
    def test_an_optimizer_of_torch_with_a_rule(self, optimizer: object, flops: int) -> None:
        assert analyze(model(), X, optimizer=optimizer).optimizer == flops * (A * B + B * C)

    def test_other_settings_are_counted_by_the_step(self) -> None:
        trained = model()
        options: dict[str, object] = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
        report = analyze(trained, X, optimizer=torch.optim.SGD(trained.parameters(), **options))
        assert report.optimizer == (2 + 2 + 2 + 2) * (A * B + B * C), "decay, momentum, Nesterov, step"

    def test_a_rule_of_the_user_takes_precedence(self) -> None:
        @rule("optimizer.lion")
        def lion(param):
            """Seven."""
            return Cost(param.numel * Work(elementwise=7))

        trained = model()
        for optimizer in ("lion", Lion, Lion(trained.parameters())):
            assert analyze(trained, X, rules=[lion], optimizer=optimizer).optimizer == 7 * (A * B + B * C)


with_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="since PyTorch 2.9")


class TestByStep:
    @pytest.mark.parametrize(
        "name",
        [
            *("Adadelta", "Adafactor", "Adagrad", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop"),
            pytest.param("Muon", marks=with_muon),
        ],
    )
    def test_every_optimizer_of_torch(self, name: str) -> None:
        by_name = analyze(model(), X, optimizer=name)
        assert by_name.optimizer > 0
        assert by_name.optimizer_name == name
        assert not by_name.unknown
        assert analyze(model(), X, optimizer=getattr(torch.optim, name)).optimizer == by_name.optimizer
        assert analyze(model(), X, optimizer=name, fold=False).entries == by_name.entries

    @pytest.mark.parametrize("name", ["Adadelta", "Adagrad", "RMSprop"])
    def test_the_count_is_the_scalar_operations_of_a_step(self, name: str) -> None:
        parameter = nn.Parameter(torch.zeros(A, B))
        optimizer = getattr(torch.optim, name)([parameter], foreach=False)
        parameter.grad = torch.ones(A, B)
        optimizer.step()

        def step() -> None:
            optimizer.step()

        expected = count_scalar_ops(step, (), training=False).forward
        report = analyze(nn.Linear(A, B, bias=False), (torch.zeros(1, A),), optimizer=name)
        (entry,) = [entry for entry in report.entries if entry.kind == "update"]
        assert sum(entry.work["optimizer"].counts()) == sum(expected.counts())

    @with_muon
    def test_the_multiply_adds_of_muon_are_those_that_are_dispatched(self) -> None:
        trained = model()
        optimizer = torch.optim.Muon(trained.parameters())
        trained(torch.randn(ROWS, A)).sum().backward()
        with MacCounterMode() as counter:
            optimizer.step()
        report = analyze(model(), X, optimizer="Muon")
        updates = [entry for entry in report.entries if entry.kind == "update"]
        assert sum(entry.work["optimizer"].macs for entry in updates) == counter.macs > 0

    def test_lion_of_a_package(self) -> None:
        trained = model()
        flops = 1 + 2 + 1 + 2 + 1 + 2
        for optimizer in (Lion, Lion(trained.parameters()), f"{__name__}.Lion", [Lion]):
            assert analyze(trained, X, optimizer=optimizer).optimizer == flops * (A * B + B * C)

    def test_foreach_and_capturable_change_nothing(self) -> None:
        plain, fast = model(), model()
        reports = [
            analyze(plain, X, optimizer=torch.optim.RMSprop(plain.parameters())),
            analyze(fast, X, optimizer=torch.optim.RMSprop(fast.parameters(), foreach=True)),
        ]
        assert reports[0].optimizer == reports[1].optimizer

    def test_the_explanation_names_the_operators_of_the_step(self) -> None:
        assert "addcmul" in analyze(model(), X, optimizer="RMSprop").explain("0")

    def test_the_report_is_saved_and_read(self, tmp_path) -> None:
        report = analyze(model(), X, optimizer="RMSprop")
        assert Report.from_json(report.to_json(tmp_path / "report.json")).optimizer == report.optimizer

    def test_repeated_blocks_are_updated_too(self) -> None:
        deep = nn.Sequential(*[nn.Sequential(nn.Linear(A, A), nn.Tanh()) for _ in range(5)])
        report = analyze(deep[0], X, optimizer="RMSprop")
        assert analyze(deep, X, optimizer="RMSprop").optimizer == 5 * report.optimizer


class TestWhichParameters:
    def test_an_optimizer_updates_the_parameters_that_it_has(self) -> None:
        trained = model()
        report = analyze(trained, X, optimizer=torch.optim.SGD([trained[0].weight]))
        assert report.by_module("optimizer")["0"] == report.optimizer == 2 * A * B
        assert any("2.weight" in warning for warning in report.warnings)

    def test_each_parameter_group_has_its_settings(self) -> None:
        deep = nn.Sequential(*[nn.Linear(A, A, bias=False) for _ in range(4)])
        groups = [{"params": list(deep[:3].parameters())}, {"params": list(deep[3].parameters()), "momentum": 0.9}]
        report = analyze(deep, X, optimizer=torch.optim.SGD(groups))
        assert [report.by_module("optimizer")[str(i)] for i in range(4)] == [2 * A * A] * 3 + [4 * A * A]

    @with_muon
    def test_several_optimizers_share_the_parameters(self) -> None:
        trained = nn.Sequential(nn.Linear(A, B), nn.ReLU(), nn.Linear(B, C))
        report = analyze(trained, X, optimizer=["Muon", "AdamW"])
        assert report.optimizer_name == "Muon + adamw"
        assert report.by_operator("optimizer")["adamw"] == 15 * (B + C)
        assert not report.unknown

    @with_muon
    def test_a_parameter_that_no_optimizer_accepts_is_unknown_not_zero(self) -> None:
        trained = nn.Linear(A, B)
        report = analyze(trained, X, optimizer="Muon")
        (unknown,) = report.unknown
        assert (unknown.op, unknown.target) == ("bias", "optimizer.Muon")
        assert "2D" in unknown.why
        with pytest.raises(MissingRules):
            analyze(trained, X, optimizer="Muon", strict=True)

    def test_an_optimizer_of_another_model_is_an_error(self) -> None:
        with pytest.raises(UsageError, match="none of this model's parameters"):
            analyze(model(), X, optimizer=torch.optim.SGD(model().parameters()))


class TestOptimizersAreNotModified:
    def test_an_optimizer_with_state(self) -> None:
        trained = model()
        optimizer = torch.optim.RMSprop(trained.parameters(), foreach=True)
        trained(torch.randn(ROWS, A)).sum().backward()
        optimizer.step()
        before = {id(p): (p.detach().clone(), p.grad.clone()) for p in trained.parameters() if p.grad is not None}
        state = {id(p): {name: value.clone() for name, value in own.items()} for p, own in optimizer.state.items()}
        analyze(trained, X, optimizer=optimizer)
        assert optimizer.param_groups[0]["foreach"] is True
        for p in trained.parameters():
            assert p.grad is not None
            assert torch.equal(p, before[id(p)][0])
            assert torch.equal(p.grad, before[id(p)][1])
            assert all(torch.equal(value, state[id(p)][name]) for name, value in optimizer.state[p].items())

    def test_the_step_of_a_class_is_restored(self) -> None:
        class Own(torch.optim.Optimizer):
            def __init__(self, params):
                super().__init__(params, {})

            def step(self, closure=None):
                for p in self.param_groups[0]["params"]:
                    p.data.add_(p.grad, alpha=-0.1)

        step = Own.step
        assert analyze(model(), X, optimizer=Own).optimizer == 2 * (A * B + B * C)
        assert Own.step is step


class TestErrors:
    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match=r"(?s)adam, adamw, sgd, sgd_momentum.*Adafactor.*PACKAGE.CLASS.*rule"):
            analyze(model(), X, optimizer="lion")

    @pytest.mark.parametrize("optimizer", ["LBFGS", torch.optim.LBFGS, torch.optim.LBFGS(model().parameters())])
    def test_a_step_that_needs_a_closure(self, optimizer: object) -> None:
        with pytest.raises(UsageError, match=r"(?s)LBFGS calls a closure.*step\(closure\)"):
            analyze(model(), X, optimizer=optimizer)

    def test_a_step_that_fails(self) -> None:
        with pytest.raises(CaptureError, match=r"(?s)SparseAdam.*dense gradients.*optimizer.SparseAdam"):
            analyze(model(), X, optimizer="SparseAdam")

    @pytest.mark.parametrize("optimizer", [object, 3, 1.5, [], {"adamw": 1}])
    def test_a_value_that_is_not_an_optimizer(self, optimizer: object) -> None:
        with pytest.raises((UsageError, CaptureError)):
            analyze(model(), X, optimizer=optimizer)


def test_the_command_line_accepts_a_name_of_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "--optimizer", "RMSprop"]) == 0
    assert "(RMSprop)" in capsys.readouterr().out
