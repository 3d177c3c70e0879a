"""Write docs/benchmarks.md from the measurements: the bars and whether they hold, then all ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from bench_rows import Row
from bench_run import BY_NAME, PYTHON, SECONDS_BY_NAME, TORCH

Measured = Mapping[str, Any]

TOOLS = ("fvcore", "ptflops", "calflops", "thop", "torchinfo")

ABOUT = """# Benchmarks

Analysis time compared with torch's counter, `torch.utils.flop_counter.FlopCounterMode`, on meta tensors, and with
building the same model on the meta device. `make bench` generates this page; `make bench ROWS="llama*"` measures some
rows again.

Each number is a **ratio** of two times measured in one process, one after the other, and the median of several fresh
processes, in which the two alternate in order. Before the measurement both have counted one linear layer, and the
model's packages are imported, so only the start-up numbers include imports. The clock is process CPU time, and the
process stays on one core, so other load on the machine is not measured. Times in milliseconds are medians on one
machine, for orientation.

*Forward* is `analyze(model, …, training=False)` compared with a forward pass under torch's counter and
`torch.no_grad()`. *Step* is `analyze(model, …)` with optimizer, compared with a forward and a backward pass under
torch's counter. Both get the same model in training mode and the same inputs on the meta device. Models of
transformers get a four-dimensional mask: without it they read data, and torch's counter fails on meta tensors. Where
a model calls `nonzero`, as experts do, torch's counter runs only with a torch setting that assumes that all elements
are nonzero.

Both are the first in the process, and torch's fake-tensor cache is cleared before each analysis. Work that is done
once per process, such as reading schemas and plugins, is part of *forward*, which is first. *Again* is one more step
afterwards, as in a search or a test suite.

