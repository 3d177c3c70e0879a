"""Published formulas of ResNet-BK's layers, and the operations that their code executes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.nn import functional as F

from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.core.costs import WORK_CLASSES
from graphflops.models.bk_core import bk_core
from graphflops.verify.rule_check import Direction


@dataclass(frozen=True, slots=True)
class Published:
    """A formula of the quick reference for a row of ``size`` elements, and code of the same layer."""

    name: str
    size: str
    run: Callable[[int], tuple[Callable[..., Any], tuple[Any, ...]]]
    forward: int
    backward: int
    """FLOPs per element"""


def _bk_core(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    band = torch.ones(n - 1, dtype=torch.float64, device="meta")
    return lambda *bands: bk_core(*bands, 0.0, 1.0, 0.5), (_row(n, torch.float64), band, band)


def _layer_norm(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    weights = [torch.ones(n, device="meta", requires_grad=True) for _ in range(2)]
    return lambda x, weight, bias: F.layer_norm(x, (n,), weight, bias), (_row(n), *weights)


def _softmax(n: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return lambda x: x.softmax(-1), (_row(n),)


def _row(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(1, n, dtype=dtype, device="meta", requires_grad=True)


PUBLISHED = (
    Published("BK-Core", "N", _bk_core, 34, 26),
    Published("LayerNorm", "D", _layer_norm, 5, 5),
    Published("softmax of the gate", "E", _softmax, 3, 6),
)
SIZES = (2, 3, 4, 5, 7, 11, 16)
"""sizes at which the code runs; those that the polynomial does not need check it"""


def executed_formula(published: Published, direction: Direction) -> dict[str, sympy.Expr]:
    """The executed operations by class of work, as exact polynomials in the size.

    Raises:
        ValueError: they are not polynomials of a degree that these sizes determine, or an op cannot be decomposed.
    """
    size = sympy.Symbol(published.size, integer=True, positive=True)
    works = {}
    for n in SIZES:
        call, args = published.run(n)
        measured = count_scalar_ops(call, args)
        if measured.undecomposed:
            raise ValueError(f"{', '.join(sorted(measured.undecomposed))} cannot be decomposed")
        works[n] = measured.forward if direction == "forward" else measured.backward
    columns = {name: {n: int(getattr(work, name)) for n, work in works.items()} for name in WORK_CLASSES}
    return {name: polynomial(column, size) for name, column in columns.items() if any(column.values())}


def polynomial(values: Mapping[int, int], symbol: sympy.Symbol) -> sympy.Expr:
    """The polynomial of lowest degree through all values, of which at least two are not needed to determine it.

    >>> polynomial({1: 3, 2: 5, 3: 7, 4: 9}, sympy.Symbol("N"))
    2*N + 1

    Raises:
        ValueError: there is no such polynomial.
    """
    points = sorted(values.items())
    for needed in range(1, len(points) - 1):
        candidate = sympy.expand(sympy.interpolate(points[:needed], symbol))
        if all(candidate.subs(symbol, size) == value for size, value in points[needed:]):
            return candidate
    raise ValueError(f"no polynomial fits {values} with two points to spare")
