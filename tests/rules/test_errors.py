"""A rule that is wrong is told so: where it stands, what it asked for, what there was."""

import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import Cost, Spec, Work, analyze, rule, spec
from graphflops.core.errors import DuplicateRule, RuleError, RuleLoadError
from graphflops.rules.available_names import check_signature
from graphflops.rules.book import RuleBook
from graphflops.rules.loading import local, rulebook, shipped
from graphflops.rules.rule import Rule

HEAD = "from graphflops import Cost, Work, rule\n"
RULES = Path(__file__).parents[2] / "rules"
SINCE_2_9 = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)


@rule(nn.Linear)
def asks_too_much(input, wieght) -> Cost:
    return Cost()


@rule(nn.Linear)
def raises(input) -> Cost:
    return Cost(Work(macs=input.no_such_size))


@rule(nn.Linear)
def returns_a_number(input) -> Cost:
    return 42  # type: ignore[return-value]


@rule(nn.Linear)
def misspells(input) -> Cost:
    return Cost(grads={"inptu": Work(), "weight": Work(), "bias": Work()})


@rule(nn.Linear)
def branches_on_a_size(input, out) -> Cost:
    return Cost(Work(macs=1 if input.shape[0] > 1 else 2), {"*": Work()})


def at_rule(wrong: Rule) -> str:
    return rf"rules/test_errors\.py:{wrong.line}: rule {wrong.name}"


class TestWhenItIsAsked:
    CALL_ARGUMENTS = {"input": spec(2, 3), "weight": spec(4, 3), "out": spec(2, 4)}  # noqa: RUF012

    def test_for_a_name_that_is_not_offered(self) -> None:
        sentence = " has argument 'wieght', which the call does not provide; available: input, out, weight"
        with pytest.raises(RuleError, match=at_rule(asks_too_much) + sentence):
            asks_too_much.evaluate(self.CALL_ARGUMENTS)

    def test_and_raises(self) -> None:
        with pytest.raises(RuleError, match=at_rule(raises) + r" raised AttributeError: .*no_such_size") as refusal:
            raises.evaluate(self.CALL_ARGUMENTS)
        assert isinstance(refusal.value.__cause__, AttributeError)

    def test_and_does_not_answer_with_a_cost(self) -> None:
        with pytest.raises(RuleError, match=at_rule(returns_a_number) + " returned int; a rule returns a Cost"):
            returns_a_number.evaluate(self.CALL_ARGUMENTS)

    @pytest.mark.parametrize("wrong", [raises, returns_a_number, misspells], ids=lambda case: case.name)
    def test_the_report_says_in_which_call(self, wrong: Rule) -> None:
        model = nn.Sequential(nn.ReLU(), nn.Linear(3, 4))
        with pytest.raises(
            RuleError, match=at_rule(wrong) + r"(.|\n)*while applying it to 1: .*Linear: .*float32\(2, 3\)"
        ):
            analyze(model, (torch.empty(2, 3, requires_grad=True),), rules=[wrong])

    def test_an_unknown_gradient_key_is_listed_with_the_known_ones(self) -> None:
        x = torch.empty(2, 3, requires_grad=True)
        with pytest.raises(RuleError, match=r"unknown gradient keys 'inptu', and none for input; inputs are bias"):
            analyze(nn.Linear(3, 4), (x,), rules=[misspells])

    def test_one_that_is_not_pure_is_named_with_the_call(self) -> None:
        with pytest.raises(
            RuleError,
            match=at_rule(branches_on_a_size) + r"(.|\n)*symbols for sizes(.|\n)*while applying it to the model itself",
        ):
            analyze(nn.Linear(3, 4), (torch.empty(2, 3),), rules=[branches_on_a_size])

    def test_a_span_is_exact_too(self) -> None:
        @rule(nn.Linear)
        def half(out) -> Cost:
            return Cost(span=0.5)  # type: ignore[arg-type]

        with pytest.raises(RuleError, match=r"half returned 0\.5"):
            half.evaluate(self.CALL_ARGUMENTS)


