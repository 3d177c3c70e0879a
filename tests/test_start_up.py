"""Commands that do not need torch do not import it, which would be most of their time."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphflops.models  # noqa: F401  # which registers operators that shipped rules name
from graphflops import analyze
from graphflops.core.names import aten
from graphflops.rules.loading import shipped
from graphflops.rules.targets import registry_key, resolve


def output_without_torch(code: str) -> str:
    """The output of code in a separate process, which fails if the code imported torch."""
    code += "\nimport sys; assert 'torch' not in sys.modules, 'torch was imported'"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def command(*arguments: str) -> str:
    return f"from graphflops.cli import main; assert main({list(arguments)!r}) == 0"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("reports") / "report.json"
    return analyze(torch.nn.Linear(3, 4), (torch.empty(2, 3),)).to_json(file)


def test_what_rules_are_written_with() -> None:
    output_without_torch("from graphflops import Cost, Report, Spec, NotSupported, Work, rule, spec")


def test_every_public_name_is_listed_before_it_is_imported() -> None:
    listed = output_without_torch("import graphflops; print(*set(graphflops.__all__) - set(dir(graphflops)))")
    assert listed.split() == []


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--help"], "Commands"),
        (["--version"], "graphflops 0"),
        (["analyze", "--help"], "--optimizer"),
        (["rules", "list"], "aten.linear"),
        (["rules", "list", "optimizer"], "optimizer.adamw"),
    ],
    ids=" ".join,
)
def test_commands(arguments: list[str], answer: str) -> None:
    assert answer in output_without_torch(command(*arguments))


def test_a_saved_report_is_shown(saved: Path) -> None:
    assert "backward" in output_without_torch(command("show", str(saved)))


def test_a_saved_report_is_explained(saved: Path) -> None:
    assert "Linear" in output_without_torch(command("explain", str(saved)))


def test_a_saved_report_is_read(saved: Path) -> None:
    read = output_without_torch(f"from graphflops import Report; print(Report.from_json({str(saved)!r}).forward)")
    assert int(read) == 2 * 2 * 3 * 4


class TestShippedRules:
    """They name their targets, as these call themselves; what a name names is found when torch is there."""

    def test_stand_under_the_same_keys_with_torch_and_without(self) -> None:
        listed = "from graphflops.rules.loading import shipped; print(*shipped().rules, sep='\\n')"
        assert set(output_without_torch(listed).splitlines()) == {registry_key(target) for target in targets()}

    def test_name_operators_that_there_are(self) -> None:
        named = [target for target in targets() if target.startswith("aten.") and target not in OF_OTHER_VERSIONS]
        assert named
        assert not [target for target in named if resolve(target) is target]
        assert all(registry_key(target) == registry_key(resolve(target)) for target in named)


VERSION = tuple(map(int, torch.__version__.split(".")[:2]))
OF_OTHER_VERSIONS = (
    {"aten.cholesky"} if VERSION >= (2, 15) else {"aten._fused_rms_norm_backward"} if VERSION < (2, 9) else ()
)


def targets() -> set[str]:
    return {target for _, rule in shipped() for target in rule.targets}


@pytest.mark.parametrize("spelling", ["aten.mm", "aten::mm", "torch.ops.aten.mm", aten.mm, torch.ops.aten.mm])
def test_all_spellings_of_an_operator_are_one_target(spelling: object) -> None:
    assert registry_key(spelling) == "aten::mm"
    assert shipped().find(torch.ops.aten.mm.default) is shipped().rules[registry_key(spelling)]
