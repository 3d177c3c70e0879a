"""The Makefile: what its targets run, with stubs in the place of Python, so that nothing is installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split()

STUB = """#!/bin/sh
# Writes down how it was called. As "-m venv FOLDER" it puts itself there, as anything else it does as $STUB says.
printf '%s\\n' "$@" >>"$LOG"
echo >>"$LOG"
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
*) eval "$STUB" ;;
esac
"""


class Checkout:
    """A folder with the Makefile and what it depends on, and a Python that only writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        self.python = folder / "stub"
        self.python.write_text(STUB, encoding="utf-8")
        self.python.chmod(0o755)
        self.log = folder / "log"

    def make(self, *arguments: str, stub: str = "") -> subprocess.CompletedProcess[str]:
        """Run make; ``stub`` is shell code that every call of Python runs."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        self.log.unlink(missing_ok=True)
        return subprocess.run(
            ["make", f"BASE_PYTHON={self.python}", *arguments],
            cwd=self.folder,
            env={**inherited, "LOG": str(self.log), "STUB": stub},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[list[str]]:
        """How Python was called, in this order, argument by argument."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        return [call.splitlines() for call in text.split("\n\n") if call]

    def installed(self) -> list[str]:
        """The installed packages, in order."""
        return [call[-1] for call in self.calls() if call[:3] == ["-m", "pip", "install"]]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_help_lists_every_target_with_a_line(checkout: Checkout) -> None:
    printed = checkout.make("help").stdout
    for target in TARGETS:
        assert re.search(rf"^  {target} +\S.*$", printed, re.MULTILINE), target
    assert {"analyze", "test", "lint", "docs", "demo", "reconcile", "clean"} < set(TARGETS)


def test_make_alone_is_help(checkout: Checkout) -> None:
    assert checkout.make().stdout == checkout.make("help").stdout
    assert not checkout.calls()


