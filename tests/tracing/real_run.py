"""Multiply-adds of a run on real data, beside those of an analysis."""

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
    """A function of inputs and of a module with a linear layer of 8 features."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def real_macs(model: nn.Module, *inputs: Any) -> tuple[int, int]:
    """Multiply-adds of forward and backward, as FlopCounterMode counts a run on real data."""
    model, inputs = copy.deepcopy(model), copy.deepcopy(inputs)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        result = model(*inputs)
    outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.requires_grad]
    with FlopCounterMode(display=False) as backward:
        if outputs:
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return forward.get_total_flops() // 2, backward.get_total_flops() // 2


def analyzed_macs(model: nn.Module, *inputs: Any) -> tuple[int, int]:
    """Multiply-adds of forward and backward in a report without unsupported ops."""
    report = report_of(model, *inputs)
    assert not report.unsupported_ops()
    return report.forward // 2, report.backward // 2


def report_of(model: Callable[..., Any], *inputs: Any) -> Report:
    """The report of products alone, with attention as math."""
    return analyze(model, inputs, attention="math").under("torch")
