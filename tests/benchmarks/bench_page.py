"""Write docs/benchmarks.md from the measurements: the bars and whether they hold, then all ratios."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from bench_rows import Row
from bench_run import PYTHON, TORCH

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
    holds: bool | None


def write(known: Mapping[str, Row], found: Mapping[str, Measured], code: str) -> str:
    """The page."""
    measured = {name: found[name] for name in known if name in found}
    start_up = found.get("start_up")
    lines = [
        ABOUT,
        f"{_versions()} {_rounds(measured)}".strip(),
        "",
        "## Bars",
        "",
        "| | measured | |",
        "|---|---|---|",
    ]
    for bar in bars(known, found):
        verdict = {True: "holds", False: "**does not hold**", None: "not measured"}[bar.holds]
        lines.append(f"| {bar.claim} | {bar.measured} | {verdict} |")
    if (alone := _of(found.get("llama_405b", {}), "alone", "build")) is not None:
        lines += ["", FLOOR.format(times(alone))]
    stale = [name for name, each in found.items() if each["code"] != code]
    if stale:
        lines += ["", f"Measured on an earlier state of the code: {', '.join(stale)}."]
    models = {name: each for name, each in measured.items() if not known[name].depth}
    lines += ["", "## Models", "", *_ratios(known, models), "", *_times(models)]
    depths = {name: each for name, each in measured.items() if known[name].depth}
    lines += ["", "## Depth", "", "The same block, repeated.", "", *_ratios(known, depths), "", *_times(depths)]
    lines += ["", "## Effect of folding and of kernels on fake tensors", "", *_without(measured)]
    lines += ["", "## Other counters", "", *_tools(measured)]
    if start_up:
        lines += ["", "## Start-up", "", *_start_up(start_up)]
    if failures := list(_failures(measured)):
        lines += ["", "## Failures", "", "| row | job | reason |", "|---|---|---|", *failures]
    return "\n".join(lines) + "\n"


def bars(known: Mapping[str, Row], found: Mapping[str, Measured]) -> list[Bar]:
    """The claims, checked against the measurements."""
    largest = found.get("llama_405b", {})
    return [
        _at_most("The step of the 405-billion Llama takes at most a tenth of torch's counter", _step(largest), 0.1),
        _at_most("It takes at most a fifth of the time to build that model", _of(largest, "step", "build"), 0.2),
        _never_slower(known, found),
        _depth(known, found),
        _memory(known, found),
        *_light(found.get("start_up", {"runs": []})["runs"]),
        _at_most(
            "Called with tokens alone, which makes a cache that each block writes, that Llama's step keeps to a tenth",
            _step(found.get("llama_405b_tokens", {})),
            0.1,
        ),
    ]


def _at_most(claim: str, ratio: float | None, most: float) -> Bar:
    return Bar(claim, "" if ratio is None else times(ratio), None if ratio is None else ratio <= most)


def _never_slower(known: Mapping[str, Row], found: Mapping[str, Measured]) -> Bar:
    ratios = {
        (name, phase): ratio
        for name in known
        for phase in ("forward", "step")
        if (ratio := _of(found.get(name, {}), phase, f"torch_{phase}")) is not None
    }
    claim = "On no row slower than torch's counter"
    if not ratios:
        return Bar(claim, "", None)
    name, phase = worst = max(ratios, key=lambda each: ratios[each])
    slower = sum(ratio > 1 for ratio in ratios.values())
    said = f"{slower} of {len(ratios)} slower; at most {times(ratios[worst])} ({name}, {phase})"
    return Bar(claim, said, not slower)


def _depth(known: Mapping[str, Row], found: Mapping[str, Measured]) -> Bar:
    claim = "From 8 to 512 blocks the analysis grows by less than the building does"
    few, many = found.get("depth_8", {}), found.get("depth_512", {})
    grown = [_grown(few, many, job) for job in ("step", "build")]
    analysis, building = grown
    if analysis is None or building is None:
        return Bar(claim, "", None)
    return Bar(claim, f"analysis {times(analysis)}, building {times(building)}", analysis < building)


def _grown(few: Measured, many: Measured, job: str) -> float | None:
    before, after = _seconds(few, job), _seconds(many, job)
    return None if before is None or after is None else after / before


def _memory(known: Mapping[str, Row], found: Mapping[str, Measured]) -> Bar:
    used = {
        name: found[name]["memory"]["memory"] for name in known if "memory" in found.get(name, {}).get("memory", {})
    }
    claim = "Peak memory beyond the imports under 200 MiB on every row"
    if not used:
        return Bar(claim, "", None)
    most = max(used, key=lambda each: used[each])
    return Bar(claim, f"at most {used[most]:.0f} MiB ({most})", used[most] < 200)


def _light(runs: Sequence[Mapping[str, float]]) -> Iterator[Bar]:
    claim = "`import graphflops` costs little beyond torch: at most a tenth more"
    both = [run["import torch, graphflops"] / run[TORCH] for run in runs]
    yield _at_most(claim, median(both) if both else None, 1.1)
    claim = "`--help`, `rules list`, reading and showing a saved report answer in a third of a second"
    taken = {name: median(run[name] for run in runs) for name in runs[0] if _needs_no_torch(name)} if runs else {}
    if not taken:
        yield Bar(claim, "", None)
        return
    slowest = max(taken, key=lambda each: taken[each])
    yield Bar(claim, f"at most {taken[slowest]:.2f} s (`{slowest}`)", taken[slowest] <= 1 / 3)


def _needs_no_torch(name: str) -> bool:
    return name.startswith("graphflops ") or name == "Report.from_json"


# -- tables -------------------------------------------------------------------------------------------------------


def _ratios(known: Mapping[str, Row], measured: Mapping[str, Measured]) -> list[str]:
    lines = [
        "| | | forward / torch's | step / torch's | again / torch's | forward / building | step / building "
        "| they count | memory, MiB |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, each in measured.items():
        torchs = [("forward", "torch_forward"), ("step", "torch_step"), ("step_again", "torch_step")]
        cells = [_cell(_of(each, *pair)) for pair in (*torchs, ("forward", "build"), ("step", "build"))]
        counted = next((run["counted"] for run in each["runs"] if "counted" in run), None)
        cells.append("" if counted is None else _share(*counted))
        memory = each["memory"].get("memory")
        cells.append("" if memory is None else f"{memory:.0f}")
        lines.append(f"| {name} | {known[name].about} | {' | '.join(cells)} |")
    return lines


def _times(measured: Mapping[str, Measured]) -> list[str]:
    lines = [
        "| milliseconds | building | analysis, forward | torch's counter | analysis, step | torch's counter |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, each in measured.items():
        jobs = ("build", "forward", "torch_forward", "step", "torch_step")
        taken = [_seconds(each, job) for job in jobs]
        lines.append(f"| {name} | {' | '.join('' if one is None else f'{1000 * one:,.0f}' for one in taken)} |")
    return lines


def _without(measured: Mapping[str, Measured]) -> list[str]:
    lines = [
        "Time of a step without one of the two main optimizations, divided by a step with both: every block traced",
        "(`fold=False`), and every operator run by PyTorch's `FakeTensorMode` instead of its meta kernel.",
        "",
        "| | not folded | by the mode |",
        "|---|--:|--:|",
    ]
    for name, each in measured.items():
        cells = [_cell(_of(each, job, "step")) for job in ("step_unfolded", "step_by_mode")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _tools(measured: Mapping[str, Measured]) -> list[str]:
    having = {name: each["tools"] for name, each in measured.items() if "tools" in each.get("tools", {})}
    lines = [
        "Forward analysis time divided by the time of each counter, on a model with real weights on the CPU.",
        "The counters run it, on all cores.",
        "Below 1 the analysis is faster.",
        "",
        f"| model | {' | '.join(TOOLS)} |",
        f"|---{'|--:' * len(TOOLS)}|",
    ]
    for name, each in having.items():
        ours = each["tools"].get("graphflops", [])
        cells = []
        for tool in TOOLS:
            pairs = zip(ours, each["tools"].get(tool, ()), strict=False)
            ratios = [mine / theirs for mine, theirs in pairs]
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
        by = [median(run[name] / run[other] for run in runs) for other in (PYTHON, TORCH)]
        said = f" ({start_up['failed'][name]})" if name in start_up["failed"] else ""
        taken = f"{1000 * median(run[name] for run in runs):,.0f}"
        lines.append(f"| `{name}`{said} | {' | '.join(map(times, by))} | {taken} |")
    return lines


def _failures(measured: Mapping[str, Measured]) -> Iterator[str]:
    for name, each in measured.items():
        said: dict[str, str] = {}
        for part in (*each["runs"], each["memory"], each.get("tools", {})):
            said |= part.get("failed", {})
        for job, reason in said.items():
            escaped = reason.replace("|", "\\|").replace("<", "&lt;")
            yield f"| {name} | {job.replace('_', ' ')} | {escaped} |"


def _rounds(found: Mapping[str, Measured]) -> str:
    """The number of processes per median, by row where it differs (``--rounds``)."""
    of_rounds: dict[int, list[str]] = {}
    for name, each in found.items():
        of_rounds.setdefault(len(each["runs"]), []).append(name)
    if len(of_rounds) < 2:
        return "".join(f"Medians are of {count} processes." for count in of_rounds)
    most = max(of_rounds, key=lambda count: len(of_rounds[count]))
    others = "; ".join(f"of {count}: {', '.join(names)}" for count, names in of_rounds.items() if count != most)
    return f"Medians are of {most} processes; {others} (`--rounds`)."


def _versions() -> str:
    found = []
    for package in ("torch", "torchvision", "transformers", *TOOLS):
        try:
            found.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return f"Measured with {', '.join(found)}."


# -- numbers ------------------------------------------------------------------------------------------------------


def _step(row: Measured) -> float | None:
    return _of(row, "step", "torch_step")


def _of(row: Measured, one: str, other: str) -> float | None:
    """The median of the ratios of two jobs, run by run; None if there is no run that has both."""
    ratios = [run[one] / run[other] for run in row.get("runs", ()) if one in run and other in run]
    return median(ratios) if ratios else None


def _seconds(row: Measured, job: str) -> float | None:
    taken = [run[job] for run in row.get("runs", ()) if job in run]
    return median(taken) if taken else None


def _cell(ratio: float | None) -> str:
    return "—" if ratio is None else times(ratio)


def times(ratio: float) -> str:
    """A ratio in three digits, and never rounded to 1: ``0.0412 ×``."""
    if ratio >= 100:
        return f"{ratio:,.0f} ×"
    digits = 4 if ratio < 0.1 else 3 if ratio < 1 else 2 if ratio < 10 else 1
    return f"{ratio:.{digits}f} ×"


def _share(theirs: int, ours: int) -> str:
    return "1" if theirs == ours else f"{theirs / ours:.4g}" if ours else "—"
