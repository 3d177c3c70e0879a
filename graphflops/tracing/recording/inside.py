"""The insides of leaves: the ATen operators that one call runs, written into a graph of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from graphflops.core.torch_compat import FunctionMeta, OpOverload, tree_leaves
from graphflops.tracing.interception.composites import is_composite
from graphflops.tracing.interception.math_attention import ATTENTION
from graphflops.tracing.recording.checkpoints import RegionPosition
from graphflops.tracing.recording.cleanup import drop_bookkeeping
from graphflops.tracing.recording.custom_functions import CustomFunctions
from graphflops.tracing.recording.record import NodeRecord, record_of
from graphflops.tracing.recording.writer import GraphWriter
from graphflops.tracing.session.handlers import CallHandler


class InsideWriter(GraphWriter):
    """Writes the operators that a leaf runs, as the outer writer would if no rule named the leaf.

    The operands of the leaf are placeholders, named as the leaf names them, and its results are the output. Names of
    nodes begin with ``/``, to be appended to the leaf's name; parameters and buffers that are no operands have their
    paths.
    """

    def __init__(self, outer: GraphWriter, handler: CallHandler, leaf: NodeRecord) -> None:
        super().__init__(outer.root, outer.book, outer.values, outer.opaque, (ATTENTION,))
        self.outer, self.leaf = outer, leaf
        self.program, self.module_paths, self.line = outer.program, outer.module_paths, outer.line
        self.custom_functions = CustomFunctions(self, handler)
        self.run_operator = outer.run_operator  # type: ignore[method-assign]
        for name, operand in leaf.operands.items():
            for i, node in enumerate(tree_leaves(operand)):
                if isinstance(node, fx.Node):
                    self._add_input(name if node is operand else f"{name}.{i}", record_of(node).value)

    def _add_input(self, name: str, value: torch.Tensor) -> None:
        node = self.graph.placeholder(name)
        record = record_of(node)
        record.name, record.value, record.storages = f"/{name}", value, self.fakes.storages_of(value)
        self.nodes.setdefault(id(value), node)

    def run(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the leaf; its record gets the graph, whose output are the tensors that the leaf returns."""
        is_function = isinstance(self.leaf.call, FunctionMeta)
        result = self.on_function(run, self.leaf.call, args, kwargs) if is_function else run(*args, **kwargs)
        is_single = torch.is_tensor(result)
        parts = [result] if is_single else list(result) if isinstance(result, (tuple, list)) else []
        nodes = [self.node_of(part) if torch.is_tensor(part) else None for part in parts]
        output = self.graph.output(nodes[0] if is_single else nodes)
        record_of(output).requires_grad = self.requires_grad_of(parts)
        drop_bookkeeping(self.graph, set())
        for node in self.graph.nodes:
            record = record_of(node)
            record.name = record.name or f"/{node.name}"
        self.leaf.inside = self.graph
        return result

    def on_operator(self, op: OpOverload, args: Any, kwargs: Any) -> Any:
        """Record an operator; of one that is composite, or written in Python, those that it runs."""
        if self.custom_functions.has_python_kernel(op):
            return self.custom_functions.call_operator(op, args, kwargs)
        if is_composite(op):
            return self.custom_functions.call_inside(op.decompose, args, kwargs)
        return self.record_operator(op, args, kwargs, op)

    def on_function(self, apply: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """Record the operators that a custom function runs forward."""
        return self.custom_functions.call_forward(apply, cls, args, kwargs)

    def create_named_node(self, kind: str, path: str, args: Any, kwargs: Any, times: int = 1) -> fx.Node:
        """Create a node that has the path of a parameter or buffer as its name."""
        node = self.create_node(kind, path, args, kwargs)
        record_of(node).name = path
        return node

    def _converted_name(self, fake: torch.Tensor) -> str | None:
        """Return None: a parameter that is an operand keeps the operand's name."""
        return None

    def _place_of_call(self) -> RegionPosition:
        """Return the checkpointed regions that the last operator ran in, which the outer writer counts."""
        last = self.outer.dispatched[-1:]
        is_selective = bool(last) and last[0].op is record_of(self.graph._root._prev).call
        return RegionPosition(self.outer.place.regions, last if is_selective else ())
