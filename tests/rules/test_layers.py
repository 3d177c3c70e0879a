"""Where rules come from, who speaks over whom, and what a broken one does to the others."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphflops import Cost, Report, RuleError, RuleLoadError, Spec, Work, analyze, rule
from graphflops.cli import main
from graphflops.rules.book import RuleBook
from graphflops.rules.loading import rulebook

HEAD = "from graphflops import Cost, Work, rule\n\n"


def costs(times: int, target: str = "'torch.nn.ReLU'", name: str = "mine") -> str:
    """A rule that says ``times`` operations, whatever comes."""
    return f"@rule({target})\ndef {name}(out):\n    return Cost(Work(elementwise={times}), {{'*': Work()}})\n"


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package that announces rules: a module, and the metadata that an installer writes beside it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(name: str, text: str, version: str = "1.2") -> None:
        (site / f"{name}_rules.py").write_text(text)
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[graphflops.rules]\n{name} = {name}_rules\n")
        monkeypatch.delitem(sys.modules, f"{name}_rules", raising=False)

    yield install
    for name in [module for module in sys.modules if module.endswith("_rules") and module.startswith("layers_")]:
        del sys.modules[name]


def relu(**options) -> Report:
    return analyze(nn.ReLU(), (torch.zeros(2, 3),), **options)


@rule(nn.ReLU)
def given(out: Spec) -> Cost:
    return Cost(Work(elementwise=4), {"*": Work()})


class TestTheLaterSpeaks:
    def test_shipped_then_installed_then_a_file_then_the_call(self, announce, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(HEAD + costs(3))
        assert relu().forward == 2 * 3
        announce("layers_one", HEAD + costs(2))
        assert relu().forward == 2
        assert relu(rules=[file]).forward == 3
        assert relu(rules=[given, file]).forward == 4, "whatever the order in which they are given"

    def test_of_two_files_the_one_given_later(self, tmp_path: Path) -> None:
        files = [tmp_path / "first.py", tmp_path / "second.py"]
        for i, file in enumerate(files):
            file.write_text(HEAD + costs(10 + i))
        assert relu(rules=files).forward == 11
        assert relu(rules=files[::-1]).forward == 10

    @pytest.mark.parametrize(
        "target", ["'torch.nn.ReLU'", "'nn.ReLU'", "'torch.nn.modules.activation.ReLU'", "nn.ReLU"]
    )
    def test_however_a_target_is_written(self, target: str, announce, tmp_path: Path) -> None:
        announce("layers_one", HEAD + "from torch import nn\n" + costs(2, "nn.ReLU"))
        (tmp_path / "mine.py").write_text(HEAD + "from torch import nn\n" + costs(3, target))
        assert relu(rules=[tmp_path / "mine.py"]).forward == 3

    @pytest.mark.parametrize("target", ["aten.add", "aten::add", "torch.ops.aten.add", "aten.add.Tensor"])
    def test_a_whole_operator_given_later_speaks_over_one_overload(self, target: str) -> None:
        @rule(torch.ops.aten.add.Tensor)
        def overload(out: Spec) -> Cost:
            return Cost()

        @rule(target)
        def packet_rule(out: Spec) -> Cost:
            return Cost()

        book = RuleBook.of([overload]) | RuleBook.of([packet_rule])
        assert book.find(torch.ops.aten.add.Tensor) is packet_rule


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def doubled(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x)


@torch.library.custom_op("authoring::double", mutates_args=())
def double(x: Tensor) -> Tensor:
    return 2 * x


double.register_fake(torch.empty_like)
double.register_autograd(lambda ctx, grad: 2 * grad)


class TestWhatARuleMayName:
    """Each by the thing itself and by its name: five lines."""

    @pytest.mark.parametrize(
        ("target", "call"),
        [
            (Doubling, Doubling()),
            (f"{__name__}.Doubling", Doubling()),
            (Twice, Twice.apply),
            (f"{__name__}.Twice", Twice.apply),
            (torch.nn.functional.normalize, doubled),
            ("torch.nn.functional.normalize", doubled),
            ("F.normalize", doubled),
            (double, double),
            (torch.ops.authoring.double, double),
            ("authoring.double", double),
            ("authoring::double", double),
            (torch.ops.aten.exp, torch.exp),
            (torch.exp, torch.exp),
            ("aten.exp", torch.exp),
            (torch.nn.functional.gelu, nn.GELU()),
            ("F.gelu", nn.GELU()),
        ],
        ids=lambda case: getattr(case, "__name__", str(case)),  # and no address in memory
    )
    def test_one_call_costs_what_its_rule_says(self, target, call) -> None:
        @rule(target)
        def own_rule(out: Spec) -> Cost:
            return Cost(Work(elementwise=7 * out.numel), {"*": Work(elementwise=5 * out.numel)})

        report = analyze(call, (torch.zeros(2, 3, requires_grad=True),), rules=[own_rule])
        assert (report.forward, report.backward) == (7 * 6, 5 * 6)
        assert not report.unknown


class TestABrokenFileOfSomebodyElse:
    BROKEN = "import torch\n\nraise RuntimeError('not today')\n"

    def test_takes_no_other_down_and_is_reported(self, announce) -> None:
        announce("layers_bad", self.BROKEN)
        announce("layers_good", HEAD + costs(2))
        report = relu()
        assert report.forward == 2
        (warning,) = report.warnings
        for part in ("layers_bad 1.2", "layers_bad_rules.py:3", "RuntimeError: not today"):
            assert part in warning
        assert "".join(f"warning: {warning}".split()) in "".join(str(report).split())  # lines are folded

    def test_unless_strict(self, announce) -> None:
        announce("layers_bad", self.BROKEN)
        with pytest.raises(RuleLoadError, match=r"layers_bad 1\.2(.|\n)*RuntimeError: not today"):
            relu(strict=True)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("def broken(:\n", "layers_bad_rules.py:1: SyntaxError"),
            (HEAD + costs(1) + costs(2, "'a.B'"), "two rules of the same name: mine"),
            (HEAD + costs(1) + costs(2, name="other"), "two rules for torch.nn"),
            (HEAD + "@rule('aten.mm')\ndef mine(slef):\n    return Cost()\n", "has argument 'slef'"),
        ],
        ids=["syntax", "one name twice", "one target twice", "a name that is never offered"],
    )
    def test_in_whatever_way_it_is_broken(self, announce, text: str, says: str) -> None:
        announce("layers_bad", text)
        report = relu()
        assert report.forward == 2 * 3
        assert says in report.warnings[0]

    def test_a_report_keeps_its_warnings(self, announce, tmp_path: Path) -> None:
        announce("layers_bad", self.BROKEN)
        report = relu()
        assert Report.from_json(report.to_json(tmp_path / "report.json")) == report

    def test_of_a_folder_the_other_files_speak(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text(self.BROKEN)
        (tmp_path / "good.py").write_text(HEAD + costs(2))
        report = relu(rules=[tmp_path])
        assert report.forward == 2
        assert "bad.py:3: RuntimeError: not today" in report.warnings[0]
        with pytest.raises(RuleLoadError, match=r"bad\.py:3"):
            relu(rules=[tmp_path], strict=True)

    def test_a_file_that_is_asked_for_by_name_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "bad.py").write_text(self.BROKEN)
        with pytest.raises(RuleLoadError, match=r"bad\.py:3: RuntimeError: not today"):
            rulebook([tmp_path / "bad.py"])

    def test_a_rule_of_a_package_that_raises_leaves_its_calls_unknown(self, announce) -> None:
        announce("layers_bad", HEAD + "@rule('torch.nn.ReLU')\ndef mine(out):\n    return 1 / 0\n")
        report = relu()
        (unknown,) = report.unknown
        for part in ("package layers_bad 1.2", "layers_bad_rules.py:3", "ZeroDivisionError"):
            assert part in unknown.why
        with pytest.raises(Exception, match=r"ZeroDivisionError(.|\n)*while applying it to the model itself: .*ReLU"):
            relu(strict=True)

    def test_nor_is_one_an_error_that_works_on_numbers_alone(self, announce) -> None:
        text = HEAD + "@rule('torch.nn.ReLU')\ndef mine(out):\n"
        announce("layers_bad", text + "    return Cost(Work(elementwise=int(out.numel)), {'*': Work()})\n")
        report = relu()
        (unknown,) = report.unknown
        for part in ("package layers_bad 1.2", "layers_bad_rules.py:3", "called with symbols for sizes"):
            assert part in unknown.why
        with pytest.raises(RuleError, match=r"called with symbols(.|\n)*while applying it to the model itself: .*ReLU"):
            relu(strict=True)


@pytest.mark.parametrize("target", ["F.gelu", torch.nn.functional.gelu])
def test_a_name_of_the_documentation_that_the_operator_does_not_have_is_told_the_other(target, tmp_path: Path) -> None:
    @rule(target)
    def own_rule(input: Spec) -> Cost:
        return Cost()

    with pytest.raises(
        RuleLoadError, match=r"has argument 'input', .*; the operator's schema has self instead of input"
    ):
        rulebook([own_rule])


class TestList:
    @pytest.fixture
    def listed(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
        monkeypatch.setenv("COLUMNS", "160")

        def run(*arguments: str) -> str:
            assert main(["rules", "list", *arguments]) == 0
            return capsys.readouterr().out

        return run

    def test_says_who_speaks_from_where_and_over_whom(self, announce, listed, tmp_path, monkeypatch) -> None:
        announce("layers_one", HEAD + costs(2, "'aten.relu'"))
        (tmp_path / "mine.py").write_text(HEAD + costs(3, "'aten.relu'"))
        monkeypatch.chdir(tmp_path)
        (line,) = listed("aten.relu", "--rules", "mine.py").splitlines()[1:]
        target, source, *_ = line.split()
        assert (target, source) == ("aten.relu", f"{tmp_path.name}/mine.py:3")
        assert line.index("mine.py") < line.index("package layers_one 1.2") < line.index("shipped")

    @pytest.mark.parametrize(
        ("pattern", "first"),
        [("leaky", "aten.leaky_relu"), ("optimizer.*", "optimizer.adam"), ("moe.py", "graphflops.m")],
    )
    def test_takes_a_part_or_a_pattern(self, listed, pattern: str, first: str) -> None:
        heading, *lines = listed(pattern).splitlines()
        assert heading.split() == ["target", "rule", "from", "overrides"]
        assert lines[0].startswith(first)
        assert len(lines) < 8

    def test_says_so_if_there_is_none(self, listed) -> None:
        assert "no target" in listed("no_such_thing")

    def test_omissions_are_on_the_error_stream(self, announce, capsys: pytest.CaptureFixture[str]) -> None:
        announce("layers_bad", "raise RuntimeError('not today')")
        assert main(["rules", "list", "relu"]) == 0
        assert "not today" in capsys.readouterr().err
        assert main(["rules", "list", "relu", "--strict"]) == 1

    def test_help_needs_no_torch(self) -> None:
        code = (
            "import sys; from graphflops.cli import main\n"
            "assert main(['rules', 'list', '--help']) == 0\nsys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
