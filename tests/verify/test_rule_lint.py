"""graphflops rules check: problems in wrong rules, and none in shipped ones."""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import Cost, Spec, Work, rule
from graphflops.cli import main
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.verify import rule_lint
from graphflops.verify.rule_lint import CheckResult, check, check_rule

sys.path.insert(0, str(Path(__file__).parents[1] / "rules"))
from cases import CASES, Case, ops_of

from graphflops.rules.loading import shipped

aten = torch.ops.aten


def checked(wrong: Rule) -> CheckResult:
    return check(RuleBook.of([wrong]), [wrong])


def what_is_found(wrong: Rule) -> str:
    (problem,) = checked(wrong).problems
    return problem.message


def test_a_right_rule_passes() -> None:
    @rule(aten.mm)
    def product(self: Spec, out: Spec) -> Cost:
        """A·B."""
        macs = Work(macs=self.shape[-1] * out.numel)
        return Cost(macs, {"self": macs, "mat2": macs})

    result = checked(product)
    assert (result.tested, result.problems) == (1, ())


def test_multiply_adds_that_autograd_does_not_dispatch() -> None:
    @rule(aten.mm)
    def doubled(self: Spec, out: Spec) -> Cost:
        """FLOPs taken for multiply-adds, forward; backward is right."""
        macs = Work(macs=self.shape[-1] * out.numel)
        return Cost(2 * macs, {"self": macs, "mat2": macs})

    assert "multiply-adds forward of aten.mm; autograd runs" in what_is_found(doubled)


def test_a_gradient_that_is_forgotten() -> None:
    @rule(aten.mm)
    def forward_alone(self: Spec, out: Spec) -> Cost:
        """A·B, and nothing on the way back."""
        return Cost(Work(macs=self.shape[-1] * out.numel), {"*": Work()})

    assert "multiply-adds backward" in what_is_found(forward_alone)


def test_a_zero_where_something_runs() -> None:
    @rule(aten.sin)
    def free(self: Spec) -> Cost:
        """Said to be for nothing, forward."""
        return Cost(grads={"self": Work(transcendental=self.numel)})

    assert "counts zero forward" in what_is_found(free)


def test_a_branch_on_a_size() -> None:
    @rule(aten.sin)
    def branching(self: Spec) -> Cost:
        """Cheaper if it is small."""
        n = self.numel if self.shape[0] > 100 else 2 * self.numel
        return Cost(Work(transcendental=n), {"self": Work(elementwise=n)})

    assert "symbols" in what_is_found(branching)


def test_a_rule_that_remembers() -> None:
    calls: list[int] = []

    @rule(aten.sin)
    def remembering(self: Spec) -> Cost:
        """More expensive each time."""
        calls.append(1)
        return Cost(Work(transcendental=len(calls) * self.numel), {"self": Work(elementwise=self.numel)})

    assert any("another cost when called again" in problem.message for problem in checked(remembering).problems)


def test_a_gradient_of_what_is_no_input() -> None:
    @rule(aten.mul)
    def misspelled(self: Spec, out: Spec) -> Cost:
        """a·b, with a gradient of what it calls x."""
        return Cost(Work(elementwise=out.numel), {"self|other": Work(elementwise=2 * out.numel), "x": Work()})

    problems = checked(misspelled).problems
    assert [problem.message for problem in problems] == ["rule misspelled has unknown gradient key 'x'"]
    assert "other, self" in problems[0].fix


def test_a_rule_without_a_word() -> None:
    @rule(aten.sin)
    def silent(self: Spec) -> Cost:
        return Cost(Work(transcendental=self.numel), {"self": Work(elementwise=self.numel)})

    assert "has no docstring" in what_is_found(silent)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return 2 * grad


class Square(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


@pytest.mark.parametrize(
    ("target", "example"),
    [
        (Twice, lambda: ((torch.zeros(2, 3, requires_grad=True),), {})),
        (Square, lambda: ((Square(), torch.zeros(2, 3)), {})),
    ],
    ids=["an autograd.Function", "a module class"],
)
def test_an_example_is_how_anything_else_is_called(target: Any, example: Callable[[], Any]) -> None:
    def free() -> Cost:
        """Said to be for nothing."""
        return Cost(grads={"*": Work()})

    assert checked(rule(target)(free)).tested == 0
    result = checked(rule(target, example=example)(free))
    assert result.tested == 1
    assert result.problems


@pytest.mark.sampled(6)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_found_against_a_shipped_rule(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    verification = cache(partial(rule_lint.verify, case.run, case.inputs))  # one is of all rules of a case
    monkeypatch.setattr(rule_lint, "verify", lambda *call, rules: verification())
    monkeypatch.setattr(rule_lint, "_ops", lambda *call: ops_of(case))
    rules = {id(op_rule): op_rule for op in ops_of(case) if (op_rule := shipped().find(op.call)) is not None}
    call = (case.run, case.inputs, {})
    assert not [str(problem) for one in rules.values() for problem in check_rule(one, [call])[0]]


# -- the command ---------------------------------------------------------------------------------------------------

WRONG = '''
import torch
from graphflops import Cost, Work, rule

@rule(torch.ops.aten.mm)
def wrong(self, out):
    """One multiply-add for each result."""
    return Cost(Work(macs=out.numel), {"*": Work()})
'''


def test_the_command_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    assert main(["rules", "check", str(file)]) == 4
    printed = capsys.readouterr().out
    assert f"{file}:5: rule wrong counts" in printed
    assert "1 rule, 1 checked against real calls, 2 problems" in printed


def test_the_command_passes_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "right.py"
    file.write_text(
        WRONG.replace("One multiply-add for each result", "A·B")
        .replace(
            "    return Cost(Work(macs=out.numel), {",
            "    macs = Work(macs=self.numel * out.shape[-1])\n    return Cost(macs, {",
        )
        .replace('{"*": Work()}', '{"self": macs, "mat2": macs}')
    )
    assert main(["rules", "check", str(file)]) == 0
    assert "1 rule, 1 checked against real calls, no problems" in capsys.readouterr().out


def test_two_rules_for_one_target_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "twice.py"
    file.write_text(WRONG + WRONG.replace("def wrong", "def again"))
    assert main(["rules", "check", str(file)]) == 4
    assert "two rules for aten.mm" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["graphflops::bk_core", "graphflops.models.moe.SparseMoE"])
def test_the_rules_of_resnet_bk_have_examples(target: str) -> None:
    (one,) = [rule for key, rule in shipped() if str(key).replace("::", ".") == target.replace("::", ".")]
    result = check(RuleBook.of([one]), [])
    assert (result.tested, result.problems) == (1, ())
