"""TorchScript modules: run by the graph that was written, whatever TorchScript has made of it in earlier runs.

After some runs it runs a graph of its own, which differentiates in a way of its own and in which stand-ins do not
require grad. ``torch.jit.optimized_execution(False)`` keeps it from making one; a new function of the written graph
does not know of one that is there already. Neither changes the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from graphflops.core.torch_compat import function_of_graph

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def written_graph_call(module: nn.Module) -> Callable[..., Any] | None:
    """What a TorchScript module's call does, by the graph that was written; None of any other module."""
    if not isinstance(module, torch.jit.ScriptModule) or any(getattr(module, each, None) for each in _HOOKS):
        return None
    scripted: Any = module._c
    if not scripted._has_method("forward"):
        return None
    method = scripted._get_method("forward")
    function: Any = function_of_graph("forward", method.graph)

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return function(scripted, *_in_order(method.schema.arguments[1:], args, kwargs))

    return call


def _in_order(arguments: list[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments of a call by position, defaults and all: a graph knows neither names nor defaults.

    Raises:
        TypeError: they are not those that it takes.
    """
    names = [argument.name for argument in arguments]
    if len(args) > len(names) or not kwargs.keys() <= set(names[len(args) :]):
        raise TypeError(f"forward takes {', '.join(names) or 'nothing'}; given are {len(args)} and {', '.join(kwargs)}")
    values = list(args)
    for argument in arguments[len(args) :]:
        if argument.name not in kwargs and not argument.has_default_value():
            raise TypeError(f"forward is not given {argument.name}")
        values.append(kwargs.get(argument.name, argument.default_value))
    return values