class Gated(nn.Module):
    """Its attributes are told by its source."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))
        self.register_buffer("steps", torch.zeros(width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x * self.gate


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x * x


class TestNamesThatAreNeverOffered:
    """Where it is known what a target offers, a wrong name is found before there is a call."""

    @pytest.mark.parametrize(
        ("target", "asks", "available"),
        [
            (torch.ops.aten.mm, "slef", "mat2, out"),
            ("aten.mm.default", "input", "mat2, out, self"),
            (F.gelu, "input", "approximate"),
            (F.normalize, "self", "input"),
            (nn.Linear, "wieght", "in_features"),
            ("torch.nn.Linear", "wieght", "weight"),
            (Gated, "gates", "gate"),
            (Square, "ctx", "x"),
            ("optimizer.adamw", "parameter", "param"),
        ],
        ids=lambda case: getattr(case, "__name__", str(case)),  # and no address in memory
    )
    def test_are_refused(self, target, asks: str, available: str) -> None:
        scope: dict[str, object] = {}
        exec(f"def wrong({asks}): ...", scope)
        wrong_rule = rule(target)(scope["wrong"])  # type: ignore[arg-type]
        with pytest.raises(RuleLoadError, match=f"rule wrong has argument '{asks}', .*; available: .*{available}"):
            rulebook([wrong_rule])

    def test_a_default_does_not_hide_a_name_that_nothing_offers(self) -> None:
        @rule(torch.ops.aten.mm)
        def wrong(self, mat3=None) -> Cost:
            return Cost()

        with pytest.raises(
            RuleLoadError,
            match=r"has argument 'mat3', which no target provides; available of aten.mm: attention, .*mat2, out",
        ):
            rulebook([wrong])

    @pytest.mark.parametrize(
        ("target", "names"),
        [
            (Gated, "x, mask, gate, steps, training, out"),
            (nn.LSTM, "input, hidden_size, weight_ih_l0"),
            (torch.ops.aten.add, "self, other, alpha"),
            ("a.module.that.is.not.Imported", "whatever"),
        ],
        ids=lambda case: getattr(case, "__name__", str(case)),  # and no address in memory
    )
    def test_optional_names_are_not_passed(self, target, names: str) -> None:
        scope: dict[str, object] = {}
        exec(f"def right({names}): ...", scope)
        rulebook([rule(target)(scope["right"])])  # type: ignore[arg-type]

    def test_a_file_names_its_line(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(HEAD + "\n@rule('torch.nn.Linear')\ndef mine(x):\n    return Cost()\n")
        with pytest.raises(
            RuleLoadError,
            match=r"mine\.py:3: rule mine has argument 'x', which torch\.nn\.modules\.linear\.Linear does not .*weight",
        ):
            local(file)

    def test_no_shipped_rule_asks_so(self) -> None:
        problems = [wrong for _, rule in shipped() if (wrong := check_signature(rule))]
        assert not [problem for problem in problems if SINCE_2_9 or "aten._fused_rms_norm" not in problem]  # renamed


class Scaled(nn.Linear):
    """Inherits forward."""


class LoRA(nn.Linear):
    """Overrides forward, and does more."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down, self.up = nn.Linear(inputs, 1, bias=False), nn.Linear(1, outputs, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.up(self.down(input))


@rule(nn.Linear)
def free_linear(input, out) -> Cost:
    return Cost(Work(integer=1), {"*": Work()})


class TestInheritance:
    book = RuleBook.of([free_linear])

    def test_a_class_that_inherits_forward_inherits_the_rule(self) -> None:
        assert self.book.find(Scaled) is free_linear

    def test_a_class_that_overrides_forward_does_not(self) -> None:
        assert self.book.find(LoRA) is None

    def test_its_own_work_is_counted_instead(self) -> None:
        report = analyze(LoRA(3, 4), (torch.empty(2, 3),), rules=[free_linear])
        assert report.work("forward").macs == 2 * 3 * 4, "what it does by F.linear"
        assert report.work("forward").integer == 2, "the two Linears in it, by their rule"
        assert analyze(LoRA(3, 4), (torch.empty(2, 3),)).macs == 2 * 3 * 4 + 2 * 3 * 1 + 2 * 1 * 4


