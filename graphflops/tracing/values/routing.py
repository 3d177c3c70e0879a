"""Routing: which modules are called on rows that data selected, and on what share of the rows in the trace.

``expert(x[rows])`` with ``rows`` from a mask is routed work: data decides the number of rows. The trace assumes one
(``constant_propagation.py``); here the tensors that hold selected rows are followed up to the module
that is called on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from graphflops.core.torch_compat import OpOverload, tree_leaves

aten = torch.ops.aten

_SELECTIONS = {aten.index.Tensor: 1, aten._unsafe_index.Tensor: 1, aten.index_select.default: 2}
"""operator that selects rows of its first operand → position of the selection among its arguments"""


@dataclass(frozen=True)
class _SelectedRows:
    """Rows that data selected: the tensor that holds them, the selected rows, and the elements selected from."""

    tensor: torch.Tensor
    selection: torch.Tensor
    candidates: int


class Routing:
    """The tensors of one trace that hold rows that data selected, kept so that their ids stay unique."""

    def __init__(self) -> None:
        self._positions: dict[int, torch.Tensor] = {}
        self._selected: dict[int, _SelectedRows] = {}
        self._inputs: dict[str, list[_SelectedRows]] = {}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers of tensors of positions, tensors of selected rows, and calls on selected rows so far."""
        return len(self._positions), len(self._selected), sum(map(len, self._inputs.values()))

    def is_routed(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor holds rows that data selected, or their positions."""
        return id(tensor) in self._positions or id(tensor) in self._selected

    def record_positions(self, result: Any) -> None:
        """Record that data decides how many positions the tensors in a result hold."""
        for leaf in tree_leaves(result):
            if torch.is_tensor(leaf):
                self._positions[id(leaf)] = leaf

    def record_call(self, op: OpOverload, args: tuple[Any, ...], result: Any) -> None:
        """Record a call of an operator: its results hold selected rows, or positions, if its first operand does."""
        first = args[0] if args else None
        if not torch.is_tensor(first) or not (self._positions or self._selected):
            return
        argument = _SELECTIONS.get(op)
        if argument is not None and any(id(leaf) in self._positions for leaf in tree_leaves(args[argument])):
            if 0 <= result.numel() <= first.numel() > 0:
                self._selected[id(result)] = _SelectedRows(result, result, first.numel())
            return
        if id(first) in self._positions:
            rows = max(first.shape, default=0) if first.dim() < 2 else first.shape[0]
            tensors = [leaf for leaf in tree_leaves(result) if torch.is_tensor(leaf)]
            self.record_positions([tensor for tensor in tensors if rows in tensor.shape])
        elif id(first) in self._selected and torch.is_tensor(result) and result.numel() == first.numel():
            self._selected[id(result)] = replace(self._selected[id(first)], tensor=result)

    def record_module_call(self, path: str, parents: Iterable[str], inputs: Any) -> None:
        """Record a call of a module on selected rows, unless one of its parents was called on the same."""
        if not self._selected:
            return
        leaves = tree_leaves(inputs)
        rows = next((self._selected[id(leaf)] for leaf in leaves if id(leaf) in self._selected), None)
        if rows is None:
            return
        outer = (call for parent in parents if parent != path for call in self._inputs.get(parent, ()))
        if not any(call.selection is rows.selection for call in outer):
            self._inputs.setdefault(path, []).append(rows)

    @property
    def shares(self) -> Mapping[str, Fraction]:
        """Module path → the share of the rows that the module was called on, for modules with selected rows."""
        return {
            path: Fraction(sum(call.selection.numel() for call in calls), sum(call.candidates for call in calls))
            for path, calls in self._inputs.items()
        }
