"""Which modules are given rows that data chose, and what share of the rows a trace took these to be.

``expert(x[rows])`` with ``rows`` from a mask is routed work: how many rows there are is decided by data. A trace
takes them to be as many as ``graphflops.capture.constant_propagation`` says; here it is followed which tensors hold
such rows, up to the module that is called with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload, tree_leaves

aten = torch.ops.aten

_CHOOSING = {aten.index.Tensor: 1, aten._unsafe_index.Tensor: 1, aten.index_select.default: 2}
"""operators that choose rows of their first operand, and where in the call the choice stands"""


@dataclass(frozen=True)
class _Chosen:
    """Rows that data chose: as a tensor holds them, as they were chosen, and of how many elements."""

    tensor: torch.Tensor
    choice: torch.Tensor
    of: int


class Routing:
    """What one trace has seen of rows that data chose. Tensors are kept, so that their ids stay their own."""

    def __init__(self) -> None:
        self._decided: dict[int, torch.Tensor] = {}
        self._chosen: dict[int, _Chosen] = {}
        self._given: dict[str, list[_Chosen]] = {}

    @property
    def seen(self) -> tuple[int, int, int]:
        """How much has been seen so far."""
        return len(self._decided), len(self._chosen), sum(map(len, self._given.values()))

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor holds rows that data chose, or positions."""
        return id(tensor) in self._decided or id(tensor) in self._chosen

    def decided(self, result: Any) -> None:
        """These positions are as many as data says."""
        for each in tree_leaves(result):
            if torch.is_tensor(each):
                self._decided[id(each)] = each

    def ran(self, op: OpOverload, args: tuple[Any, ...], result: Any) -> None:
        """An operator ran: what it makes of chosen rows, or of positions, are chosen rows and positions."""
        first = args[0] if args else None
        if not torch.is_tensor(first) or not (self._decided or self._chosen):
            return
        place = _CHOOSING.get(op)
        if place is not None and any(id(each) in self._decided for each in tree_leaves(args[place])):
            if 0 <= result.numel() <= first.numel() > 0:
                self._chosen[id(result)] = _Chosen(result, result, first.numel())
            return
        if id(first) in self._decided:
            rows = max(first.shape, default=0) if first.dim() < 2 else first.shape[0]
            self.decided([each for each in tree_leaves(result) if torch.is_tensor(each) and rows in each.shape])
        elif id(first) in self._chosen and torch.is_tensor(result) and result.numel() == first.numel():
            self._chosen[id(result)] = replace(self._chosen[id(first)], tensor=result)

    def called(self, path: str, around: Iterable[str], inputs: Any) -> None:
        """A module is called: whether it is given chosen rows, and not one that it is in was given the same."""
        if not self._chosen:
            return
        found = next((self._chosen[id(each)] for each in tree_leaves(inputs) if id(each) in self._chosen), None)
        if found is None:
            return
        outer = (each for other in around if other != path for each in self._given.get(other, ()))
        if not any(each.choice is found.choice for each in outer):
            self._given.setdefault(path, []).append(found)

    @property
    def shares(self) -> Mapping[str, Fraction]:
        """Module path → the share of the rows that the module was given, for those that data chose."""
        return {
            path: Fraction(sum(each.choice.numel() for each in given), sum(each.of for each in given))
            for path, given in self._given.items()
        }
