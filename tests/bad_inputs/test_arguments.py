"""Arguments that no command and no function can use: one message names which, and what it may be."""

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import GraphflopsError, RuleError, UsageError, analyze, law, rule
from graphflops.cli import main

HERE = Path(__file__).parent
SIMPLE = ["analyze", "bad_models:Simple", "-i"]
NINES = "9" * 5000
X = torch.ones(2, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    return tmp_path


COMMANDS: list[tuple[list[str], list[str]]] = [
    # sizes that no tensor has
    ([*SIMPLE, f"{10**30}x4"], ["a size that no tensor can have"]),
    ([*SIMPLE, "9223372036854775808x4"], ["a size that no tensor can have"]),
    ([*SIMPLE, "9223372036854775807x4"], ["no tensor can be 9223372036854775807x4", "overflowed"]),
    ([*SIMPLE, "4611686018427387904x4"], ["no tensor can be 4611686018427387904x4"]),
    ([*SIMPLE, "x".join(["1"] * 5000)], ["5,000 dimensions"]),
    (["compare", "--batch", str(10**30)], ["a size that no tensor can have"]),
    (["compare", "--batch", str(2**62)], ["no tensor can be"]),
    (["compare", "--seq", str(2**62)], ["no model can have these sizes"]),
    (["analyze", "--optimizer", "x" * 5000], ["no optimizer", " … "]),
    (["rules", "show", "x" * 5000], ["no rule names", "more characters"]),
    ([*SIMPLE, f"x={NINES}x4"], ["a size that no tensor can have", "more characters"]),
    (["analyze", "--batch", str(10**30)], ["tokens"]),
    (["analyze", "--batch", NINES], ["--batch"]),
    (["analyze", "--batch", "-1"], ["--batch"]),
    (["analyze", "--batch", "1.5"], ["--batch"]),
    (["analyze", "--seq", str(2**63)], ["no model can have these sizes"]),
    (["analyze", "--seq", str(2**62)], ["no model can have these sizes"]),
    (["compare", "--steps", NINES], ["--steps"]),
    (["compare", "--lengths", "4611686018427387904"], ["length 4611686018427387904"]),
    (["compare", "--lengths", str(10**30)], [f"length {10**30}"]),
    (["compare", "--lengths", NINES], ["invalid lengths"]),
    (["compare", "--lengths", "0"], ["positive integers"]),
    (["compare", "--lengths", ""], ["positive integers"]),
    (["compare", "--lengths", "1e3"], ["invalid lengths"]),
    *(
        ([*command, f"{field}={value}"], [message])
        for command in (["analyze", "--config"], ["scale", "--config"], ["compare", "--to"])
        for field, value, message in [
            ("d_model", "9" * 30, "no model can have these sizes"),
            ("d_model", NINES, "more characters"),
            ("d_model", str(2**62), "no model can have these sizes"),
            ("vocab_size", str(2**63 - 1), "no model can have these sizes"),
            ("n_layers", str(10**9), "too large"),
            ("num_experts", str(10**7), "too large"),
            ("n_layers", "-1", "n_layers"),
            ("epsilon", "nan", "epsilon"),
            ("dropout", "inf", "dropout"),
            ("use_koopman", "yes", "use_koopman"),
            ("nothing", "1", "nothing"),
        ]
    ),
    # dtypes
    ([*SIMPLE, "2x4:qint8"], ["quantized"]),
    ([*SIMPLE, "2x4:quint8"], ["quantized"]),
    ([*SIMPLE, "2x4:quint4x2"], ["quantized"]),
    ([*SIMPLE, "2x4:Tensor"], ["no dtype 'Tensor'"]),
    ([*SIMPLE, "2x4:"], ["invalid input"]),
    ([*SIMPLE, "2x4:bits8"], ["bits8"]),
    # texts that say nothing
    ([*SIMPLE, "-2x4"], ["invalid input"]),
    ([*SIMPLE, "2.5x4"], ["invalid input"]),
    ([*SIMPLE, "=2x4"], ["invalid input"]),
    ([*SIMPLE, "²x4"], ["invalid input"]),
    ([*SIMPLE, "x" * 9000], ["invalid input", "more characters"]),
    ([*SIMPLE, "y=2x4"], ["'y'"]),
    (["analyze", "bad_models"], ["MODULE:FACTORY"]),
    (["analyze", ":x"], ["MODULE:FACTORY"]),
    (["analyze", "bad_models:"], ["MODULE:FACTORY"]),
    (["analyze", "..:x"], ["MODULE:FACTORY"]),
    (["analyze", "bad_models:Simple."], ["Simple."]),
    (["analyze", "a b:x"], ["'a b'"]),
    (["analyze", "bad\0x:y"], ["bad\\x00x:y"]),
    (["analyze", "bad\ud800x:y"], ["bad\\ud800x:y"]),
    (["analyze", "bad\udcffx:y"], ["bad\\udcffx"]),
    (["analyze", "--json", "a\0b"], ["a\\x00b"]),
    (["analyze", "--json", "\ud800.json"], ["\\ud800.json"]),
    (["show", "\udcff.json"], ["\\udcff.json"]),
    (["show", "."], ["cannot read the report ."]),
    (["analyze", "--rules", "a\0b"], ["a\\x00b"]),
    # once is enough
    ([*SIMPLE, "x=2x4", "-i", "x=2x4"], ["--input x", "twice"]),
    ([*SIMPLE, "x=2x4 x=3x4"], ["--input x", "twice"]),
    (["scale", "-s", "N=128..512", "-s", "N=2"], ["--size N", "twice"]),
    (["analyze", "--rate", "blocks.3=0.5", "--rate", "blocks.3=0.6"], ["--rate blocks.3", "twice"]),
    # what is of nothing
    (["analyze", "--expand", "nope.*"], ["'nope.*' matches no op"]),
    (["analyze", "--expand", ""], ["'' matches no op"]),
    (["scale", "--phase", "sideways"], ["sideways", "forward"]),
    (["scale", "-s", "N=128", "--phase", "sideways"], ["sideways"]),
    (["scale", "-s", "Q=3"], ["no size 'Q'"]),
    (["scale", "-s", f"N={NINES}"], ["larger than any tensor"]),
    (["scale", "-s", "N=8..4"], ["N=8..4"]),
    (["scale", "-s", "N=0"], ["at least 1"]),
    (["scale", "-s", "N=8:0"], ["at least 1"]),
    (["scale", "--budget", "nan", "-s", "N=128..256"], ["--budget"]),
    (["scale", "--budget", "-1"], ["--budget"]),
    (["scale", "--budget", "inf"], ["--budget"]),
    (["scale", "--budget", "much"], ["--budget"]),
    *(
        (["analyze", "--rate", f"*={rate}"], ["rate"])
        for rate in [
            *(
                "1e-999999999",
                "1e999999999",
                "-" * 5000 + "1",
                "",
                "nan",
                "inf",
                "0x",
                "()",
                "1/0",
                "-1",
                "2",
                "1..2..3..4",
            ),
            *("9*" * 4000 + "1", "9" * 5000, "__import__('os')", "blocks", "[1]", "1 if 1 else 2", "9**9**9"),
        ]
    ),
    (["analyze", "--rate", "nothing=1"], ["'nothing' matches nothing"]),
    (["analyze", "--rate", "=1"], ["PATTERN=RATE"]),
    (["analyze", "--attention", ""], ["flash"]),
    (["analyze", "--optimizer", ""], ["adamw"]),
    (["analyze", "--convention", ""], ["standard"]),
    (["analyze", "--convention", "/nope.toml"], ["/nope.toml"]),
    (["analyze", "bad_models:Simple", "--seq", "3"], ["--seq"]),
    (["compare", "a.json"], ["two models"]),
    (["compare", "--lengths", "8", "--rate", "a=1"], ["--rate"]),
    (["compare", "--input", "2x4"], ["--input"]),
    # what the parser refuses
    (["--bogus"], ["--bogus", "--help"]),
    (["analyze", "--bogus"], ["--bogus", "graphflops analyze --help"]),
    (["nope"], ["'nope'"]),
    (["rules"], ["Missing command"]),
    (["rules", "nope"], ["'nope'"]),
    (["rules", "show", "nope"], ["'nope'"]),
    (["rules", "show", ""], ["''"]),
    (["rules", "list", "--rules", "nope.py"], ["nope.py"]),
    (["rules", "stub", "builtins:print"], ["print"]),
    (["rules", "stub", "bad_models:ForwardIsANumber"], ["no names"]),
    (["show"], ["Missing argument"]),
    (["analyze", "a", "b", "c"], ["(b c)"]),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=[" ".join(command[0])[:50] for command in COMMANDS])
def test_a_command(capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], message: list[str]) -> None:
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert "at fault" not in err
    assert [part for part in message if part not in err] == [], err
    assert len(err) < 1500
    assert not list(folder.iterdir())


