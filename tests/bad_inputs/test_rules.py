"""A rule that is wrong is refused in one message that names it, its file and its line; nothing is rounded."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from torch import Tensor, nn

from graphflops import Cost, NotSupported, Spec, Work, analyze, rule, spec
from graphflops.cli import main
from graphflops.core.errors import GraphflopsError, RuleError, RuleLoadError, UsageError
from graphflops.rules.loading import local, rulebook
from graphflops.rules.rule import Rule

CALL_ARGUMENTS = {"input": spec(2, 3), "weight": spec(4, 3), "out": spec(2, 4)}

NO_COUNTS: dict[str, Any] = {
    "negative": -5,
    "a float": 2.5,
    "a whole float": 2.0,
    "NaN": math.nan,
    "infinity": math.inf,
    "True": True,
    "False": False,
    "a string": "5",
    "None": None,
    "complex": 2 + 0j,
    "a list": [5],
    "a tuple": (5,),
    "a fraction": Fraction(1, 2),
    "a whole fraction": Fraction(4, 2),
    "a decimal": Decimal("2.5"),
    "a decimal NaN": Decimal("NaN"),
    "a tensor": torch.tensor(5),
    "a negative tensor": torch.tensor(-5),
    "a tensor of floats": torch.tensor(2.5),
    "sympy, negative": sympy.Integer(-5),
    "sympy, a fraction": sympy.Rational(1, 2),
    "sympy, a float": sympy.Float(2.0),
    "sympy, NaN": sympy.nan,
    "sympy, infinity": sympy.oo,
    "sympy, infinity without sign": sympy.zoo,
    "sympy, a root": sympy.sqrt(2),
    "sympy, imaginary": sympy.I,
    "sympy, a truth": sympy.true,
    "sympy, an unknown symbol": sympy.Symbol("n", integer=True, positive=True),
    "sympy, an unknown symbol and a number": 2 * sympy.Symbol("hidden") + 1,
    "a Work": Work(macs=1),
    "an object": object(),
}

OF_NUMPY: dict[str, Callable[[Any], Any]] = {
    "negative": lambda numpy: numpy.int64(-5),
    "which wraps around": lambda numpy: numpy.int64(5),
    "of 32 bits": lambda numpy: numpy.int32(5),
    "without sign": lambda numpy: numpy.uint8(200),
    "a float": lambda numpy: numpy.float32(2.5),
    "a rounded float": lambda numpy: numpy.float32(16777217),
    "a truth": lambda numpy: numpy.True_,
    "NaN": lambda numpy: numpy.float64("nan"),
    "an array": lambda numpy: numpy.array([1, 2]),
    "32 bits that ran over": lambda numpy: numpy.int32(2**31 - 1) * numpy.int32(2),
    "a product": lambda numpy: numpy.prod([2, 3]),
}

NO_COSTS: dict[str, Callable[[], Any]] = {
    "forward is a number": lambda: Cost(5),  # type: ignore[arg-type]
    "forward is nothing": lambda: Cost(None),  # type: ignore[arg-type]
    "forward is a Cost": lambda: Cost(Cost()),  # type: ignore[arg-type]
    "a gradient is a number": lambda: Cost(grads={"input": 5}),  # type: ignore[dict-item]
    "gradients are a list": lambda: Cost(grads=[Work()]),  # type: ignore[arg-type]
    "a gradient has no name": lambda: Cost(grads={5: Work()}),  # type: ignore[dict-item]
    "recompute is a number": lambda: Cost(recompute=5),  # type: ignore[arg-type]
    "a part is a Work": lambda: Cost(parts={"gate": Work()}),  # type: ignore[dict-item]
    "a part is wrong inside": lambda: Cost(parts={"gate": Cost(Work(macs=2.5))}),  # type: ignore[arg-type]
    "a span is a string": lambda: Cost(span="long"),  # type: ignore[arg-type]
    "a span is negative": lambda: Cost(backward_span=-1),
    "a span is a truth": lambda: Cost(span=True),
    "useful is a Work": lambda: Cost(useful=Work()),  # type: ignore[arg-type]
    "the dtype is no name": lambda: Cost(dtype=torch.int8),  # type: ignore[arg-type]
    "half of a count is taken": lambda: Cost(Work(macs=Fraction(1, 2))).scaled_by(Fraction(1, 2)),  # type: ignore[arg-type]
    "a quotient": lambda: Cost(Work(macs=7 / 2)),  # type: ignore[arg-type]
    "a number": lambda: 5,
    "nothing": lambda: None,
    "a Work": lambda: Work(macs=1),
    "a dict": lambda: {"macs": 1},
    "a generator": lambda: (item for item in ()),
}


def of_linear(answer: Callable[[], Any]) -> Rule:
    @rule(nn.Linear)
    def wrong(out) -> Cost:
        return answer()  # type: ignore[no-any-return]

    return wrong


def refused(wrong: Rule) -> str:
    """The message of an analysis of a model that calls the rule."""
    with pytest.raises(RuleError) as refusal:
        analyze(nn.Linear(3, 4), (torch.empty(2, 3),), rules=[wrong])
    message = str(refusal.value)
    assert f"test_rules.py:{wrong.line}: rule wrong" in message
    assert "while applying it to the model itself: torch.nn.modules.linear.Linear" in message
    assert len(message) < 600
    return message


@pytest.mark.filterwarnings("ignore:overflow encountered")
class TestAnswers:
    @pytest.mark.parametrize("number", NO_COUNTS.values(), ids=NO_COUNTS)
    def test_a_count_is_a_whole_number(self, number: Any) -> None:
        refused(of_linear(lambda: Cost(Work(macs=number), {"*": Work()})))

    @pytest.mark.parametrize("number", NO_COUNTS.values(), ids=NO_COUNTS)
    def test_of_a_gradient_too(self, number: Any) -> None:
        refused(of_linear(lambda: Cost(grads={"weight": Work(elementwise=number), "*": Work()})))

    @pytest.mark.parametrize("number", OF_NUMPY.values(), ids=OF_NUMPY)
    def test_nor_is_one_of_numpy_exact(self, number: Callable[[Any], Any]) -> None:
        numpy = pytest.importorskip("numpy")
        refused(of_linear(lambda: Cost(Work(macs=number(numpy)), {"*": Work()})))

    @pytest.mark.parametrize("answer", NO_COSTS.values(), ids=NO_COSTS)
    def test_a_cost_is_made_of_works(self, answer: Callable[[], Any]) -> None:
        refused(of_linear(answer))

    def test_the_message_says_which_number_where_and_what_to_do(self) -> None:
        numpy = pytest.importorskip("numpy")
        message = refused(of_linear(lambda: Cost(Work(macs=numpy.int64(5)))))
        assert "returned np.int64(5): a count is a whole number ≥ 0" in message
        assert "multiply Python's ints, as with math.prod" in message

    @pytest.mark.parametrize(
        "error", [SystemExit(0), GeneratorExit(), RecursionError("deep"), StopIteration()], ids=repr
    )
    def test_a_rule_that_ends_the_program_does_not(self, error: BaseException) -> None:
        def ends() -> Cost:
            raise error

        assert f"raised {type(error).__name__}" in refused(of_linear(ends))

    def test_whole_numbers_of_sympy_are_numbers(self) -> None:
        cost = of_linear(lambda: Cost(Work(macs=sympy.Max(3, 4)), span=sympy.Integer(2))).evaluate(CALL_ARGUMENTS)
        assert cost == Cost(Work(macs=4), span=2)
        assert type(cost.forward.macs) is int

    def test_formulas_in_the_sizes_of_the_call_are_kept(self) -> None:
        n, m = sympy.symbols("n m", integer=True, positive=True)

        @rule(nn.Linear)
        def doubled(out) -> Cost:
            return Cost(Work(macs=2 * out.numel))

        assert doubled.evaluate({"out": spec(n, m)}).forward == Work(macs=2 * n * m)

    def test_numbers_of_any_length_are_exact(self) -> None:
        assert of_linear(lambda: Cost(Work(macs=2**80 + 1))).evaluate(CALL_ARGUMENTS).forward.macs == 2**80 + 1

    def test_not_this_case_stays_unknown(self) -> None:
        def declines() -> Cost:
            raise NotSupported("not this one")

        report = analyze(nn.Linear(3, 4), (torch.empty(2, 3),), rules=[of_linear(declines)])
        assert [op.why for op in report.unknown] == ["not this one"]


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x.tolist())


NO_OUTPUTS: dict[str, tuple[Any, str]] = {
    "a number": (5, "returned int; a rule returns a Spec"),
    "nothing": (None, "returned NoneType; a rule returns a Spec"),
    "a shape": ((2, 3), "int where a Spec is expected"),
    "a negative size": (spec(-1, 2), "-1: .*size 0"),
    "half a size": (spec(2, 2.5), r"2\.5: .*size 1"),  # type: ignore[arg-type]
    "a dtype that is none": (spec(2, dtype="float31"), "dtype 'float31', which PyTorch does not have"),
    "a dtype of PyTorch's": (spec(2, dtype=torch.float32), "dtype"),  # type: ignore[arg-type]
    "no shape": (Spec(5), "shape 5, which is not a tuple of sizes"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("described", "message"), NO_OUTPUTS.values(), ids=NO_OUTPUTS)
def test_outputs_are_described_by_specs(described: Any, message: str) -> None:
    @rule(Opaque, outputs=lambda x: described)
    def opaque(x) -> Cost:
        return Cost(grads={"*": Work()})

    with pytest.raises(GraphflopsError, match=rf"test_rules\.py:\d+: .*opaque:? {message}"):
        analyze(Opaque(), (torch.zeros(2, 3),), rules=[opaque])


NO_TARGETS: dict[str, tuple[Any, str]] = {
    "a number": (5, "5 is not a target"),
    "nothing": (None, "None is not a target"),
    "an empty name": ("", "'' is not a target"),
    "a name with a space": ("torch.nn.Linear ", "is not a target: write the qualified name"),
    "a sentence": ("the linear layer", "is not a target: write the qualified name"),
    "a name that ends in a dot": ("aten.", "is not a target: write the qualified name"),
    "a list": ([nn.Linear], "give several one by one"),
    "a dict": ({}, "give several one by one"),
    "a layer": (nn.Linear(3, 4), "a Linear is not a target, its class is: write @rule"),
    "a tensor": (torch.zeros(2), "a Tensor is not a target"),
    "bytes": (b"aten.mm", "a bytes is not a target"),
    "a truth": (True, "True is not a target"),
}


@pytest.mark.parametrize(("target", "message"), NO_TARGETS.values(), ids=NO_TARGETS)
def test_a_target_is_a_class_a_function_an_operator_or_a_name(target: Any, message: str) -> None:
    with pytest.raises(RuleLoadError, match=message):
        rule(target)


def kind_of(value: Any) -> str:
    """The id of a value in the tests, without a memory address."""
    return f"{type(value).__name__} {getattr(value, '__name__', '')}".strip()


HEAD = "from graphflops import Cost, Work, rule\n"
FILES: dict[str, tuple[str, str]] = {
    "@rule without brackets": (
        "@rule\ndef mine(out):\n    return Cost()\n",
        r"mine\.py:2: @rule without brackets .*of mine",
    ),
    "@rule without a target": ("@rule()\ndef mine(out):\n    return Cost()\n", r"mine\.py:2: rule mine has no target"),
    "@rule above nothing": ("mine = rule('aten.mm')\n", r"@rule\('aten\.mm'\) decorates no function"),
    "@rule above a class": (
        "@rule('aten.mm')\nclass Mine:\n    pass\n",
        r"mine\.py:2: @rule decorates a function, not Mine",
    ),
    "a target that is a number": ("@rule(5)\ndef mine(out):\n    return Cost()\n", r"mine\.py:2: 5 is not a target"),
    "a target that is nothing": (
        "\n@rule(None)\ndef mine(out):\n    return Cost()\n",
        r"mine\.py:3: None is not a target",
    ),
    "a target that is a list": ("@rule(['aten.mm'])\ndef mine(out):\n    return Cost()\n", r"mine\.py:2: .*one by one"),
    "outputs that are no function": (
        "@rule('aten.mm', outputs=5)\ndef mine(out):\n    return Cost()\n",
        r"mine\.py:2: outputs",
    ),
    "an end of the program": ("import sys\nsys.exit(0)\n", r"mine\.py:3: SystemExit: 0"),
    "an end with a message": ("raise SystemExit('bye')\n", r"mine\.py:2: SystemExit: bye"),
    "an error of its own": ("raise RuntimeError('broken')\n", r"mine\.py:2: RuntimeError: broken"),
    "a name that is not there": ("@rule(aten.mm)\ndef mine(out): ...\n", r"mine\.py:2: NameError"),
    "no Python": ("@rule(\n", r"mine\.py:\d: SyntaxError"),
    "a zero byte": ("x = '\0'\n", r"mine\.py:.*null bytes"),
    "brackets without end": ("(" * 500 + "\n", r"mine\.py:\d: .*(nested|MemoryError|RecursionError)"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_wrong_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + text)
    with pytest.raises(RuleError, match=message):
        local(file)
    assert main(["analyze", "torch.nn:ReLU", "-i", "2x3", "--rules", str(file)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert not printed.out


@pytest.mark.parametrize("name", ["rules.json", "rules.txt", "rules"])
def test_a_file_that_is_no_python_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(RuleLoadError, match=r"is not a rule file: rules are Python, in a file that ends in \.py"):
        local(tmp_path / name)


@pytest.mark.parametrize("rules", [3, "mine.py", Path("mine.py"), nn, rule("aten.mm"), True], ids=kind_of)
def test_rules_are_given_as_a_list(rules: Any) -> None:
    with pytest.raises(UsageError, match="rules must be a list"):
        rulebook(rules)


@pytest.mark.parametrize("value", [5, None, "absent.py", nn.Linear, len, rule("aten.mm"), Cost()], ids=kind_of)
def test_and_each_is_a_path_a_module_or_a_rule(value: Any) -> None:
    with pytest.raises(RuleLoadError):
        rulebook([value])


class TestRulesThatNothingMatched:
    """They would change nothing, in silence."""

    def warnings(self, *rules: Any) -> tuple[str, ...]:
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        return analyze(model, (torch.empty(2, 3),), rules=rules).warnings

    def file(self, folder: Path, *targets: str) -> Path:
        file = folder / "mine.py"
        lines = [f"@rule({target!r})\ndef mine_{i}(out):\n    return Cost()" for i, target in enumerate(targets)]
        file.write_text("\n".join([HEAD, *lines]))
        return file

    @pytest.mark.parametrize(
        ("target", "near"),
        [
            ("torch.nn.Linaer", "torch.nn.modules.linear.Linear"),
            ("torch.nn.modules.linear.Liner", "torch.nn.modules.linear.Linear"),
            ("aten.rellu", "aten.relu"),
            ("torch.ops.aten.lineaar", "aten.linear"),
            ("my_package.layers.ReLu", "torch.nn.modules.activation.ReLU"),
        ],
    )
    def test_one_with_a_misspelt_target_is_named_beside_the_nearest(
        self, tmp_path: Path, target: str, near: str
    ) -> None:
        (warning,) = self.warnings(self.file(tmp_path, target, "aten.relu"))
        assert warning.startswith("no call matched the rule mine_0 (")
        assert f"there is no {target}; the model has {near}" in warning

    def test_one_that_is_given_by_itself_is_named_in_any_case(self) -> None:
        @rule(nn.Conv2d)
        def of_images(out) -> Cost:
            return Cost()

        (warning,) = self.warnings(of_images)
        assert "no call matched the rule of_images" in warning
        assert "of torch.nn.modules.conv.Conv2d" in warning

    def test_a_file_of_rules_for_many_models_is_no_reason_to_speak(self, tmp_path: Path) -> None:
        assert not self.warnings(self.file(tmp_path, "torch.nn.Conv2d", "aten.softmax", "aten.relu", "rich.text.Text"))

    def test_a_file_of_which_nothing_matched_is(self, tmp_path: Path) -> None:
        (warning,) = self.warnings(self.file(tmp_path, "aten.gelu", "torch.nn.Conv2d"))
        assert "no call matched any of the 2 rules, such as that of aten.gelu; the model has aten.relu" in warning

    def test_many_are_named_in_few_lines(self, tmp_path: Path) -> None:
        assert len(self.warnings(self.file(tmp_path, *(f"nowhere.Layer{i}" for i in range(20))))) == 4

    def test_one_that_matched_is_not_named(self) -> None:
        @rule("torch.nn.Linear")
        def of_linears(out) -> Cost:
            return Cost(grads={"*": Work()})

        assert not self.warnings(of_linears)

    def test_rules_of_optimizers_are_no_calls(self) -> None:
        @rule("optimizer.lion")
        def lion(param) -> Cost:
            return Cost(Work(elementwise=param.numel))

        assert not self.warnings(lion)
