"""The GitHub workflow of the docs: its commands run in a repository with a branch that changes a model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/diff.md").read_text(encoding="utf-8")
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


@pytest.mark.slow
def test_the_commands_of_the_workflow_run_as_written(tmp_path: Path) -> None:
    files = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, flags=re.DOTALL | re.MULTILINE))
    steps = files[".github/workflows/flops.yml"].partition("steps:")[2]
    check = re.search(r"run: (graphflops budget check)\n", steps)
    commands = re.search(r"run: \|\n(.*)", steps, flags=re.DOTALL)
    assert check is not None
    assert commands is not None

    def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    for name in ("networks.py", "pyproject.toml"):
        (tmp_path / name).write_text(files[name], encoding="utf-8")
    run("git", "init", "-q")
    run("git", "add", "-A")
    run("git", *IDENTITY, "commit", "-qm", "a net")
    run("git", "update-ref", "refs/remotes/origin/main", "HEAD")
    (tmp_path / "networks.py").write_text(files["networks.py"].replace("hidden: int = 256", "hidden: int = 320"))

    script = tmp_path / ".bin" / "graphflops"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m graphflops "$@"\n')
    script.chmod(0o755)
    environment = {
        "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    assert run("bash", "-e", "-c", check[1], **environment).returncode == 3
    result = run("bash", "-e", "-c", commands[1], **environment)
    assert result.returncode == 0, result.stderr
    assert "| changed | `blocks.0–3.up` ×4 |" in (tmp_path / "summary.md").read_text(encoding="utf-8")