def test_exit_is_no_factory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # which it closes
    assert main(["analyze", "builtins:exit"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: builtins:exit raised SystemExit")


def test_a_number_where_forward_asks_for_one(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "repeated.py").write_text(
        "from torch import nn\n"
        "class Repeated(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(4, 4)\n"
        "    def forward(self, x, n: int = 2):\n"
        "        for _ in range(n): x = self.linear(x)\n"
        "        return x\n"
    )
    assert main(["analyze", "repeated:Repeated", "-i", "x=5x4", "-i", "n=3", "--inference"]) == 0
    assert f"{2 * 3 * 5 * 4 * 4:,}" in capsys.readouterr().out


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch is about to give these up
    QUANTIZED = torch.quantize_per_tensor(X, 0.1, 0, torch.quint8)


class Speechless:
    def __repr__(self) -> str:
        raise RuntimeError


OPTIONS: list[tuple[str, list[Any]]] = [
    ("convention", [3, None, {}, b"standard", ["standard"], Speechless()]),
    ("rules", [3, "mine.py", b"mine.py", nn.Linear(1, 1), Speechless()]),
    ("expand", [3, "aten.*", {"aten.*": 1}, [3], Speechless()]),
    ("optimizer", [object, [], 3, True, "", Speechless()]),
    ("training", ["no", None, 1, Speechless()]),
    ("strict", ["no", 2]),
    ("fold", [2, None]),
    ("rates", [3, [("a", 1)], {1: 2}, {"*": None}, {"*": True}, {"*": []}, {"*": float("nan")}, Speechless()]),
    ("attention", [3, None, ["flash"], Speechless()]),
    ("kwargs", [[X], 3, {1: X}, "x"]),
    ("args", [3, None, "x", {"x": X}, {X}, (QUANTIZED,), QUANTIZED]),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OPTIONS for value in values],
    ids=[f"{name}, {type(value).__name__}" for name, values in OPTIONS for value in values],
)
def test_an_argument_of_analyze(name: str, value: Any) -> None:
    inputs = {"args": (X,)} if name not in ("args", "kwargs") else {}
    with pytest.raises(UsageError) as caught:
        analyze(nn.Linear(4, 4), **{**inputs, name: value})
    assert name in str(caught.value) or {"args": "input", "rates": "rate"}.get(name, name) in str(caught.value)


@pytest.mark.parametrize("model", [None, 3, "x", nn.Linear, [nn.Linear(4, 4)], X, Speechless()])
def test_values_that_are_no_model(model: Any) -> None:
    with pytest.raises(UsageError, match="the model is"):
        analyze(model, (X,))


@pytest.mark.parametrize("listed", [[3], [None], [len], [nn.Linear], [Speechless()], [rule("aten.relu")]])
def test_values_that_are_no_rule(listed: list[Any]) -> None:
    with pytest.raises(RuleError, match=r"is not a rule|above one"):
        analyze(nn.Linear(4, 4), (X,), rules=listed)


@pytest.mark.parametrize("target", [5, None, "", " ", "a b", "a.", ".a", "a..b", [], {}, b"aten.relu", Speechless()])
def test_calls_without_a_rule(target: Any) -> None:
    with pytest.raises(RuleError, match="is not a target"):
        rule(target)


QUESTIONS: list[Callable[[Any], Any]] = [
    lambda report: report.explain(3),
    lambda report: report.explain([]),
    lambda report: report.flops([]),
    lambda report: report.by_component(None),
    lambda report: report.work({}),
    lambda report: report.select(Speechless()),
]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_invalid_queries_of_a_report(ask: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError):
        ask(analyze(nn.Linear(4, 4), (X,)))


@pytest.mark.parametrize("options", [{"foo": 1}, {"convention": 3}, {"rates": 3}, {"training": 1}])
def test_an_option_of_law(options: dict[str, Any]) -> None:
    with pytest.raises(GraphflopsError, match=next(iter(options))):
        law(lambda N: (nn.Linear(4, 4), (torch.ones(N, 4),)), {"N": 2}, **options)
