"""A run on real data, and the multiply-adds that autograd dispatches in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from graphflops import analyze
from graphflops.report.report import Report


class Program(nn.Module):
    """A function of a linear layer of 8 features, and of inputs."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def really_dispatched(model: nn.Module, *inputs: Any) -> tuple[int, int]:
    """Forward and backward, as FlopCounterMode counts a run on real data."""
    model, inputs = copy.deepcopy(model), copy.deepcopy(inputs)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        result = model(*inputs)
    ends = [each for each in tree_leaves(result) if isinstance(each, Tensor) and each.requires_grad]
    with FlopCounterMode(display=False) as backward:
        if ends:
            torch.autograd.backward(ends, [torch.ones_like(each) for each in ends])
    return forward.get_total_flops() // 2, backward.get_total_flops() // 2


def analysed(model: nn.Module, *inputs: Any) -> tuple[int, int]:
    """Forward and backward, as an analysis says it, of which nothing is unknown."""
    report = reported(model, *inputs)
    assert not report.unsupported_ops()
    return report.forward // 2, report.backward // 2


def reported(model: Callable[..., Any], *inputs: Any) -> Report:
    """The report of the products alone, with attention by its mathematics."""
    return analyze(model, inputs, attention="math").under("torch")
