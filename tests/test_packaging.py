"""The distribution: the wheel in an environment of its own, the bare checkout, and reports without torch."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import torch
from torch import nn

from graphflops import Report, analyze

ROOT = Path(__file__).parents[1]
RULE_FILES = sorted(file.name for file in (ROOT / "rules").glob("*.py"))
CORE = {"networkx", "rich", "sympy", "torch", "typer"}


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command elsewhere, without what the caller's environment says about Python."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    result = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def clean(wheel: Path) -> Iterator[Path]:
    """The ``bin`` of a new environment that has the wheel and what it declares to need, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:  # too large to be kept as pytest keeps its folders
        python = Path(folder) / "bin/python"
        for command in (
            [sys.executable, "-m", "venv", folder],
            [python, "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", wheel],
        ):
            result = run(*command, cwd=wheel.parent)
            assert result.returncode == 0, result.stdout + result.stderr
        yield python.parent


class TestDistributions:
    def test_the_wheel_is_one_package_with_every_rule_file(self, wheel: Path) -> None:
        names = zipfile.ZipFile(wheel).namelist()
        top = {name.split("/")[0] for name in names}
        assert {name for name in top if not name.endswith(".dist-info")} == {"graphflops"}
        rules = {name for name in names if name.startswith("graphflops/rules/shipped/")}
        assert rules == {f"graphflops/rules/shipped/{name}" for name in (*RULE_FILES, "__init__.py")}

    def test_the_wheel_has_every_file_of_the_page(self, wheel: Path) -> None:
        names = zipfile.ZipFile(wheel).namelist()
        page = {file.relative_to(ROOT).as_posix() for file in (ROOT / "graphflops/report/exports/page").iterdir()}
        assert len(page) > 5
        assert page <= set(names)

    def test_the_wheel_has_every_convention(self, wheel: Path) -> None:
        folder = "graphflops/report/conventions"
        names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"{folder}/")}
        assert {f"{folder}/{file.name}" for file in (ROOT / folder).glob("*.toml")} == {
            name for name in names if name.endswith(".toml")
        }
        assert f"{folder}/standard.toml" in names

    def test_the_wheel_is_typed_and_carries_the_licence(self, wheel: Path) -> None:
        names = zipfile.ZipFile(wheel).namelist()
        assert "graphflops/py.typed" in names
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)

    def test_the_wheel_has_its_metadata(self, wheel: Path) -> None:
        metadata = parsed(wheel, "METADATA")
        assert metadata["Name"] == "graphflops"
        assert metadata["License-Expression"] == "MIT"
        assert metadata["Requires-Python"] == ">=3.11"
        needed = [requirement for requirement in metadata.get_all("Requires-Dist", []) if "extra ==" not in requirement]
        assert {requirement.split(">")[0] for requirement in needed} == CORE
        assert "make analyze" in metadata.get_payload()

    def test_the_wheel_brings_the_command(self, wheel: Path) -> None:
        text = zipfile.ZipFile(wheel).read(f"{dist_info(wheel)}/entry_points.txt").decode()
        assert "[console_scripts]\ngraphflops = graphflops.cli:main" in text

    def test_the_source_has_what_a_checkout_has(self, built: Path) -> None:
        (file,) = built.glob("*.tar.gz")
        with tarfile.open(file) as source:
            names = {name.partition("/")[2] for name in source.getnames()}
        for name in ("LICENSE", "README.md", "Makefile", "mkdocs.yml", "constraints.txt", ".ci/run", "docs/index.md"):
            assert name in names
        assert {f"rules/{name}" for name in RULE_FILES} <= names
        assert "tests/test_packaging.py" in names


