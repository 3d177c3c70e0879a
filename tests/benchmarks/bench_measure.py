"""The measurements of one process: seconds of each job, peak memory, the seconds of other counters."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from bench_rows import Case, Row
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from graphflops import analyze

Measured = dict[str, Any]

MIB = 2**20


def seconds(row: Row, *, graphflops_first: bool) -> Measured:
    """Seconds of model construction and of each phase, for both counters; ``counted`` are both FLOPs of a step.

    They are CPU seconds of this process, so other load is not in them. ``failed`` has the errors by job.
    """
    warm_up()
    row.load()
    measured: Measured = {"failed": {}}
    case = _timed(measured, "build", row.case, time.process_time)
    if case is None:
        return measured
    jobs: list[tuple[str, Callable[[], Any]]] = [
        ("forward", lambda: analyze(*case, training=False)),
        ("torch_forward", lambda: counted_forward(case)),
        ("step", lambda: analyze(*case)),
        ("torch_step", lambda: counted_step(case)),
    ]
    if not graphflops_first:
        jobs = [jobs[1], jobs[0], jobs[3], jobs[2]]
    results = {}
    for name, job in jobs:
        if not name.startswith("torch_"):
            FakeTensorMode.cache_clear()  # what torch has kept of the analysis before
        results[name] = _timed(measured, name, job, time.process_time)
    _timed(measured, "step_again", lambda: analyze(*case), time.process_time)
    for name, job in (("step_unfolded", lambda: analyze(*case, fold=False)), ("step_by_mode", lambda: by_mode(case))):
        FakeTensorMode.cache_clear()
        _timed(measured, name, job, time.process_time)
    if row.alone is not None:
        single_block = row.alone.case()
        block_measured: Measured = {"failed": measured["failed"]}
        for _ in range(5):  # their minimum is the floor
            _timed(block_measured, "alone", lambda: run_alone(single_block), time.process_time)
            if "alone" in block_measured:
                measured["alone"] = min(block_measured["alone"], measured.get("alone", block_measured["alone"]))
    if (report := results["step"]) is not None and results["torch_step"] is not None:
        count = 2 * (report.work("forward").macs + report.work("backward").macs)
        measured["counted"] = [results["torch_step"], int(count)]
    return measured


def stay_on_one_core() -> None:
    """Pin the process to one core, so that the thread of the analysis does not move to another one."""
    if hasattr(os, "sched_setaffinity"):  # not everywhere
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def by_mode(case: Case) -> None:
    """A step whose operators are all run by the fake tensor mode, and not by their meta kernels."""
    from unittest.mock import patch

    from graphflops.tracing.values.kernels import Kernels

    with patch.object(Kernels, "run", lambda self, op, args, kwargs: op(*args, **kwargs)):
        analyze(*case)


def warm_up() -> None:
    """Run both once, for their first imports."""
    case = Case(nn.Linear(3, 4, device="meta"), (torch.zeros(2, 3, device="meta"),), {})
    analyze(*case)
    counted_step(case)


def _timed(measured: Measured, name: str, job: Callable[[], Any], clock: Callable[[], float]) -> Any:
    gc.collect()
    start = clock()
    try:
        result = job()
    except Exception as error:
        measured["failed"][name] = one_line(error)
        return None
    measured[name] = clock() - start
    return result


def one_line(error: BaseException) -> str:
    """Kind and message of an error, in one line that is not too long."""
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return message if len(message) <= 240 else f"{message[:239]}…"


# -- torch's counter ----------------------------------------------------------------------------------------------


def counted_forward(case: Case) -> int:
    """FLOPs of forward, by torch's counter."""
    with torch.no_grad(), _torch_counter() as counter:
        case.model(*case.args, **case.kwargs)
    return counter.get_total_flops()


def counted_step(case: Case) -> int:
    """FLOPs of forward and backward, by torch's counter."""
    with _torch_counter() as counter:
        run_alone(case)
    return counter.get_total_flops()


def run_alone(case: Case) -> None:
    """Forward and backward, with nobody looking on but who is there already."""
    leaves = tree_leaves(dict(out) if hasattr(out := case.model(*case.args, **case.kwargs), "items") else out)
    outputs = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
    torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])


@contextlib.contextmanager
def _torch_counter() -> Iterator[FlopCounterMode]:
    """Torch's counter, and its own switch for models that ask which elements are not zero: as if all were."""
    from torch.fx.experimental import _config

    with _config.patch(meta_nonzero_assume_all_nonzero=True), FlopCounterMode(display=False) as counter:
        yield counter


# -- memory -------------------------------------------------------------------------------------------------------


def memory(row: Row) -> Measured:
    """MiB of the highest use beyond what is there when everything is imported: by building, and with the analysis."""
    warm_up()
    row.load()
    gc.collect()
    before = _fresh_peak()
    case = row.case()
    built = _peak()
    analyze(*case)
    return {"memory_build": (built - before) / MIB, "memory": (_peak() - before) / MIB}


def _fresh_peak() -> int:
    """The memory that is used now, from which the highest use is counted afresh, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The highest use of memory so far, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# -- other counters, which run the model on real tensors ----------------------------------------------------------


def fvcore(model: nn.Module, args: tuple[Any, ...]) -> None:
    from fvcore.nn import FlopCountAnalysis

    FlopCountAnalysis(model, args).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def ptflops(model: nn.Module, args: tuple[Any, ...]) -> None:
    from ptflops import get_model_complexity_info

    make_inputs = lambda _: dict(zip(_names(model), args, strict=False))  # noqa: E731
    get_model_complexity_info(model, (1,), input_constructor=make_inputs, as_strings=False, print_per_layer_stat=False)


def calflops(model: nn.Module, args: tuple[Any, ...]) -> None:
    from calflops import calculate_flops

    calculate_flops(model, args=list(args), print_results=False, output_as_string=False)


def thop(model: nn.Module, args: tuple[Any, ...]) -> None:
    from thop import profile

    profile(model, args, verbose=False)


def torchinfo(model: nn.Module, args: tuple[Any, ...]) -> None:
    from torchinfo import summary

    summary(model, input_data=args, verbose=0)


TOOLS = {tool.__name__: tool for tool in (fvcore, ptflops, calflops, thop, torchinfo)}


def tools(row: Row, rounds: int) -> Measured:
    """Seconds of each other counter and of ours, forward, on a model with real weights: a list for each."""
    warnings.simplefilter("ignore")
    warm_up()
    case = row.case("cpu")
    # a mask is for what has no data, and most of them take positional inputs alone
    jobs = {"graphflops": lambda model, args: analyze(model, args, training=False), **TOOLS}
    seconds_by_tool: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for number in range(-1, rounds):  # before the first round each runs once, for what it imports and sets up
        for name, job in jobs.items():
            if name in failed:
                continue
            model = copy.deepcopy(case.model).eval()  # some leave their hooks and buffers behind
            measured: Measured = {"failed": failed}
            with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
                run = lambda job=job, model=model: job(model, case.args)  # noqa: E731
                _timed(measured, name, run, time.perf_counter)
            if number >= 0 and name in measured:
                seconds_by_tool.setdefault(name, []).append(measured[name])
    return {"tools": seconds_by_tool, "failed": failed}


def _names(model: nn.Module) -> list[str]:
    import inspect

    return list(inspect.signature(model.forward).parameters)
