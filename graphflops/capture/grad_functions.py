"""By what autograd remembers of a tensor, the node that made it; and by what a model holds, the name of a tensor.

Both are asked for tensors that nobody saw being made. A graph is gone through once, and not again for each of them.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import fx, nn

from graphflops.capture.record import UNSET, record_of
from graphflops.core.torch_compat import DisableTorchFunction

History: TypeAlias = "tuple[Any, int]"
"""the function that autograd has a tensor from, and which of its results it is"""


class Histories:
    """The nodes of a graph that is being written, by the histories of what they made."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._last: fx.Node = graph._root
        self._nodes: dict[History, list[fx.Node]] = {}
        self._is_old = False

    def are_old(self) -> None:
        """Something was written to in place: its views may have other histories than when they were looked at."""
        self._is_old = True

    def node_of(self, tensor: torch.Tensor) -> fx.Node | None:
        """The last node that made another tensor of the same history."""
        with DisableTorchFunction():
            self._read_on()
            node = self._known(tensor)
            if node is None and self._is_old:
                self._last, self._is_old = self._graph._root, False
                self._nodes.clear()
                self._read_on()
                node = self._known(tensor)
        return node

    def node_with(self, function: Any, index: int) -> fx.Node | None:
        """The first node that made something of this history; not what a call saved inside, which was not seen made."""
        with DisableTorchFunction():
            self._read_on()
        return next((node for node in self._nodes.get((function, index), ()) if node.op != "get_attr"), None)

    def _known(self, tensor: torch.Tensor) -> fx.Node | None:
        wanted = history_of(tensor)
        for node in reversed(self._nodes.get(wanted, ())):
            value = record_of(node).value
            if value is not tensor and history_of(value) == wanted:
                return node
        return None

    def _read_on(self) -> None:
        """Look at what was written since; what has no value yet is waited for."""
        while (node := self._last._next) is not self._graph._root and (value := record_of(node).value) is not UNSET:
            self._last = node
            if isinstance(value, torch.Tensor) and (history := history_of(value))[0] is not None:
                self._nodes.setdefault(history, []).append(node)


def history_of(tensor: torch.Tensor) -> History:
    """The history of a tensor; none of a leaf."""
    try:
        return tensor.grad_fn, tensor.output_nr
    except RuntimeError:  # a view whose base was written to in a way that PyTorch cannot follow
        return None, -1


def held_under(root: nn.Module, path: str, tensor: torch.Tensor) -> str | None:
    """The name of a parameter as a model holds it now: looked for in the module at the path, then everywhere."""
    try:
        near = root.get_submodule(path)._parameters
    except AttributeError:  # a path that a given graph remembers
        near = {}
    for name, parameter in near.items():
        if parameter is tensor:
            return f"{path}.{name}" if path else name
    return next((name for name, parameter in root.named_parameters() if parameter is tensor), None)
