"""The test suite on several versions of PyTorch and Python, each in an environment of its own; in docs/versions.md.

python tests/versions                        # all, which takes hours and gigabytes: PyPI's wheels bring CUDA along
python tests/versions 2.8.0 2.15.0           # some; the others stay as they were measured
python tests/versions 2.8.0 --tests tests/pipeline tests/rules
python tests/versions --page-only            # write the page from what was measured

An environment is removed when its tests are through, unless --keep is given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEASURED = Path(__file__).with_name("measured.json")
PAGE = ROOT / "docs" / "versions.md"
PLAN = {"2.8.0": "3.11", "2.10.0": "3.12", "2.13.0": "3.13", "2.15.0": "3.14"}
"""PyTorch, and the Python that it is tried with: the oldest of each, two in between, and the newest"""
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "numpy", "matplotlib", "hatchling", "build")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try what was asked for, write the page; 1 if a test failed."""
    options = _arguments(arguments)
    measured: dict[str, Any] = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    failed = False
    for torch in [] if options.page_only else options.torch or PLAN:
        row = tried(torch, options.python or PLAN.get(torch, "3.11"), options)
        failed = failed or not row["passed"] or bool(row["failed"])
        measured[f"{torch} {' '.join(row['tests'])}"] = row
        MEASURED.write_text(json.dumps(dict(sorted(measured.items())), indent=1) + "\n")
    PAGE.write_text(page(list(measured.values())), encoding="utf-8")
    print(f"wrote {PAGE}")
    return int(failed)


def tried(torch: str, python: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the tests on one version, in an environment that is made for it."""
    folder = options.folder / f"torch-{torch}-python-{python}"
    interpreter = _environment(folder, torch, python)
    report = folder / "report.xml"
    command = [
        str(interpreter),
        "-m",
        "pytest",
        "-n",
        str(options.workers),
        "--dist",
        "loadfile",
        "-p",
        "no:cacheprovider",
        "--ignore=tests/versions",  # which is about the table that this is a row of
    ]
    try:
        subprocess.run([*command, f"--junitxml={report}", *options.tests], cwd=ROOT, check=False, env=_surroundings())
        suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
        named = [f"{case.get('classname')}::{case.get('name')}" for case in suite.iter("testcase") if _failed(case)]
        counts = {outcome: int(suite.get(outcome, 0)) for outcome in ("tests", "failures", "errors", "skipped")}
        bad = counts["failures"] + counts["errors"]
        code = "import sys, torch; print(torch.__version__, sys.version.split()[0])"
        message = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    return {
        "torch": message[0],
        "python": message[1],
        "tests": list(options.tests),
        "passed": counts["tests"] - bad - counts["skipped"],
        "failed": bad,
        "skipped": counts["skipped"],
        "names": named,
        "day": datetime.date.today().isoformat(),
    }


def _failed(case: ElementTree.Element) -> bool:
    return case.find("failure") is not None or case.find("error") is not None


def _surroundings() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _environment(folder: Path, torch: str, python: str) -> Path:
    interpreter = folder / "bin" / "python"
    if (folder / "done").exists():
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([f"python{python}", "-m", "venv", folder], check=True)
    install = [interpreter, "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    subprocess.run([*install, f"torch=={torch}", *TOOLS], check=True)
    subprocess.run([*install, "--no-build-isolation", "--editable", ROOT], check=True)
    (folder / "done").touch()
    return interpreter


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The page of the documentation."""
    lines = [
        "# Versions of PyTorch and Python",
        "",
        "The test suite, run by `make versions` with wheels from PyPI, each version in a separate environment.",
        "All private names of PyTorch are in `graphflops/core/torch_compat.py`: a version that lacks one",
        "is refused with an error that names it. Other versions are untested.",
        "",
        "| PyTorch | Python | tests | passed | failed | skipped | on |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for row in sorted(rows, key=_order):
        scope = ", ".join(f"`{test}`" for test in row["tests"]) or "all"
        lines.append(
            f"| {row['torch']} | {row['python']} | {scope} | {row['passed']:,} | {row['failed']:,} | "
            f"{row['skipped']:,} | {row['day']} |"
        )
    for row in sorted(rows, key=_order):
        if row["names"]:
            lines += ["", f"Failed on {row['torch']} with Python {row['python']}:", ""]
            lines += [f"- `{name}`" for name in row["names"]]
    return "\n".join(lines) + "\n"


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    return [int(part) for part in row["torch"].split("+")[0].split(".")], row["python"], row["tests"]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/versions")
    parser.add_argument("torch", nargs="*", help="versions of PyTorch; those of the plan unless told")
    parser.add_argument("--python", help="the Python to run it with; that of the plan unless told")
    parser.add_argument("--tests", nargs="+", default=[], help="which tests; all unless told")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv" / "versions", help="where environments are made")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    parser.add_argument("--page-only", action="store_true", help="write the page from what was measured")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