*They count* is the multiply-adds of torch's counter divided by those of the analysis, forward and backward; where it
is not 1, torch's counter misses some or counts some wrongly. *Memory* is the peak while the model is built and a step
analysed, in addition to the memory after all imports.
"""


FLOOR = """For scale: a single block of the 405-billion Llama, between its embedding and its head, takes {} of the time
to build all 126 of them if PyTorch runs it forward and backward on meta tensors without any counter (the minimum of
five times)."""


@dataclass(frozen=True)
class Bar:
    """A claim, its measurement, and whether it holds; None if it was not measured."""

    claim: str
    measured: str
    passed: bool | None


def write(models_by_name: Mapping[str, Row], measurements: Mapping[str, Measured], code: str) -> str:
    """The page."""
    measured = {name: measurements[name] for name in models_by_name if name in measurements}
    start_up, by_name = measurements.get("start_up"), measurements.get("by_name")
    lines = [
        ABOUT,
        f"{_versions()} {_rounds(measured)}".strip(),
        "",
        "## Bars",
        "",
        "| | measured | |",
        "|---|---|---|",
    ]
    for bar in bars(models_by_name, measurements):
        verdict = {True: "holds", False: "**does not hold**", None: "not measured"}[bar.passed]
        lines.append(f"| {bar.claim} | {bar.measured} | {verdict} |")
    if (alone := _of(measurements.get("llama_405b", {}), "alone", "build")) is not None:
        lines += ["", FLOOR.format(times(alone))]
    stale = [name for name, row in measurements.items() if row["code"] != code]
    if stale:
        lines += ["", f"Measured on an earlier state of the code: {', '.join(stale)}."]
    models = {name: row for name, row in measured.items() if not models_by_name[name].depth}
    lines += ["", "## Models", "", *_ratios(models_by_name, models), "", *_times(models)]
    depths = {name: row for name, row in measured.items() if models_by_name[name].depth}
    lines += [
        "",
        "## Depth",
        "",
        "The same block, repeated.",
        "",
        *_ratios(models_by_name, depths),
        "",
        *_times(depths),
    ]
    lines += ["", "## Effect of folding and of kernels on fake tensors", "", *_without(measured)]
    lines += ["", "## Other counters", "", *_tools(measured)]
    if start_up:
        lines += ["", "## Start-up", "", *_start_up(start_up)]
    if by_name:
        lines += ["", "## Models by name", "", *_by_name(by_name)]
    if failures := list(_failures(measured)):
        lines += ["", "## Failures", "", "| row | job | reason |", "|---|---|---|", *failures]
    return "\n".join(lines) + "\n"


def bars(models: Mapping[str, Row], measurements: Mapping[str, Measured]) -> list[Bar]:
    """The claims, checked against the measurements."""
    largest = measurements.get("llama_405b", {})
    return [
        _at_most("The step of the 405-billion Llama takes at most a tenth of torch's counter", _step(largest), 0.1),
        _at_most("It takes at most a fifth of the time to build that model", _of(largest, "step", "build"), 0.2),
        _never_slower(models, measurements),
        _depth(models, measurements),
        _memory(models, measurements),
        *_light(measurements.get("start_up", {"runs": []})["runs"]),
        _at_most(
            "Called with tokens alone, which makes a cache that each block writes, that Llama's step keeps to a tenth",
            _step(measurements.get("llama_405b_tokens", {})),
            0.1,
        ),
        _commands(measurements.get("by_name", {"runs": [], "failed": {}})),
    ]


def _at_most(claim: str, ratio: float | None, limit: float) -> Bar:
    return Bar(claim, "" if ratio is None else times(ratio), None if ratio is None else ratio <= limit)


def _never_slower(models: Mapping[str, Row], measurements: Mapping[str, Measured]) -> Bar:
    ratios = {
        (name, phase): ratio
        for name in models
        for phase in ("forward", "step")
        if (ratio := _of(measurements.get(name, {}), phase, f"torch_{phase}")) is not None
    }
    claim = "On no row slower than torch's counter"
    if not ratios:
        return Bar(claim, "", None)
    name, phase = worst = max(ratios, key=lambda pair: ratios[pair])
    slower = sum(ratio > 1 for ratio in ratios.values())
    summary = f"{slower} of {len(ratios)} slower; at most {times(ratios[worst])} ({name}, {phase})"
    return Bar(claim, summary, not slower)


def _depth(models: Mapping[str, Row], measurements: Mapping[str, Measured]) -> Bar:
    claim = "From 8 to 512 blocks the analysis grows by less than the building does"
    few, many = measurements.get("depth_8", {}), measurements.get("depth_512", {})
    grown = [_grown(few, many, job) for job in ("step", "build")]
    analysis, building = grown
    if analysis is None or building is None:
        return Bar(claim, "", None)
    return Bar(claim, f"analysis {times(analysis)}, building {times(building)}", analysis < building)


def _grown(few: Measured, many: Measured, job: str) -> float | None:
    before, after = _seconds(few, job), _seconds(many, job)
    return None if before is None or after is None else after / before


def _memory(models: Mapping[str, Row], measurements: Mapping[str, Measured]) -> Bar:
    used = {
        name: measurements[name]["memory"]["memory"]
        for name in models
        if "memory" in measurements.get(name, {}).get("memory", {})
    }
    claim = "Peak memory beyond the imports under 200 MiB on every row"
    if not used:
        return Bar(claim, "", None)
    largest = max(used, key=lambda name: used[name])
    return Bar(claim, f"at most {used[largest]:.0f} MiB ({largest})", used[largest] < 200)


def _light(runs: Sequence[Mapping[str, float]]) -> Iterator[Bar]:
    claim = "`import graphflops` costs little beyond torch: at most a tenth more"
    ratios = [run["import torch, graphflops"] / run[TORCH] for run in runs]
    yield _at_most(claim, median(ratios) if ratios else None, 1.1)
    claim = "`--help`, `rules list`, reading and showing a saved report answer in a third of a second"
    seconds = {name: median(run[name] for run in runs) for name in runs[0] if _needs_no_torch(name)} if runs else {}
    if not seconds:
        yield Bar(claim, "", None)
        return
    slowest = max(seconds, key=lambda name: seconds[name])
    yield Bar(claim, f"at most {seconds[slowest]:.2f} s (`{slowest}`)", seconds[slowest] <= 1 / 3)


def _needs_no_torch(name: str) -> bool:
    return name.startswith("graphflops ") or name == "Report.from_json"


def _commands(by_name: Measured) -> Bar:
    claim = f"A command that analyzes a public model by its name takes less than {SECONDS_BY_NAME} s, imports included"
    if failed := by_name["failed"]:
        return Bar(claim, f"{', '.join(failed)}: failed", False)
    runs = by_name["runs"]
    seconds = {name: median(run[name] for run in runs) for name in runs[0] if name != TORCH} if runs else {}
    if not seconds:
        return Bar(claim, "", None)
    slowest = max(seconds, key=lambda name: seconds[name])
    return Bar(claim, f"at most {seconds[slowest]:.1f} s ({slowest})", seconds[slowest] < SECONDS_BY_NAME)


# -- tables -------------------------------------------------------------------------------------------------------


def _ratios(models: Mapping[str, Row], measured: Mapping[str, Measured]) -> list[str]:
    lines = [
        "| | | forward / torch's | step / torch's | again / torch's | forward / building | step / building "
        "| they count | memory, MiB |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in measured.items():
        torchs = [("forward", "torch_forward"), ("step", "torch_step"), ("step_again", "torch_step")]
        cells = [_cell(_of(row, *pair)) for pair in (*torchs, ("forward", "build"), ("step", "build"))]
        counted = next((run["counted"] for run in row["runs"] if "counted" in run), None)
        cells.append("" if counted is None else _share(*counted))
        memory = row["memory"].get("memory")
        cells.append("" if memory is None else f"{memory:.0f}")
        lines.append(f"| {name} | {models[name].about} | {' | '.join(cells)} |")
    return lines


def _times(measured: Mapping[str, Measured]) -> list[str]:
    lines = [
        "| milliseconds | building | analysis, forward | torch's counter | analysis, step | torch's counter |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, row in measured.items():
        jobs = ("build", "forward", "torch_forward", "step", "torch_step")
        seconds = [_seconds(row, job) for job in jobs]
        lines.append(
            f"| {name} | {' | '.join('' if duration is None else f'{1000 * duration:,.0f}' for duration in seconds)} |"
        )
    return lines


def _without(measured: Mapping[str, Measured]) -> list[str]:
    lines = [
        "Time of a step without one of the two main optimizations, divided by a step with both: every block traced",
        "(`fold=False`), and every operator run by PyTorch's `FakeTensorMode` instead of its meta kernel.",
        "",
        "| | not folded | by the mode |",
        "|---|--:|--:|",
    ]
    for name, row in measured.items():
        cells = [_cell(_of(row, job, "step")) for job in ("step_unfolded", "step_by_mode")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _tools(measured: Mapping[str, Measured]) -> list[str]:
    having = {name: row["tools"] for name, row in measured.items() if "tools" in row.get("tools", {})}
    lines = [
        "Forward analysis time divided by the time of each counter, on a model with real weights on the CPU.",
        "The counters run it, on all cores.",
        "Below 1 the analysis is faster.",
        "",
        f"| model | {' | '.join(TOOLS)} |",
        f"|---{'|--:' * len(TOOLS)}|",
    ]
    for name, tools in having.items():
        own_seconds = tools["tools"].get("graphflops", [])
        cells = []
        for tool in TOOLS:
            pairs = zip(own_seconds, tools["tools"].get(tool, ()), strict=False)
            ratios = [left / right for left, right in pairs]
            cells.append(times(median(ratios)) if ratios else "—")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _start_up(start_up: Measured) -> list[str]:
    lines = [
        "Time of a whole process, divided by the times of two others that were started together with it.",
        "",
        f"| | / `{PYTHON}` | / `{TORCH}` | milliseconds |",
        "|---|--:|--:|--:|",
    ]
    runs = start_up["runs"]
    for name in runs[0] if runs else ():
        by = [median(run[name] / run[base] for run in runs) for base in (PYTHON, TORCH)]
        remark = f" ({start_up['failed'][name]})" if name in start_up["failed"] else ""
        milliseconds = f"{1000 * median(run[name] for run in runs):,.0f}"
        lines.append(f"| `{name}`{remark} | {' | '.join(map(times, by))} | {milliseconds} |")
    return lines


def _by_name(by_name: Measured) -> list[str]:
    lines = [
        f"Time of `graphflops MODEL` as a whole process, divided by the time of `{TORCH}` in the same round.",
        "",
        f"| | command | / `{TORCH}` | seconds |",
        "|---|---|--:|--:|",
    ]
    runs = by_name["runs"]
    for name, argument in BY_NAME.items():
        target = f'"{argument}"' if "&" in argument else argument
        if name in by_name["failed"]:
            lines.append(f"| {name} | `graphflops {target}` | {by_name['failed'][name].replace('|', '/')} | |")
        elif runs and name in runs[0]:
            ratio = median(run[name] / run[TORCH] for run in runs)
            seconds = median(run[name] for run in runs)
            lines.append(f"| {name} | `graphflops {target}` | {times(ratio)} | {seconds:.1f} |")
        else:
            lines.append(f"| {name} | `graphflops {target}` | not installed | |")
    return lines


def _failures(measured: Mapping[str, Measured]) -> Iterator[str]:
    for name, row in measured.items():
        reasons: dict[str, str] = {}
        for part in (*row["runs"], row["memory"], row.get("tools", {})):
            reasons |= part.get("failed", {})
        for job, reason in reasons.items():
            escaped = reason.replace("|", "\\|").replace("<", "&lt;")
            yield f"| {name} | {job.replace('_', ' ')} | {escaped} |"


def _rounds(measurements: Mapping[str, Measured]) -> str:
    """The number of processes per median, by row where it differs (``--rounds``)."""
    of_rounds: dict[int, list[str]] = {}
    for name, row in measurements.items():
        of_rounds.setdefault(len(row["runs"]), []).append(name)
    if len(of_rounds) < 2:
        return "".join(f"Medians are of {count} processes." for count in of_rounds)
    usual = max(of_rounds, key=lambda count: len(of_rounds[count]))
    exceptions = "; ".join(f"of {count}: {', '.join(names)}" for count, names in of_rounds.items() if count != usual)
    return f"Medians are of {usual} processes; {exceptions} (`--rounds`)."


def _versions() -> str:
    versions = []
    for package in ("torch", "torchvision", "transformers", *TOOLS):
        try:
            versions.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    return f"Measured with {', '.join(versions)}."


# -- numbers ------------------------------------------------------------------------------------------------------


def _step(row: Measured) -> float | None:
    return _of(row, "step", "torch_step")


def _of(row: Measured, numerator: str, denominator: str) -> float | None:
    """The median of the ratios of two jobs, run by run; None if there is no run that has both."""
    ratios = [
        run[numerator] / run[denominator] for run in row.get("runs", ()) if numerator in run and denominator in run
    ]
    return median(ratios) if ratios else None


def _seconds(row: Measured, job: str) -> float | None:
    seconds = [run[job] for run in row.get("runs", ()) if job in run]
    return median(seconds) if seconds else None


def _cell(ratio: float | None) -> str:
    return "—" if ratio is None else times(ratio)


def times(ratio: float) -> str:
    """A ratio in three digits, and never rounded to 1: ``0.0412 ×``."""
    if ratio >= 100:
        return f"{ratio:,.0f} ×"
    digits = 4 if ratio < 0.1 else 3 if ratio < 1 else 2 if ratio < 10 else 1
    return f"{ratio:.{digits}f} ×"


def _share(right: int, left: int) -> str:
    return "1" if right == left else f"{right / left:.4g}" if left else "—"
