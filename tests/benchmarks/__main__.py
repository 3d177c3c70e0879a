"""Benchmarks of an analysis, torch's counter, model construction and other counters, for docs/benchmarks.md.

python tests/benchmarks                       # all rows, then write the page
python tests/benchmarks 'llama*' start_up     # some rows; the others keep their measurements
python tests/benchmarks by_name               # commands that analyze a model by its name
python tests/benchmarks --resume              # rows without a measurement of the current code
python tests/benchmarks --page-only           # write the page without measuring
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
from bench_run import Measurements, code_state, commands, commands_by_name, measure_row, progress, steps_of, timed  # noqa: E402

START_UP, BY_NAME = "start_up", "by_name"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen rows and write the page."""
    options = _arguments(arguments)
    models, measurements, code = rows(), Measurements(options.results), code_state()
    if options.measure:
        print(json.dumps(_measured(*options.measure, options)))
        return 0
    names = [
        name
        for name in (*models, START_UP, BY_NAME)
        if not options.rows or any(fnmatch(name, pattern) for pattern in options.rows)
    ]
    if not names:
        print(
            f"no row matches {' or '.join(options.rows)}; rows: {', '.join((*models, START_UP, BY_NAME))}",
            file=sys.stderr,
        )
        return 1
    if options.resume:
        names = [name for name in names if measurements.rows.get(name, {}).get("code") != code]
    if not options.page_only:
        _measure(names, measurements, options)
    options.page.write_text(write(models, measurements.rows, code), encoding="utf-8")
    print(f"wrote {options.page}")
    return 0


def _measure(names: Sequence[str], measurements: Measurements, options: argparse.Namespace) -> None:
    models = rows()
    tools = {name: models[name].tools and not options.no_tools for name in names if name in models}
    with progress(
        steps_of(tools, options.rounds) + (options.rounds + 1) * len({START_UP, BY_NAME}.intersection(names))
    ) as step:
        for name in names:
            if name == START_UP:
                with tempfile.TemporaryDirectory() as folder:
                    report = _a_report(Path(folder))
                    measurements.keep(name, timed(commands(report), rounds=options.rounds, step=step))
            elif name == BY_NAME:
                measurements.keep(name, timed(commands_by_name(), rounds=options.rounds, step=step))
            else:
                measurements.keep(name, measure_row(name, rounds=options.rounds, tools=tools[name], step=step))


def _a_report(folder: Path) -> Path:
    from graphflops import analyze

    return analyze(*rows()["resnet_bk"].case()).to_json(folder / "report.json")


def _measured(kind: str, name: str, options: argparse.Namespace) -> dict[str, object]:
    from bench_measure import memory, seconds, stay_on_one_core, tools

    row = rows()[name]
    with contextlib.redirect_stdout(sys.stderr):
        if kind == "memory":
            return memory(row)
        if kind == "tools":
            return tools(row, options.rounds)
        stay_on_one_core()
        return seconds(row, graphflops_first=options.graphflops_first)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="PATTERN", help="only rows whose name matches (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="only rows without a measurement of the current code")
    parser.add_argument("--no-tools", action="store_true", help="do not measure other counters")
    parser.add_argument("--page-only", action="store_true", help="write the page without measuring")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "benchmarks.json", help="the measurements")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md", help="the page to write")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "ROW"), help=argparse.SUPPRESS)
    parser.add_argument("--graphflops-first", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
