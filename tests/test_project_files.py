"""Files about the project agree with each other."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def loaded(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    citation = loaded("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_workflow_runs_the_tests_as_they_run_everywhere() -> None:
    steps = [step.get("run") for step in loaded(".github/workflows/ci.yml")["jobs"]["test"]["steps"]]
    assert ".ci/run" in steps
    assert "make lint" in steps


def test_commits_are_checked_by_the_commands_of_make_lint() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    (repository,) = loaded(".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        command = hook["entry"].removeprefix(".venv/bin/python -m ").removesuffix(" --force-exclude")
        assert f"$(PYTHON) -m {command}" in recipe


@pytest.mark.parametrize("template", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*-*.yml")) or [None])
def test_issue_templates_ask_for_the_versions(template: Path | None) -> None:
    assert template is not None
    fields = loaded(str(template.relative_to(ROOT)))["body"]
    assert "versions" in [field.get("id") for field in fields]
