"""Lookup of the node that made a tensor by its ``grad_fn``, and of the name of a parameter by the model.

Both are for tensors that no intercepted call returned. Each node of the graph is visited once, and not again for each
lookup.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import fx, nn

from graphflops.core.torch_compat import DisableTorchFunction, OpOverload
from graphflops.tracing.recording.record import UNSET, record_of

GradientEdge: TypeAlias = "tuple[Any, int]"
"""``grad_fn`` and ``output_nr`` of a tensor"""


class GradFunctionIndex:
    """The nodes of a graph that is being written, by the gradient edges of their values."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._last: fx.Node = graph._root
        self._nodes: dict[GradientEdge, list[fx.Node]] = {}
        self._is_stale = False

    def mark_stale(self) -> None:
        """Something was written to in place: views of it may have other gradient edges than when they were indexed."""
        self._is_stale = True

    def node_of(self, tensor: torch.Tensor) -> fx.Node | None:
        """The last node whose value is another tensor with the same gradient edge."""
        with DisableTorchFunction():
            self._update()
            node = self._lookup(tensor)
            if node is None and self._is_stale:
                self._last, self._is_stale = self._graph._root, False
                self._nodes.clear()
                self._update()
                node = self._lookup(tensor)
        return node

    def node_of_edge(self, function: Any, index: int) -> fx.Node | None:
        """The first node whose value has a gradient edge, except for tensors that a call saved inside."""
        with DisableTorchFunction():
            self._update()
        return next((node for node in self._nodes.get((function, index), ()) if node.op != "get_attr"), None)

    def _lookup(self, tensor: torch.Tensor) -> fx.Node | None:
        edge = gradient_edge(tensor)
        for node in reversed(self._nodes.get(edge, ())):
            value = record_of(node).value
            if value is not tensor and gradient_edge(value) == edge:
                return node
        return None

    def _update(self) -> None:
        """Index the nodes that were written since, up to the first without a value."""
        while (node := self._last._next) is not self._graph._root and (value := record_of(node).value) is not UNSET:
            self._last = node
            if isinstance(value, torch.Tensor) and (edge := gradient_edge(value))[0] is not None:
                self._nodes.setdefault(edge, []).append(node)


def gradient_edge(tensor: torch.Tensor) -> GradientEdge:
    """The gradient edge of a tensor; its function is None for a leaf."""
    try:
        return tensor.grad_fn, tensor.output_nr
    except RuntimeError:  # a view whose base was written to in a way that PyTorch cannot follow
        return None, -1


def parameter_name(root: nn.Module, path: str, tensor: torch.Tensor) -> str | None:
    """The present name of a parameter in a model; the module at ``path`` is searched first."""
    try:
        parameters = root.get_submodule(path)._parameters
    except AttributeError:  # a path from a given graph
        parameters = {}
    for name, parameter in parameters.items():
        if parameter is tensor:
            return f"{path}.{name}" if path else name
    return next((name for name, parameter in root.named_parameters() if parameter is tensor), None)


def may_have_gradient(args: Any) -> bool:
    """Whether some argument has a gradient."""
    return torch.is_grad_enabled() and any(torch.is_tensor(tensor) and tensor.requires_grad for tensor in args)


def resolves_view(op: OpOverload, args: Any) -> bool:
    """Whether an operator makes a lazy conjugate or negative, for an operator that needs it.

    PyTorch does so below autograd, by a clone: it does not require grad, but a gradient flows through it.
    """
    return (
        op is torch.ops.aten.clone.default
        and torch.is_grad_enabled()
        and args[0].requires_grad
        and (args[0].is_conj() or args[0].is_neg())
    )
