"""graphflops diff, budget and compare --fail-over: exit codes, commits, and a table that keeps its comments."""

import subprocess
from pathlib import Path

import pytest

from graphflops.cli import main
from graphflops.cli.commits import files_of
from graphflops.core.errors import UsageError

MODELS = """
from torch import nn

WIDTH = 8

def net():
    return nn.Sequential(nn.Linear(4, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))

def wide():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
"""
TABLE = """# a project
[tool.graphflops.budget]  # limits
# the net
"diff_models:net" = { total = "1.5 k", parameters = "60", input = "input=3x4" }  # small

[tool.other]
kept = true
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "diff_models.py").write_text(MODELS)
    (tmp_path / "pyproject.toml").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "a net")
    return project


def graphflops(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_two_models_differ_in_named_layers(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", "diff.json", "--markdown", "diff.md"]
    code, out, _ = graphflops(capsys, "diff", "diff_models:net", "diff_models:wide", "-i", "input=3x4", *files)
    assert code == 0
    assert "linear: weight 8×4 → 16×4, bias 8 → 16, output 3×8 → 3×16" in out
    assert (project / "diff.md").read_text(encoding="utf-8").startswith("### FLOPs: `diff_models:net` → ")
    code, out, _ = graphflops(capsys, "diff", "diff_models:net", "diff_models:net", "-i", "input=3x4")
    assert (code, "no difference" in out) == (0, True)


def test_a_growth_over_the_limit_is_exit_code_3(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("diff", "compare"):
        grown = [command, "diff_models:net", "diff_models:wide", "-i", "input=3x4", "--fail-over"]
        code, out, error = graphflops(capsys, *grown, "2%")
        assert code == 3
        assert "total" in out
        assert "diff_models:wide has more FLOPs than diff_models:net by" in error
        assert graphflops(capsys, *grown, "200%")[0] == 0
    code, _, error = graphflops(capsys, *grown, "much")
    assert (code, "invalid tolerance 'much'" in error) == (1, True)


def test_a_model_at_a_commit_is_that_of_the_commit(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = repository / "diff_models.py"
    models.write_text(MODELS.replace("WIDTH = 8", "WIDTH = 12"))
    before = git(repository, "status", "--porcelain"), sorted(repository.rglob(".git/*"))
    code, out, error = graphflops(capsys, "diff", "diff_models:net@HEAD", "diff_models:wide", "-i", "input=3x4")
    assert (code, error) == (0, "")
    assert "weight 8×4 → 16×4" in out  # the file says 12 by now
    assert (git(repository, "status", "--porcelain"), sorted(repository.rglob(".git/*"))) == before


@pytest.mark.parametrize(
    ("commit", "message"), [("nope", "there is no commit 'nope'"), ("--all", "there is no commit '--all'")]
)
def test_a_commit_that_is_not_there(
    commit: str, message: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = graphflops(capsys, "diff", f"diff_models:net@{commit}", "diff_models:net", "-i", "input=3x4")
    assert (code, out) == (1, "")
    assert message in error


def test_the_files_of_a_commit_are_deleted_after_an_interrupt(repository: Path) -> None:
    folders: list[Path] = []

    def interrupted() -> None:
        with files_of("HEAD") as (folder, search_path):
            assert (folder / "diff_models.py").read_text() == MODELS
            assert str(folder) in search_path
            assert str(repository) not in search_path
            folders.append(folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not folders[0].exists()


def test_without_a_repository_a_commit_is_refused(project: Path) -> None:
    with pytest.raises(UsageError, match="needs a git repository"), files_of("HEAD"):
        pass


def test_a_budget_that_is_exceeded_is_exit_code_3_and_says_which_module_grew(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = graphflops(capsys, "budget", "update")
    assert code == 0
    forward, backward, update = 2 * 3 * (4 * 8 + 8 * 2) + 24, 2 * 3 * (4 * 8 + 2 * 8 * 2) + 24, 15 * 58
    assert forward + backward + update == 1590
    text = (project / "pyproject.toml").read_text()
    assert [line for line in TABLE.splitlines() if line not in text.splitlines()] == [TABLE.splitlines()[3]]
    assert '"diff_models:net" = { total = "1.59 k", parameters = "58", input = "input=3x4", modules = ' in text
    assert text.count("# small") == 1
    code, out, _ = graphflops(capsys, "budget", "check")
    assert (code, out) == (0, "within  diff_models:net: total 1.59 k, parameters 58\n")
    (project / "pyproject.toml").write_text(text.replace("diff_models:net", "diff_models:wide"))
    code, out, error = graphflops(capsys, "budget", "check")
    assert code == 3
    assert "diff_models:wide: total is 3.15 k; the budget is 1.59 k, over by 98.1 %" in out
    assert "0 grew from" in out
    assert "1 of 1 budgets exceeded" in error


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{ peak = "2 GiB" }', "peak: memory is not counted yet"),
        ('{ totl = "1 G" }', "no budget 'totl'; expected forward, backward,"),
        ('{ total = "1 X" }', "invalid number '1 X'"),
        ("{ total = -1 }", "invalid number -1"),
        ('{ total = "1 G", tolerance = "lots" }', "invalid tolerance 'lots'"),
        ('{ total = "1 G", batch = "8" }', "batch must be an integer ≥ 1, not '8'"),
        ("{ }", "a budget needs a limit"),
        ("7", "has lines such as"),
    ],
)
def test_a_table_that_is_wrong(table: str, message: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f'[tool.graphflops.budget]\n"diff_models:net" = {table}\n'
    (project / "pyproject.toml").write_text(text)
    code, _, error = graphflops(capsys, "budget", "check")
    assert code == 1
    assert "pyproject.toml" in error
    assert message in error
    assert (project / "pyproject.toml").read_text() == text


def test_a_new_target_gets_a_budget(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert graphflops(capsys, "budget", "check")[2].startswith("error: pyproject.toml has no [tool.graphflops.budget]")
    assert graphflops(capsys, "budget", "update", "diff_models:net", "-i", "input=3x4")[0] == 0
    code, out, _ = graphflops(capsys, "budget", "check")
    assert (code, out) == (0, "within  diff_models:net: total 1.59 k, parameters 58, unknown 0\n")
