"""How the analysis of transformers' language models grows with their depth, called with tokens alone.

``python tests/benchmarks/growth.py [NAME …]`` prints a line for each: how many times as long 12 blocks take as 4, the
seconds of both, and how many calls each records one by one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

sys.path += [str(Path(__file__).parents[1] / "conformance")]

import shim  # noqa: F401  # torchvision's operators have to be there before it is imported
from families import causal_lm
from families.configurations import DEPTHS, KINDS
from transformers import AutoConfig, AutoModelForCausalLM
from zoo import ids, on_meta

from graphflops import analyze
from graphflops.tracing.tracer import Tracer

SHALLOW, DEEP, MAX_RATIO = 4, 12, 1.5


def language_model(name: str, depth: int) -> nn.Module:
    """A model of the default configuration with so many blocks, in the pattern of its kinds of layers."""
    changes = {key: value for key, value in causal_lm.CHANGES.get(name, {}).items() if key not in (*DEPTHS, *KINDS)}
    config = AutoConfig.for_model(name, **changes)
    _set_depth(config, depth)
    dtype = torch.float32 if name in causal_lm.FLOAT32 else torch.bfloat16
    return on_meta(lambda: causal_lm.as_loaded(AutoModelForCausalLM.from_config(config, dtype=dtype)))


def _set_depth(config: Any, depth: int) -> None:
    for name in dict(config.sub_configs or {}):
        inner = getattr(config, name, None)
        if hasattr(inner, "sub_configs"):
            _set_depth(inner, depth)
    depths = [name for name in DEPTHS if isinstance(getattr(config, name, None), int)]
    per_layer = {
        name: list(value)
        for name, value in vars(config).items()
        if isinstance(value, (list, tuple)) and any(len(value) == getattr(config, field) > 1 for field in depths)
    }
    chosen = _chosen(per_layer, depth)
    for name, value in per_layer.items():
        setattr(config, name, [value[min(place, len(value) - 1)] for place in chosen])
    for name in depths:
        try:
            setattr(config, name, depth)
        except (AttributeError, NotImplementedError):  # a property that another field decides
            continue


def _chosen(per_layer: dict[str, list[Any]], depth: int) -> list[int]:
    """The indices of the chosen layers: the first ones, repeated, if all kinds are among them."""
    lists = [per_layer[name] for name in KINDS if name in per_layer]
    columns = list(zip(*lists, strict=False))
    first = [columns.index(kind) for kind in dict.fromkeys(columns)] or [0]
    pattern = (
        list(range(SHALLOW))
        if set(columns[:SHALLOW]) == set(columns)
        else (first * SHALLOW)[: max(SHALLOW, len(first))]
    )
    return [pattern[place % len(pattern)] for place in range(depth)]


@contextmanager
def calls_recorded() -> Iterator[list[str]]:
    """The calls that are recorded one by one while this is open, each by the path of the module that makes it."""
    calls: list[str] = []
    record = Tracer.record_call

    def recorded(tracer: Tracer, *args: Any, **kwargs: Any) -> Any:
        calls.append(tracer.module_paths[-1])
        return record(tracer, *args, **kwargs)

    with patch.object(Tracer, "record_call", recorded):
        yield calls


def measured(name: str, depth: int, rounds: int = 3) -> tuple[float, int]:
    """Seconds of the processor for an analysis, the least of some rounds, and the number of calls it records."""
    model, seconds = language_model(name, depth), []
    for _ in range(rounds):
        start = time.process_time()
        with calls_recorded() as calls:
            analyze(model, (ids(1, 16),))
        seconds.append(time.process_time() - start)
    return min(seconds), len(calls)


def main(names: list[str]) -> None:
    growth: list[float] = []
    for name in names or causal_lm.ARCHITECTURES.split():
        try:
            (few, calls), (many, more_calls) = measured(name, SHALLOW), measured(name, DEEP)
        except Exception as error:
            print(f"{name:24} not analysed: {type(error).__name__}: {' '.join(str(error).split())[:80]}", flush=True)
            continue
        growth.append(many / few)
        print(f"{name:24} {many / few:5.2f} ×   {few:.2f} → {many:.2f} s   {calls} → {more_calls} calls", flush=True)
    passed = sum(ratio <= MAX_RATIO for ratio in growth)
    print(f"{passed} of {len(growth)} grow by at most {MAX_RATIO} × from {SHALLOW} to {DEEP} blocks")


if __name__ == "__main__":
    main(sys.argv[1:])
