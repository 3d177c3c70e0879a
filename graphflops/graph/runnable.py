"""The captured calls as a torch.fx.GraphModule that can be run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg

from graphflops.core.torch_compat import FunctionMeta
from graphflops.tracing.recording.record import NodeRecord, record_of
from graphflops.tracing.trace import Trace


def runnable(trace: Trace, model: Any) -> fx.GraphModule | str:
    """Return the forward calls of a capture as a module that takes the input tensors in order, or a reason why not.

    It shares the model's parameters, buffers and modules, as ``torch.fx.symbolic_trace`` does.
    """
    if trace.is_step:
        return "the program runs backward or an optimizer by itself"
    tensors = {**trace.parameter_tensors, **trace.constant_tensors}
    graph, holder = fx.Graph(), nn.Module()
    copies: dict[fx.Node, fx.Node] = {}
    for node in trace.graph.nodes:
        record = record_of(node)
        if record.hook is not None or record.goes_back is not None:
            continue  # it belongs to the backward pass
        if (reason := _reason(node, record)) is not None:
            return reason
        target: Any = node.target
        if node.op == "get_attr":
            if (tensor := tensors.get(str(target))) is None:
                return f"{target} is a tensor whose values are not known"
            target = f"tensor_{len(copies)}"
            _register(holder, target, tensor)
        elif node.op == "call_module":
            if not isinstance(model, nn.Module):
                return f"{target} is a module of a function"
            target = f"module_{len(copies)}"
            holder.add_module(target, model.get_submodule(str(node.target)))
        kind = node.op
        if isinstance(getattr(target, "__self__", None), FunctionMeta):
            kind, function, target = "call_module", target, f"function_{len(copies)}"  # fx cannot write its name
            holder.add_module(target, _Apply(function))
        args, kwargs = map_arg((node.args, dict(node.kwargs)), copies.__getitem__)
        copies[node] = graph.create_node(kind, target, args, kwargs)
    return fx.GraphModule(holder, graph, trace.name)


class _Apply(nn.Module):
    """The call of an ``autograd.Function`` as a module."""

    def __init__(self, apply: Callable[..., Any]) -> None:
        super().__init__()
        self.apply_function = apply

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result of the Function."""
        return self.apply_function(*args, **kwargs)


def _reason(node: fx.Node, record: NodeRecord) -> str | None:
    """Return the reason why a call cannot be run, if there is one."""
    if record.repeat is not None or record.part_of is not None:
        return "it was captured with equal blocks folded"
    if record.is_described:
        return f"{node.target} is not run: its rule describes its outputs"
    return None


def _register(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)
