"""The versions that the project declares are those that were tested."""

import json
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = runpy.run_path(str(Path(__file__).with_name("__main__.py")))
ROWS = [*json.loads(VERSIONS["MEASURED"].read_text()).values()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_page_has_the_measurements() -> None:
    assert VERSIONS["PAGE"].read_text() == VERSIONS["page"](ROWS)


def test_the_oldest_torch_that_is_allowed_was_measured() -> None:
    (required,) = (requirement for requirement in PROJECT["dependencies"] if requirement.startswith("torch"))
    assert any(row["torch"].startswith(f"{required.removeprefix('torch>=')}.") for row in ROWS)


def test_each_python_that_is_named_was_measured() -> None:
    marker = "Programming Language :: Python :: 3."
    named = {classifier.removeprefix(marker) for classifier in PROJECT["classifiers"] if classifier.startswith(marker)}
    assert named <= {row["python"].split(".")[1] for row in ROWS}


def test_the_model_of_the_newcomer_is_that_of_the_page() -> None:
    model = runpy.run_path(str(ROOT / "tests/versions/newcomer.py"))["MODEL"]
    assert model in (ROOT / "docs/newcomer.md").read_text(encoding="utf-8")
