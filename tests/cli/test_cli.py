"""The command line: what it prints, what it takes, and one clear message for everything that can be wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphflops.cli import main

MODELS = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10)

    def forward(self, tokens, scale=None):
        x = self.head(self.embed(tokens))
        return x if scale is None else x * scale

class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Mystery(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

class Mysterious(nn.Module):
    def forward(self, x):
        return Mystery.apply(x.requires_grad_())

def raises():
    raise OSError("no weights here")

def needs_real_values():
    return nn.Linear(int(torch.ones(3).sum()), 2)

def number():
    return 7

instance = nn.Linear(4, 4)
"""

BOTH = "from graphflops import Cost, Work, rule\nimport torch\n"
RULE = "@rule('users_models.Mystery')\ndef {name}():\n    return Cost(grads={{'*': Work()}})\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "users_models.py").write_text(MODELS)
    (tmp_path / "broken_module.py").write_text("import torch\nnope(\n")
    (tmp_path / "syntax.py").write_text("from graphflops import rule\n\ndef broken(:\n")
    (tmp_path / "raising.py").write_text("import torch\n\nraise RuntimeError('not today')\n")
    (tmp_path / "twice.py").write_text(BOTH + RULE.format(name="one") + RULE.format(name="two"))
    (tmp_path / "same_name.py").write_text(BOTH + RULE.format(name="one") + RULE.format(name="one"))
    (tmp_path / "good.py").write_text(BOTH + RULE.format(name="mystery"))
    (tmp_path / "asks.py").write_text(BOTH + "@rule(torch.ops.aten.mul)\ndef mine(slef): return Cost()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("users_models", "broken_module"):
        sys.modules.pop(name, None)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


class TestAnalyze:
    def test_resnet_bk_is_the_default_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = run(capsys, "analyze")
        assert (code, err) == (0, "")
        for message in (
            "ConfigurableResNetBK",
            "4,146,120",
            "tokens int64(32, 128)",
            "standard",
            "16.3",
            "32.6",
            "48.9",
        ):
            assert message in out
        assert "59 ops, 49 counted, 10 free (views, casts), 0 unsupported" in out

    def test_batch_length_and_configuration_vary_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(
            capsys, "analyze", "--batch", "2", "--seq", "16", "--config", "BASELINE_CONFIG,d_model=8,n_layers=1"
        )
        assert code == 0
        assert "tokens int64(2, 16)" in out
        assert (
            f"{30_000 * 8 + 16 * 8 + (16 + 36 + 4 * (8 * 16 + 16 + 16 * 8 + 8) + 9 + 24 + 1) + 16 + 270_000:,}" in out
        )

    @pytest.mark.parametrize(
        ("target", "inputs", "message"),
        [
            ("users_models:Tiny", ["tokens=3x5:int64"], "tokens int64(3, 5)"),
            ("users_models:Tiny", ["tokens=3x5:i64 scale=3x5x10:f32"], "scale float32(3, 5, 10)"),
            ("users_models:Tiny", ["tokens=3x5:int64,scale=scalar:f64"], "scale float64()"),
            ("users_models:instance", ["2x4"], "input float32(2, 4)"),
            ("users_models:needs_real_values", ["2x3:f32"], "Linear"),
            ("torch.nn:Identity", ["2x3"], "Identity"),
        ],
    )
    def test_any_factory(
        self, folder: Path, capsys: pytest.CaptureFixture[str], target: str, inputs: list[str], message: str
    ) -> None:
        code, out, err = run(capsys, "analyze", target, *(part for text in inputs for part in ("--input", text)))
        assert (code, err) == (0, "")
        assert message in out

    def test_the_batch_is_the_leading_size(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, out, _ = run(capsys, "analyze", "users_models:Tiny", "-i", "tokens=3x5:int64", "--batch", "7")
        assert "tokens int64(7, 5)" in out

    def test_prints_the_path_of_the_report(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, out, _ = run(capsys, "analyze", "users_models:instance", "-i", "2x4", "--json", "out.json")
        assert out.splitlines()[-1].split() == ["report", "out.json"]
        assert json.loads((folder / "out.json").read_text())["unit"] == "FLOP"

    def test_a_saved_report_is_shown_again(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, first, _ = run(capsys, "analyze", "users_models:instance", "-i", "2x4", "--json", "out.json")
        code, second, _ = run(capsys, "show", "out.json")
        assert code == 0
        assert first.startswith(second.rstrip())

    def test_forward_alone(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, out, _ = run(capsys, "analyze", "users_models:instance", "-i", "2x4", "--inference")
        assert "forward pass" in out
        assert "optimizer (" not in out

    def test_rates_are_of_data_dependent_modules(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(capsys, "analyze", "--rate", "blocks.*=0.3..0.8", "--rate", "blocks.3.*=0.62")
        assert code == 0
        assert "lower – upper" in out
        assert "rate 31/50: blocks.3" in out
        assert "rate 3/10 – 4/5: blocks.0, blocks.1, blocks.2" in out

    def test_a_number_is_explained(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(capsys, "analyze", "--explain", "blocks.0.bk_layer.bk_core")
        assert code == 0
        assert "34·N a sequence forward" in out

    @pytest.mark.parametrize("width", [80, 200])
    @pytest.mark.parametrize("colour", [True, False])
    def test_it_is_pleasant_at_any_width_with_and_without_colour(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, colour: bool
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
        monkeypatch.delenv("NO_COLOR" if colour else "FORCE_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        _, out, _ = run(capsys, "analyze")
        assert ("\x1b[" in out) == colour
        plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
        assert max(map(len, plain.splitlines())) <= width
        assert "48.9 G" in plain


class TestRules:
    def test_every_target_is_listed_with_its_rule(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(capsys, "rules", "list")
        assert code == 0
        assert "aten.linear " in out
        assert "graphflops.bk_core" in out
        assert "rules/linear.py:" in out

    def test_a_rule_of_your_own_is_used(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["analyze", "users_models:Mysterious", "-i", "3", "--strict"]
        assert run(capsys, *arguments)[0] == 2
        assert run(capsys, *arguments, "--rules", "good.py")[0] == 0

    def test_lists_the_rules_it_overrides(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "mine.py").write_text(BOTH + "@rule(torch.ops.aten.mul)\ndef mine(): return Cost()\n")
        _, out, _ = run(capsys, "rules", "list", "--rules", "mine.py")
        (line,) = (line for line in out.splitlines() if line.startswith("aten.mul "))
        assert "mine.py:3" in line
        assert "rules/elementw" in line.partition("mine.py:3")[2]


WRONG = [
    pytest.param(["users_models:Tiny", "-i", "tokens=5:int64x"], 1, ["'int64x'", "float32, int64"], id="dtype"),
    pytest.param(["users_models:Tiny", "-i", "tokens=5by5"], 1, ["tokens=5by5", "NAME=SIZExSIZE:DTYPE"], id="input"),
    pytest.param(["users_models:Tiny", "-i", "token=5:int64"], 1, ["token", "tokens", "scale"], id="name"),
    pytest.param(["users_models:Tiny"], 1, ["tokens", "--input"], id="no input"),
    pytest.param(["users_models:instance", "-i", "2x5"], 1, ["Linear", "float32(2, 5)"], id="wrong shape"),
    pytest.param(["--input", "tokens=2x128:f32"], 1, ["int64", "float32", "token ids"], id="wrong dtype"),
    pytest.param(["--input", "tokens=2x64:int64"], 1, ["128", "64", "n_seq"], id="wrong length"),
    pytest.param(["users_models:Branches", "-i", "2x2"], 1, ["users_models.py:16", "@rule("], id="untraceable"),
    pytest.param(["users_models:Mysterious", "-i", "2", "--strict"], 2, ["Mystery", "@rule("], id="no rule"),
    pytest.param(["no_such_package:x"], 1, ["no_such_package"], id="no module"),
    pytest.param(["users_models:Tinny"], 1, ["Tinny", "did you mean Tiny"], id="no factory"),
    pytest.param(["users_models"], 1, ["MODULE:FACTORY"], id="no colon"),
    pytest.param(["users_models:raises"], 1, ["OSError: no weights here", "users_models.py:28"], id="factory raises"),
    pytest.param(["users_models:number"], 1, ["int", "torch.nn.Module"], id="not a module"),
    pytest.param(["broken_module:x"], 1, ["broken_module.py:2", "SyntaxError"], id="module with a syntax error"),
    pytest.param(["--json", "nowhere/out.json"], 1, ["nowhere/out.json", "cannot write"], id="unwritable"),
    pytest.param(["--rules", "syntax.py"], 1, ["syntax.py:3", "SyntaxError"], id="rule file with a syntax error"),
    pytest.param(["--rules", "raising.py"], 1, ["raising.py:3", "not today"], id="rule file that raises"),
    pytest.param(["--rules", "absent.py"], 1, ["absent.py"], id="no rule file"),
    pytest.param(["--rules", "twice.py"], 1, ["two rules", "Mystery", "twice.py:3", "twice.py:6"], id="twice"),
    pytest.param(["--rules", "same_name.py"], 1, ["two rules", "one", "same_name.py"], id="twice under one name"),
    pytest.param(
        ["--rules", "asks.py"], 1, ["asks.py:3", "slef", "other", "aten.mul does not provide"], id="rule asks wrongly"
    ),
    pytest.param(["--config", "d_modle=3"], 1, ["d_modle", "d_model"], id="no field"),
    pytest.param(["--config", "d_model=three"], 1, ["d_model", "int", "three"], id="wrong value"),
    pytest.param(["--config", "top_k=9"], 1, ["top_k", "9", "num_experts"], id="not allowed"),
    pytest.param(["--config", "NO_CONFIG"], 1, ["NO_CONFIG", "BASELINE_CONFIG"], id="no preset"),
    pytest.param(["--optimizer", "lion"], 1, ["lion", "adamw", "sgd_momentum"], id="no optimizer"),
    pytest.param(["--convention", "cubits"], 1, ["cubits", "standard, exact"], id="no convention"),
    pytest.param(["--attention", "slow"], 1, ["slow", "flash"], id="no attention"),
    pytest.param(["--explain", "blocks.9"], 1, ["blocks.9", "did you mean"], id="no such path"),
    pytest.param(["--rate", "block.3=0.5"], 1, ["block.3", "did you mean blocks.3"], id="rate of nothing"),
    pytest.param(["--rate", "blocks.3"], 1, ["blocks.3", "PATTERN=RATE"], id="no rate"),
    pytest.param(["--rate", "blocks.3=half"], 1, ["blocks.3", "half", "num_experts"], id="rate that is none"),
    pytest.param(["--rate", "blocks.3=62"], 1, ["blocks.3", "more than 1"], id="rate in percent"),
    pytest.param(["--batch", "0"], 1, ["--batch"], id="no batch"),
    pytest.param(["--bogus"], 1, ["--bogus"], id="no option"),
    pytest.param(["users_models:Tiny", "--seq", "3"], 1, ["--seq", "--input"], id="length of another model"),
]


class TestWhenSomethingIsWrong:
    @pytest.mark.parametrize(("arguments", "code", "message"), WRONG)
    def test_one_clear_message_and_an_exit_code(
        self, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: list[str]
    ) -> None:
        before = sorted(file.name for file in folder.iterdir() if file.name != "__pycache__")
        got, _, err = run(capsys, "analyze", *arguments)
        assert got == code
        assert "Traceback" not in err
        assert [phrase for phrase in message if phrase not in err] == [], err
        assert sorted(file.name for file in folder.iterdir() if file.name != "__pycache__") == before, "no file is left"

    def test_show_of_no_report(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = run(capsys, "show", "users_models.py")
        assert code == 1
        assert "users_models.py is not JSON" in err

    def test_an_unknown_op_is_reported_and_is_no_error_unless_strict(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, out, _ = run(capsys, "analyze", "users_models:Mysterious", "-i", "2")
        assert code == 0
        assert "lower bounds" in out
        assert "Mystery" in out


def test_the_installed_command_exits_as_main_says() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "graphflops", "analyze", "nope"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: ")
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
