"""The record that capture keeps of each node of its graph, and hands on to the graph of Ops."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import fx

from graphflops.core.renaming import Renaming
from graphflops.core.sizes import Spec
from graphflops.tracing.copies.fake_tensors import StorageId
from graphflops.tracing.recording.checkpoints import RegionPosition
from graphflops.tracing.recording.repeats import Repeat

Phase: TypeAlias = Literal["", "backward", "recompute", "optimizer"]
"""where a call of a program that is a step ran; empty for forward"""


@dataclass(frozen=True)
class Hook:
    """A hook: how it is run, on the gradients of which nodes' results, and where its work belongs."""

    function: Callable[..., Any]
    run: Callable[[], Any]
    triggers: tuple[fx.Node, ...]
    phase: Literal["dgrad", "wgrad"]
    owner: str
    tensor: torch.Tensor | None = None
    """of a hook of a tensor, that tensor"""
    gradients: frozenset[str] = frozenset()
    """of what a Function's own backward runs, the operands whose gradients it is for; their phase is its own"""

    @property
    def line(self) -> str:
        """Where it is written."""
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}: {code.co_name}" if code else ""


class _Unset:
    """The value of a node that has not run yet."""


UNSET = _Unset()


@dataclass(eq=False, slots=True)
class NodeRecord:
    """Everything that is known of one node, beside the arguments that the node itself has."""

    value: Any = UNSET
    """the fake tensor that it made, or a tuple or list with some"""
    module_path: str | None = None
    storages: tuple[StorageId | None, ...] = ()
    """the storages of the tensors that it made, when it ran; empty unless the trace keeps them"""
    line: str | None = None
    """the user's source line"""
    call: Any = None
    """the class, function or operator that a rule may name; None of a node that calls nothing"""
    operands: dict[str, Any] = field(default_factory=dict)
    """the arguments by name, tensors as nodes"""
    requires_grad: dict[fx.Node, bool] | None = None
    """operand → whether it required grad at this moment, which an in-place operation may change later"""
    run: Callable[..., Any] | None = None
    """the callable that was called with the node's arguments"""
    inside: fx.Graph | None = None
    """of a leaf: the operators that it ran, as a graph of their own (``recording/inside.py``)"""
    name: str | None = None
    """the path of a parameter, buffer or module call; None of a node that goes by its own name"""
    is_parameter: bool = False
    mask_nnz: dict[str, int | None] = field(default_factory=dict)
    """operand that is an attention mask → the number of elements that it lets through"""
    hook: Hook | None = None
    """the backward hook, or an autograd.Function's own backward, that made the call"""
    own_code: str | None = None
    """of a call whose work is that of the nodes that it ran: what is wrong with its backward; empty if it ran"""
    only_accumulates: bool = False
    """whether autograd only adds up in it, gradients that meet or that were broadcast"""
    resolves_view: bool = False
    """whether it makes a lazy conjugate or negative: it does not require grad, but a gradient flows through it"""
    place: RegionPosition | None = None
    """the checkpointed regions that it ran in"""
    recomputes: tuple[Hashable, ...] = ()
    """the checkpointed regions that run again if a gradient of it is computed"""
    recomputed_in: Mapping[Hashable, tuple[tuple[Any, Mapping[str, Any]], ...] | None] = field(default_factory=dict)
    """the regions with which it is computed again; of one that keeps some of it, the operators that are"""

    repeat: Repeat | None = None
    """the block that it repeats"""
    part_of: tuple[Renaming, fx.Node] | None = None
    """of a result of a repeated block: the renaming, and the node of the template that it is like"""

    phase: Phase = ""
    goes_back: fx.Node | None = None
    """of autograd going back through a call whose gradients its rule gives: that call"""
    has_rule: bool = False
    """whether a rule that is not of an ATen operator gives its gradients"""
    is_described: bool = False
    """whether it did not run: its rule describes its outputs"""
    is_covered: bool = False
    """whether its work is that of another node, whose rule gives these gradients"""
    gradients_of: tuple[fx.Node, ...] = ()
    """the nodes of the tensors that its result is the gradient of"""
    is_gradient: bool = False
    is_view_of_parameter: bool = False
    parameter_module: str | None = None
    """path of the module that holds the parameter whose gradient, or update, it is"""

    spec: Spec | None = None
    """the spec of its value, once it was asked for"""


def record_of(node: fx.Node) -> NodeRecord:
    """Return the record of a node of the graph that capture writes; a new one at first."""
    record: NodeRecord | None = node.meta.get("record")
    if record is None:
        record = node.meta["record"] = NodeRecord()
    return record