def test_help_names_every_variable(checkout: Checkout) -> None:
    printed = checkout.make("help").stdout
    used = re.findall(r"\$\(call option,--\w+,\$\((\w+)\)\)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(used) > 8
    for variable in (*used, "MODEL", "STRICT", "INFERENCE", "TESTS", "WORKERS"):
        assert re.search(rf"^  {variable}=", printed, re.MULTILINE), variable


def test_analyze_is_of_resnet_bk_and_writes_a_report(checkout: Checkout) -> None:
    assert checkout.make("analyze").returncode == 0
    assert checkout.calls()[-1] == ["-m", "graphflops", "resnet-bk", "analyze", "--json", "graphflops-report.json"]


def test_variables_are_shown_by_a_dry_run(checkout: Checkout) -> None:
    printed = checkout.make("-n", "analyze", "MODEL=a.b:c", "INPUT=tokens=2x3:int64", "BATCH=8").stdout
    assert "graphflops analyze 'a.b:c' --input 'tokens=2x3:int64' --batch '8'" in printed
    assert not checkout.calls()


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        (["MODEL=my.models:tiny"], ["my.models:tiny"]),
        (["INPUT=x=2x3 y=4:int64"], ["--input", "x=2x3 y=4:int64"]),
        (["INPUT=x=2x3,y=4:int64"], ["--input", "x=2x3,y=4:int64"]),
        (["MODEL=hf:vit", "IMAGE=96"], ["hf:vit", "--image", "96"]),
        (["BATCH=8", "SEQ=256"], ["--batch", "8", "--seq", "256"]),
        (["CONFIG=d_model=128,n_layers=8"], ["--config", "d_model=128,n_layers=8"]),
        (["OPTIMIZER=sgd", "CONVENTION=exact"], ["--optimizer", "sgd", "--convention", "exact"]),
        (["ATTENTION=math", "STRICT=1"], ["--attention", "math", "--strict"]),
        (["STRICT=0", "INFERENCE=1"], ["--inference"]),
        (["RATE=blocks.*=0.3..0.8"], ["--rate", "blocks.*=0.3..0.8"]),
        (["RULES=my rules.py", "EXPLAIN=it's"], ["--rules", "my rules.py", "--explain", "it's"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_variables_are_passed_on_as_they_are(checkout: Checkout, variables: list[str], options: list[str]) -> None:
    assert checkout.make("analyze", *variables, "JSON=a b.json").returncode == 0
    command = ["analyze"] if "MODEL" in variables[0] else ["resnet-bk", "analyze"]
    assert checkout.calls()[-1] == ["-m", "graphflops", *command, *options, "--json", "a b.json"]


def test_scale_is_of_resnet_bk_by_default(checkout: Checkout) -> None:
    assert checkout.make("scale").returncode == 0
    assert checkout.calls()[-1] == ["-m", "graphflops", "resnet-bk", "scale"]
    assert checkout.installed() == ["."]
    checkout.make(
        "scale", "MODEL=a.b:c", "SIZE=N=1..9 D=4", "INPUT=x=BxN", "PHASE=forward", "BUDGET=1e9", "INFERENCE=1"
    )
    assert checkout.calls()[-1][3:] == [
        *("a.b:c", "--size", "N=1..9 D=4", "--input", "x=BxN", "--phase", "forward", "--inference", "--budget", "1e9")
    ]


def test_what_draws_is_installed_for_who_asks_for_a_picture(checkout: Checkout) -> None:
    checkout.make("scale", "PLOT=a.svg")
    assert checkout.installed() == [".", ".[dev]"]
    assert checkout.calls()[-1][-2:] == ["--plot", "a.svg"]


def test_the_second_time_nothing_is_installed(checkout: Checkout) -> None:
    checkout.make("analyze")
    assert checkout.installed() == ["."]
    checkout.make("analyze")
    assert checkout.installed() == []
    assert "install" not in checkout.make("-n", "analyze").stdout


def test_the_tools_of_a_developer_are_installed_for_those_who_need_them(checkout: Checkout) -> None:
    checkout.make("analyze")
    checkout.make("test")
    assert checkout.installed() == [".[dev]"]
    assert checkout.calls()[-1][:4] == ["-m", "pytest", "-n", "2"]
    for target in ("lint", "docs", "demo", "reconcile", "analyze"):
        assert checkout.make(target).returncode == 0
        assert checkout.installed() == []


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_what_is_installed_follows(checkout: Checkout, file: str) -> None:
    checkout.make("analyze")
    stamp = (checkout.folder / ".venv/.installed-core").stat().st_mtime
    os.utime(checkout.folder / file, (stamp + 10, stamp + 10))
    checkout.make("analyze")
    assert checkout.installed() == ["."]


def test_everything_is_installed_within_the_constraints(checkout: Checkout) -> None:
    checkout.make("test")
    installs = [call for call in checkout.calls() if call[:3] == ["-m", "pip", "install"]]
    assert len(installs) == 2
    assert all(call[call.index("-c") + 1] == "constraints.txt" for call in installs)


def test_public_packages_are_installed_beside_the_environment_and_bring_nothing_along(checkout: Checkout) -> None:
    assert checkout.make("wild", "MODELS=--fresh").returncode == 0
    (install,) = [call for call in checkout.calls() if "--target" in call]
    assert "--no-deps" in install
    assert install[install.index("--target") + 1] == ".venv/wild"
    assert checkout.calls()[-1] == ["tests/conformance", "--family", "wild", "--jobs", "1", "--fresh"]


def test_a_failed_installation_is_tried_again(checkout: Checkout) -> None:
    assert checkout.make("analyze", stub="exit 1").returncode == 2
    assert [call[1] for call in checkout.calls()] == ["venv", "pip"]
    assert checkout.make("analyze").returncode == 0
    assert [call[1] for call in checkout.calls()] == ["pip", "graphflops"]


def test_after_an_interrupted_installation_the_environment_is_made_afresh(checkout: Checkout) -> None:
    assert checkout.make("analyze", stub="kill -9 $PPID").returncode != 0
    (checkout.folder / ".venv/half").touch()
    assert checkout.make("analyze").returncode == 0
    assert [call[1] for call in checkout.calls()] == ["venv", "pip", "graphflops"]
    assert not (checkout.folder / ".venv/half").exists()


def test_an_environment_without_pip_gets_one(checkout: Checkout) -> None:
    no_ensurepip = STUB.replace('"-m venv "*)', '"-m venv .venv") exit 1 ;;\n"-m venv "*)').replace(
        '"$3/bin', '"$5/bin'
    )
    checkout.python.write_text(no_ensurepip, encoding="utf-8")
    assert checkout.make("analyze").returncode == 0
    assert ["-m", "pip", "--python", ".venv/bin/python", "install", "--quiet", "pip"] in checkout.calls()
    assert checkout.calls()[-1][:3] == ["-m", "graphflops", "resnet-bk"]


def test_the_exit_code_of_the_analysis_is_visible(checkout: Checkout) -> None:
    checkout.make("analyze")
    result = checkout.make("analyze", "STRICT=1", stub="exit 3")
    assert result.returncode == 2  # make's own
    assert "Error 3" in result.stderr


def test_a_machine_without_a_suitable_python_has_an_error(checkout: Checkout) -> None:
    result = checkout.make("BASE_PYTHON=", "analyze")
    assert result.returncode == 2
    assert "Python 3.11" in result.stderr


def test_clean_keeps_other_files(checkout: Checkout) -> None:
    before = {"Makefile", "pyproject.toml", "constraints.txt", "stub", "graphflops", "rules", "tests", "docs"}
    for folder in ("graphflops/__pycache__", "rules", "tests", "docs"):
        (checkout.folder / folder).mkdir(parents=True)
    checkout.make("test")
    for name in ("site", "build", "dist", ".pytest_cache"):
        (checkout.folder / name).mkdir()
    (checkout.folder / "graphflops-report.json").touch()
    assert checkout.make("clean").returncode == 0
    checkout.log.unlink(missing_ok=True)
    assert {file.name for file in checkout.folder.iterdir()} == before
    assert not (checkout.folder / "graphflops/__pycache__").exists()


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8").splitlines()
