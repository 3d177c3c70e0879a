"""What the project says of versions is what was measured."""

import json
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = runpy.run_path(str(Path(__file__).with_name("__main__.py")))
ROWS = [*json.loads(VERSIONS["MEASURED"].read_text()).values()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_page_has_what_was_measured() -> None:
    assert VERSIONS["PAGE"].read_text() == VERSIONS["page"](ROWS)


def test_the_oldest_torch_that_is_allowed_was_measured() -> None:
    (required,) = (each for each in PROJECT["dependencies"] if each.startswith("torch"))
    assert any(each["torch"].startswith(f"{required.removeprefix('torch>=')}.") for each in ROWS)


def test_each_python_that_is_named_was_measured() -> None:
    marker = "Programming Language :: Python :: 3."
    named = {each.removeprefix(marker) for each in PROJECT["classifiers"] if each.startswith(marker)}
    assert named <= {each["python"].split(".")[1] for each in ROWS}