class TestFiles:
    def write(self, folder: Path, text: str, name: str = "mine.py") -> Path:
        file = folder / name
        file.write_text(text)
        return file

    @pytest.mark.parametrize(
        ("text", "line", "reason"),
        [
            ("x = 1\ndef broken(:\n", 2, "SyntaxError: invalid syntax"),
            ("from nowhere_at_all import x\n", 1, "ModuleNotFoundError: No module named 'nowhere_at_all'"),
            (HEAD + "\n\nx = 1 / 0\n", 4, "ZeroDivisionError: division by zero"),
        ],
    )
    def test_a_load_error_names_file_and_line(self, tmp_path: Path, text: str, line: int, reason: str) -> None:
        file = self.write(tmp_path, text)
        with pytest.raises(RuleLoadError) as refusal:
            local(file)
        assert str(refusal.value) == f"could not load the rule file {file}:{line}: {reason}"

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(RuleLoadError, match=r"no such rule file: .*absent\.py"):
            local(tmp_path / "absent.py")

    TWO = HEAD + '@rule("a.B")\ndef one():\n    return Cost()\n@rule("a.B")\ndef {}():\n    return Cost()\n'

    def test_two_rules_for_one_target_name_both_lines(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, self.TWO.format("two"))
        with pytest.raises(DuplicateRule, match=rf"two rules for a\.B: one at {file}:2 and two at {file}:5"):
            local(file)

    def test_two_rules_of_one_name_do_not_lose_the_first_in_silence(self, tmp_path: Path) -> None:
        text = self.TWO.format("one").replace('"a.B"', '"a.C"', 1)
        with pytest.raises(DuplicateRule, match=r"two rules of the same name: one, .*mine\.py:2 and line 5"):
            local(self.write(tmp_path, text))

    def test_two_files_of_one_folder_for_one_target(self, tmp_path: Path) -> None:
        for name in ("first.py", "second.py"):
            self.write(tmp_path, HEAD + '@rule("a.B")\ndef one():\n    return Cost()\n', name)
        with pytest.raises(DuplicateRule, match=r"first\.py:2 and one at .*second\.py:2"):
            local(tmp_path)

    def test_a_file_speaks_over_the_shipped_rules_and_says_over_which(self, tmp_path: Path) -> None:
        file = self.write(
            tmp_path, HEAD + "import torch\n@rule(torch.ops.aten.relu)\ndef mine(self):\n    return Cost()\n"
        )
        book = rulebook([file])
        rule_found = book.find(torch.ops.aten.relu.default)
        assert rule_found is not None
        assert rule_found.name == "mine"
        speakers = [(layer.origin, rule) for layer, rule in book.by_target()["aten.relu"]]
        assert speakers == [(str(file), rule_found), ("shipped", shipped().find(torch.ops.aten.relu.default))]


@pytest.mark.parametrize("file", sorted(RULES.glob("*.py")), ids=lambda file: file.name)
def test_no_shipped_file_gives_one_name_twice(file: Path) -> None:
    names = [
        name
        for node in ast.parse(file.read_text()).body
        for name in (
            [node.name]
            if isinstance(node, ast.FunctionDef)
            else [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign)
            else []
        )
    ]
    assert len(names) == len(set(names))


def test_an_argument_of_its_former_name_warns() -> None:
    with pytest.warns(DeprecationWarning, match="the argument flowing is called grad_outputs now"):

        @rule("aten.mm")
        def product(self: Spec, flowing: frozenset[int]) -> Cost:
            """As many as gradients flow back."""
            return Cost(Work(macs=len(flowing)))

    assert product.requested_names() == ("self", "grad_outputs")
    assert product.evaluate({"self": spec(2, 2), "grad_outputs": frozenset((0, 1))}).forward == Work(macs=2)
