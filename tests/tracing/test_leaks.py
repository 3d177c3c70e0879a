"""An analysis keeps no object of the user's alive, nor does its report."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphflops import Cost, Report, Work, analyze, rule
from graphflops.analysis.op_counter.operations import functional
from graphflops.core.errors import CaptureError
from graphflops.core.weak import weakly_cached
from graphflops.rules.fallback import generic_rule
from graphflops.tracing.values import kernels
from graphflops.tracing.values.signatures import signature_of

Alive = Mapping[str, "weakref.ref[Any]"]


def analysed(**options: Any) -> tuple[Report | None, Alive]:
    """Analyse classes, modules, tensors and functions that nothing else refers to."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * 2

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.layer(x))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*(Block() for _ in range(3)))
            self.inputs: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            self.inputs.append(x)
            x = checkpoint(self.blocks, x, use_reentrant=False)
            return Doubled.apply(x).softmax(-1)

    model, x = Model(), torch.zeros(2, options.pop("width", 4))

    def program(x: Tensor) -> Tensor:
        return model(x).sin()

    @rule(Block)
    def block(x: Any, out: Any) -> Cost:
        return Cost(Work(macs=out.numel), {"*": Work(macs=out.numel)})

    if options.pop("by_rule", False):
        options["rules"] = [block]
    kept = {"class": Model, "block": Block, "function": Doubled, "model": model, "input": x, "program": program}
    kept |= {"weight": model.blocks[0].layer.weight, "forward": Model.forward, "rule": block}
    try:
        analyze(model, (x,), **options)
        report = analyze(program, (x,), **options)
    except CaptureError:
        report = None
    return report, {name: weakref.ref(value) for name, value in kept.items()}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fold": False},
        {"training": False},
        {"expand": True},
        {"convention": "fvcore"},
        {"by_rule": True},
        {"width": 5},  # which is an error
    ],
)
def test_objects_of_the_user_are_collected_as_without_an_analysis(options: dict[str, Any]) -> None:
    report, alive = analysed(**options)
    for _ in range(3):  # classes are collected after the objects of autograd that refer to them
        gc.collect()
    assert (report is None) == ("width" in options)
    assert [name for name, reference in alive.items() if reference() is not None] == []


def test_an_operator_is_collected_with_its_library() -> None:
    library = torch.library.Library("graphflops_leaks", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    op = torch.ops.graphflops_leaks.twice.default
    for known in (signature_of, generic_rule, functional, kernels._is_direct, kernels._is_pointwise):
        known(op)
    alive = weakref.ref(op)
    library._destroy()
    del op, torch.ops.graphflops_leaks
    gc.collect()
    assert alive() is None


class Thing:
    pass


def test_what_is_known_weakly_is_asked_once_and_kept_as_long_as_what_it_is_of() -> None:
    names: list[str] = []

    @weakly_cached
    def name(instance: Thing) -> str:
        names.append(type(instance).__name__)
        return type(instance).__name__

    instance = Thing()
    assert name(instance) == name(instance) == "Thing"
    assert names == ["Thing"]
    alive = weakref.ref(instance)
    del instance
    assert alive() is None
