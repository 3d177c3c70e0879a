"""Ops without a rule are listed once for each target, the largest first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphflops import MissingRules, analyze

torch.library.define("unknown_operators::heavy", "(Tensor x) -> Tensor")
torch.library.define("unknown_operators::slight", "(Tensor x) -> Tensor")
torch.library.define("unknown_operators::positions", "(Tensor x) -> Tensor")


@torch.library.register_fake("unknown_operators::heavy")
def heavy(x: Tensor) -> Tensor:
    return x.new_empty(100 * x.shape[0], x.shape[1])


@torch.library.register_fake("unknown_operators::slight")
def slight(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.register_fake("unknown_operators::positions")
def positions(x: Tensor) -> Tensor:
    return x.new_empty(1000, dtype=torch.int64)


def model(x: Tensor) -> Tensor:
    known = torch.ops.unknown_operators
    x = known.slight(known.slight(x))
    known.positions(x)
    return known.heavy(x)


def test_by_size_and_integer_results_last() -> None:
    with pytest.raises(MissingRules) as raised:
        analyze(model, (torch.zeros(2, 3),), strict=True)
    text = str(raised.value)
    lines = "1×  unknown_operators.heavy", "2×  unknown_operators.slight", "integer/bool results only"
    offsets = [text.index(line) for line in lines]
    assert offsets == sorted(offsets)
    assert text.index("1×  unknown_operators.positions") > offsets[-1]
    assert '@rule("unknown_operators.heavy")' in text