@pytest.mark.slow
class TestInACleanEnvironment:
    def test_the_main_job_runs_without_a_complaint(self, clean: Path, tmp_path: Path) -> None:
        result = run(clean / "graphflops", "analyze", "--json", "report.json", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert "48,938,227,896" in result.stdout
        assert " 0 unsupported" in result.stdout
        assert Report.from_json(tmp_path / "report.json").coverage.unknown == 0

    def test_every_rule_file_speaks(self, clean: Path, tmp_path: Path) -> None:
        result = run(clean / "graphflops", "rules", "list", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        for name in RULE_FILES:
            assert f" rules/{name}:" in result.stdout

    def test_rules_are_part_of_the_package_and_not_a_package_of_their_own(self, clean: Path, tmp_path: Path) -> None:
        code = (
            "import graphflops.rules.shipped.linear as m, importlib.util as u; print(m.__file__, u.find_spec('rules'))"
        )
        file, spec = run(clean / "python", "-c", code, cwd=tmp_path).stdout.split()
        assert Path(file).parts[-4:] == ("graphflops", "rules", "shipped", "linear.py")
        assert Path(file).is_relative_to(clean.parent)
        assert spec == "None"

    def test_a_folder_named_rules_of_someone_elses_is_let_alone(self, clean: Path, tmp_path: Path) -> None:
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules/linear.py").write_text("raise RuntimeError('not ours')")
        result = run(clean / "python", "-m", "graphflops", "rules", "list", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")

    def test_a_bare_checkout_finds_its_rules_at_the_top(self, clean: Path, tmp_path: Path) -> None:
        code = "import graphflops.rules.shipped.linear as m; print(m.__file__)"
        result = run(clean / "python", "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert Path(result.stdout.strip()) == ROOT / "rules/linear.py"

    def test_it_knows_its_version(self, clean: Path, tmp_path: Path) -> None:
        result = run(clean / "graphflops", "--version", cwd=tmp_path)
        assert result.stdout == f"graphflops {parsed_version()}\n"

    def test_nothing_beyond_the_declared_dependencies_is_needed(self, clean: Path, tmp_path: Path) -> None:
        result = run(clean / "python", "-m", "pip", "check", cwd=tmp_path)
        assert result.returncode == 0, result.stdout
        assert run(clean / "python", "-c", "import pytest", cwd=tmp_path).returncode == 1


class TestTheInstallationAtHand:
    def test_its_rules_are_those_of_the_checkout(self, tmp_path: Path) -> None:
        code = "import graphflops.rules.shipped.linear as m; print(m.__file__)"
        result = run(sys.executable, "-c", code, cwd=tmp_path)
        assert Path(result.stdout.strip()) == ROOT / "rules/linear.py"

    def test_importing_it_imports_no_torch(self, tmp_path: Path) -> None:
        code = "import sys, graphflops; sys.exit('torch' in sys.modules)"
        assert run(sys.executable, "-c", code, cwd=tmp_path).returncode == 0


class TestWithoutTorch:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        """A folder with a report, and a ``torch`` that cannot be imported."""
        analyze(nn.Linear(4, 8), (torch.empty(2, 4),)).to_json(tmp_path / "report.json")
        (tmp_path / "blocked").mkdir()
        (tmp_path / "blocked/torch.py").write_text("raise ImportError('there is no torch here')")
        return tmp_path

    def test_torch_is_blocked_indeed(self, saved: Path) -> None:
        result = run(sys.executable, "-c", "import torch", cwd=saved, PYTHONPATH="blocked")
        assert "there is no torch here" in result.stderr

    @pytest.mark.parametrize("options", [(), ("--convention", "exact"), ("--explain", "")], ids=" ".join)
    def test_show_prints_a_saved_report(self, saved: Path, options: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "graphflops", "show", "report.json", *options]
        result = run(*command, cwd=saved, PYTHONPATH="blocked")
        assert (result.returncode, result.stderr) == (0, "")
        assert "Linear" in result.stdout

    def test_a_report_is_read(self, saved: Path) -> None:
        code = "from graphflops import Report; print(Report.from_json('report.json').forward)"
        result = run(sys.executable, "-c", code, cwd=saved, PYTHONPATH="blocked")
        assert (result.stdout, result.stderr) == ("128\n", "")


def dist_info(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2]) + ".dist-info"


def parsed(wheel: Path, name: str) -> Message:
    return Parser().parsestr(zipfile.ZipFile(wheel).read(f"{dist_info(wheel)}/{name}").decode())


def parsed_version() -> str:
    import tomllib

    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version
