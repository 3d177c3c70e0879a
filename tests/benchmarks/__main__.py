"""How long an analysis takes, beside torch's counter, building the model, and other counters; in docs/benchmarks.md.

python tests/benchmarks                       # everything, then the page
python tests/benchmarks 'llama*' start_up     # some rows; the others stay as they were measured
python tests/benchmarks --resume              # what was not measured yet, with the code as it is
python tests/benchmarks --page-only           # write the page from what was measured
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(1, str(ROOT / "tests" / "conformance"))

import shim  # noqa: E402, F401  # torchvision's operators have to be there before it is imported
from bench_page import write  # noqa: E402
from bench_rows import rows  # noqa: E402
from bench_run import Found, code_state, measure_row, progress, start_up, steps_of  # noqa: E402

START_UP = "start_up"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, write the page."""
    asked = _arguments(arguments)
    known, found, code = rows(), Found(asked.found), code_state()
    if asked.measure:
        print(json.dumps(_measured(*asked.measure, asked)))
        return 0
    names = [each for each in (*known, START_UP) if not asked.rows or any(fnmatch(each, one) for one in asked.rows)]
    if not names:
        print(f"no row is named {' or '.join(asked.rows)}; there are: {', '.join((*known, START_UP))}", file=sys.stderr)
        return 1
    if asked.resume:
        names = [each for each in names if found.rows.get(each, {}).get("code") != code]
    if not asked.page_only:
        _measure(names, found, asked)
    asked.page.write_text(write(known, found.rows, code), encoding="utf-8")
    print(f"wrote {asked.page}")
    return 0


def _measure(names: Sequence[str], found: Found, asked: argparse.Namespace) -> None:
    known = rows()
    tools = {name: known[name].tools and not asked.no_tools for name in names if name in known}
    with progress(steps_of(tools, asked.rounds) + (asked.rounds + 1) * (START_UP in names)) as step:
        for name in names:
            if name == START_UP:
                with tempfile.TemporaryDirectory() as folder:
                    report = _a_report(Path(folder))
                    found.keep(name, start_up(report, rounds=asked.rounds, step=step))
            else:
                found.keep(name, measure_row(name, rounds=asked.rounds, tools=tools[name], step=step))


def _a_report(folder: Path) -> Path:
    from graphflops import analyze

    return analyze(*rows()["resnet_bk"].case()).to_json(folder / "report.json")


def _measured(kind: str, name: str, asked: argparse.Namespace) -> dict[str, object]:
    from bench_measure import memory, seconds, stay_on_one_core, tools

    row = rows()[name]
    with contextlib.redirect_stdout(sys.stderr):
        if kind == "memory":
            return memory(row)
        if kind == "tools":
            return tools(row, asked.rounds)
        stay_on_one_core()
        return seconds(row, ours_first=asked.ours_first)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="PATTERN", help="only rows of such a name; all unless told")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; %(default)s unless told")
    parser.add_argument("--resume", action="store_true", help="only what is not measured yet with the code as it is")
    parser.add_argument("--no-tools", action="store_true", help="leave the other counters out")
    parser.add_argument("--page-only", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--found", type=Path, default=ROOT / "build" / "benchmarks.json", help="what was measured")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md", help="the page to write")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "ROW"), help=argparse.SUPPRESS)
    parser.add_argument("--ours-first", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
