"""Trace the two calls of a generation at some sizes: their reports, and the tensors of the cache between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphflops.analysis.generation.cache import cache_tensors, detached
from graphflops.analysis.generation.cache_tensor import CacheTensor
from graphflops.analysis.generation.protocol import Call, Sizes, State, Steps
from graphflops.analysis.pipeline import analyze
from graphflops.graph.build import build
from graphflops.graph.passes import run_passes
from graphflops.report.report import Report
from graphflops.rules.loading import rulebook
from graphflops.tracing.attempts import trace
from graphflops.tracing.isolation.isolation import run_isolated
from graphflops.tracing.values.constant_propagation import ConstantPropagation


@dataclass(frozen=True)
class Prefilled:
    """A prompt that was read."""

    report: Report
    state: State | None
    """the cache after it, with meta tensors; None if there is none"""
    tensors: tuple[CacheTensor, ...] = ()


def prefill(steps: Steps, sizes: Sizes, options: Mapping[str, Any]) -> Prefilled:
    """Trace the call that reads a prompt; the cache is the one that the model's own code makes on fake tensors.

    Raises:
        CaptureError: the model cannot be traced at these sizes.
    """
    call = steps.prefill(sizes)
    kept: list[tuple[State | None, tuple[CacheTensor, ...]]] = []

    def on_result(result: Any, values: ConstantPropagation) -> None:
        state = steps.state_of(result)
        kept.append((None, ()) if state is None else (detached(state, values), cache_tensors(state.cache)))

    def run() -> Prefilled:
        book = rulebook(options.get("rules"), strict=options.get("strict", False))
        has_rates = bool(options.get("rates"))
        traced = trace(
            call.model, call.args, call.kwargs, book, grad=False, fold=True, attributes=has_rates, on_result=on_result
        )
        report = analyze(run_passes(build(traced)), training=False, optimizer=None, **options)
        return Prefilled(report, *kept[-1])

    return run_isolated(run)


def measure_call(call: Call, options: Mapping[str, Any]) -> Report:
    """The report of a call, forward alone.

    Raises:
        CaptureError: the model cannot be traced.
    """
    return analyze(call.model, call.args, call.kwargs, training=False, optimizer=None, **options)
