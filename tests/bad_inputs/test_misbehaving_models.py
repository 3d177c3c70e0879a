"""Models, factories and rules that misbehave: one message that names what and where, the right exit code, no traceback.

Each is tried through the command, and those that an analysis meets through ``analyze`` as well.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import CaptureError, GraphflopsError, RuleError, RuleLoadError, UsageError, analyze, law
from graphflops.cli import main

HERE = Path(__file__).parent
X = torch.ones(2, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    yield tmp_path
    for name in ("exits_on_import", "interrupted_on_import", "broken_on_import"):
        sys.modules.pop(name, None)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, err


FACTORIES = [
    ("bad_models:factory_exits", "SystemExit: 0"),
    ("bad_models:factory_exits_with_a_word", "SystemExit: bye"),
    ("bad_models:factory_ends_a_generator", "GeneratorExit"),
    ("bad_models:factory_is_quiet", "ValueError\n"),
    ("bad_models:factory_recurses", "RecursionError"),
    ("bad_models:factory_runs_out_of_memory", "MemoryError"),
    ("bad_models:factory_needs", "missing 1 required positional argument: 'width'. Give literals"),
    ("bad_models:factory_raises_without_words", "Mute: its text raises RuntimeError"),
    ("bad_models:factory_talks_at_length", "more characters)"),
    ("bad_models:makes_nothing", "NoneType, not a torch.nn.Module"),
    ("bad_models:makes_a_class", "type, not a torch.nn.Module"),
    ("bad_models:makes_a_tensor", "Tensor, not a torch.nn.Module"),
    ("bad_models:lazy", "RuntimeError: not installed"),
    ("bad_models:lazy_exit", "SystemExit: 0"),
    ("bad_names:namespace.model", "RuntimeError: not today"),
    ("bad_names:namespace.exits", "SystemExit: 0"),
    ("bad_names:namespace.other", "KeyError: 'other'"),
    ("bad_names:things.number", "expected a torch.nn.Module or a function"),
    ("bad_names:things.other", "has no 'things.other'"),
    ("torch.nn:Linear", "'in_features' and 'out_features'. Give literals"),
    ("os:getcwd", "returned a str"),
    ("os:path", "is a module"),
]
MODELS = [
    ("ForwardExits", "SystemExit: 0"),
    ("ForwardSaysBye", "SystemExit: bye"),
    ("ForwardEndsAGenerator", "GeneratorExit"),
    ("ForwardRaisesWithoutWords", "Mute"),
    ("ForwardTalksAtLength", "more characters)"),
    ("ForwardRecurses", "RecursionError"),
    ("ForwardIsAProperty", "RuntimeError: no forward today"),
    ("ForwardPropertyExits", "SystemExit: 0"),
    ("ForwardIsANumber", "callable"),
    ("HasNoForward", "forward"),
    ("InitIsNotCalled", "super().__init__()"),
    ("ChildIsNotWhole", "child (InitIsNotCalled)"),
    ("AttributesRaise", "RuntimeError: no "),
    ("AttributesExit", "SystemExit: 0"),
    ("Branches", "data-dependent control flow"),
]


@pytest.mark.parametrize(("target", "message"), FACTORIES, ids=[factory[0] for factory in FACTORIES])
def test_a_factory(capsys: pytest.CaptureFixture[str], target: str, message: str) -> None:
    code, err = run(capsys, "analyze", target, "-i", "2x4")
    assert (code, err[:7]) == (1, "error: ")
    assert message in err
    assert target in err
    assert len(err) < 2500


@pytest.mark.parametrize("command", ["analyze", "verify", "explain"])
@pytest.mark.parametrize(("name", "message"), MODELS, ids=[model[0] for model in MODELS])
def test_a_model(capsys: pytest.CaptureFixture[str], command: str, name: str, message: str) -> None:
    code, err = run(capsys, command, f"bad_models:{name}", "-i", "2x4")
    assert (code, err[:7]) == (1, "error: ")
    assert message in err
    assert name in err or "bad_models.py:" in err
    assert len(err) < 3500


@pytest.mark.parametrize(("name", "message"), MODELS, ids=[model[0] for model in MODELS])
def test_a_model_in_python(name: str, message: str) -> None:
    import bad_models  # type: ignore[import-not-found]

    with pytest.raises((CaptureError, UsageError)) as caught:
        analyze(getattr(bad_models, name)(), (X,))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["scale", "bad_models:of_size_exits", "--size", "N=2..8"],
        ["compare", "bad_models:ForwardExits", "bad_models:Simple", "-i", "2x4"],
        ["compare", "bad_models:Simple", "bad_models:factory_exits", "-i", "2x4"],
        ["rules", "stub", "bad_models:lazy_exit"],
    ],
)
def test_an_exit_in_any_command(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, err = run(capsys, *arguments)
    assert code == 1
    assert "SystemExit: 0" in err
    assert "bad_models.py:" in err


@pytest.mark.parametrize("raised", ["SystemExit", "SystemExit('bye')", "GeneratorExit", "ValueError('no')"])
@pytest.mark.parametrize("command", ["analyze", "verify", "scale", "stub"])
def test_a_module_that_raises_as_it_is_imported(
    capsys: pytest.CaptureFixture[str], folder: Path, command: str, raised: str
) -> None:
    (folder / "exits_on_import.py").write_text(f"\nraise {raised}\n")
    code, err = run(capsys, *(["rules", "stub"] if command == "stub" else [command]), "exits_on_import:x")
    assert code == 1
    assert err.startswith("error: exits_on_import:x: importing exits_on_import failed, ")
    assert "exits_on_import.py:2" in err


RULE = "from graphflops import Cost, Work, rule\nimport sys\n"
RULES = [
    ("sys.exit(0)", "SystemExit: 0"),
    ("raise SystemExit('bye')", "SystemExit: bye"),
    ("raise GeneratorExit", "GeneratorExit"),
    ("@rule\ndef mine(x): return Cost()", "@rule without brackets"),
    ("@rule()\ndef mine(x): return Cost()", "has no target"),
    ("@rule(5)\ndef mine(x): return Cost()", "5 is not a target"),
    ("@rule(None)\ndef mine(x): return Cost()", "None is not a target"),
    ("@rule('')\ndef mine(x): return Cost()", "'' is not a target"),
    ("@rule('aten.relu ')\ndef mine(x): return Cost()", "'aten.relu ' is not a target"),
    ("@rule('aten..relu')\ndef mine(x): return Cost()", "'aten..relu' is not a target"),
    ("@rule(['aten.relu'])\ndef mine(x): return Cost()", "['aten.relu'] is not a target"),
    ("@rule('aten.relu')\nclass Mine: pass", "decorates a function"),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("command", ["analyze", "rules list", "rules show aten.relu", "verify", "scale"])
@pytest.mark.parametrize(("text", "message"), RULES, ids=[rule[0] for rule in RULES])
def test_a_rule_file(capsys: pytest.CaptureFixture[str], folder: Path, command: str, text: str, message: str) -> None:
    (folder / "mine.py").write_text(RULE + text + "\n")
    code, err = run(capsys, *command.split(), "--rules", "mine.py")
    assert code == 1
    assert "mine.py:3" in err
    assert message in err


@pytest.mark.parametrize(("text", "message"), RULES, ids=[rule[0] for rule in RULES])
def test_a_rule_file_that_is_checked(capsys: pytest.CaptureFixture[str], folder: Path, text: str, message: str) -> None:
    (folder / "mine.py").write_text(RULE + text + "\n")
    code = main(["rules", "check", "mine.py"])
    out, _ = capsys.readouterr()
    assert code == 1
    assert "mine.py:3" in out
    assert message in out


@pytest.mark.parametrize(
    "raised", ["sys.exit(0)", "raise SystemExit('bye')", "raise GeneratorExit", "raise OSError(3)"]
)
def test_a_rule_that_raises_when_it_is_asked(capsys: pytest.CaptureFixture[str], folder: Path, raised: str) -> None:
    (folder / "mine.py").write_text(f"{RULE}@rule('aten.linear')\ndef mine(input):\n    {raised}\n")
    code, err = run(capsys, "analyze", "bad_models:Simple", "-i", "2x4", "--rules", "mine.py")
    assert code == 1
    assert "mine.py:3: rule mine raised" in err
    with pytest.raises(RuleError, match="rule mine raised"):
        analyze(nn.Linear(4, 4), (X,), rules=["mine.py"])


def test_a_placeholder_among_the_names_of_a_rule_file(folder: Path) -> None:
    class_ = "class Later:\n    def __getattribute__(self, name): raise RuntimeError('not imported yet')\n"
    text = f"{RULE}{class_}later = Later()\n@rule('aten.linear')\ndef mine(input): return Cost(Work(macs=7))\n"
    (folder / "mine.py").write_text(text)
    assert analyze(nn.Linear(4, 4), (X,), rules=["mine.py"], training=False).macs == 7


@pytest.mark.parametrize("factory", [lambda N: sys.exit(0), lambda N: 3, lambda N: (3, (X,)), lambda M: None])
def test_a_factory_of_sizes_in_python(factory: Callable[..., Any]) -> None:
    with pytest.raises(GraphflopsError):
        law(factory, {"N": 2})


def test_an_installed_file_is_no_rule(folder: Path) -> None:
    (folder / "rules.txt").write_text("")
    with pytest.raises(RuleLoadError, match=r"rules\.txt is not a rule file"):
        analyze(nn.Linear(4, 4), (X,), rules=["rules.txt"])


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def _sigint_is_heard(self) -> Iterator[None]:
        # A shell ignores it for what it starts in the background, and a process hands that on to its children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["analyze", "bad_models:factory_is_interrupted"],
            ["analyze", "bad_models:factory_interrupts_itself"],
            ["analyze", "bad_models:ForwardIsInterrupted", "-i", "2x4"],
            ["verify", "bad_models:ForwardIsInterrupted", "-i", "2x4"],
            ["compare", "bad_models:Simple", "bad_models:ForwardIsInterrupted", "-i", "2x4"],
            ["analyze", "interrupted_on_import:x"],
            ["rules", "stub", "interrupted_on_import:x"],
            ["analyze", "--rules", "interrupted_on_import.py"],
            ["rules", "list", "--rules", "interrupted_on_import.py"],
            ["rules", "check", "interrupted_on_import.py"],
            ["analyze", "bad_models:Simple", "-i", "2x4", "--rules", "interrupted.py", "--json", "report.json"],
        ],
        ids=" ".join,
    )
    def test_are_said_and_leave_nothing(
        self, capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str]
    ) -> None:
        (folder / "interrupted_on_import.py").write_text("raise KeyboardInterrupt\n")
        (folder / "interrupted.py").write_text(f"{RULE}@rule('aten.linear')\ndef f(input): raise KeyboardInterrupt\n")
        before = {file.name for file in folder.iterdir()}
        assert run(capsys, *arguments) == (130, "interrupted\n")
        assert {file.name for file in folder.iterdir()} - {"__pycache__"} == before

    def test_while_a_report_is_written(
        self, capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("graphflops.report.report.Report.to_json", interrupted)
        arguments = ["analyze", "bad_models:Simple", "-i", "2x4", "--json", "report.json"]
        assert run(capsys, *arguments) == (130, "interrupted\n")
        assert not list(folder.iterdir())

    def test_of_a_process(self, folder: Path) -> None:
        (folder / "slow.py").write_text("import time\nopen('started', 'w').close()\ntime.sleep(60)\n")
        command = [sys.executable, "-m", "graphflops", "analyze", "slow:x"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (folder / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (130, b"", b"interrupted\n")


class TestAdvice:
    def test_for_a_function_names_nothing_of_ours(self) -> None:
        with pytest.raises(CaptureError) as caught:
            analyze(lambda x: x if x.sum() > 0 else -x, (X,))
        assert "graphflops" not in str(caught.value)
        assert "torch.library.custom_op" in str(caught.value)

    def test_for_a_module_is_a_rule_to_paste(self) -> None:
        import bad_models

        with pytest.raises(CaptureError, match=r'@rule\("bad_models\.Branches"'):
            analyze(bad_models.Branches(), (X,))

    def test_a_refusal_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        import bad_models

        with pytest.raises(CaptureError, match=r"torch\.export"):
            analyze(bad_models.Branches(), (X,))
        assert capfd.readouterr() == ("", "")

    def test_and_others_may_print_as_before(self, capsys: pytest.CaptureFixture[str]) -> None:
        from graphflops.tracing.isolation.logs import print_unless_silent

        print_unless_silent("a graph")
        assert capsys.readouterr().out == "a graph\n"
