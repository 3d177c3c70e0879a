"""TorchScript modules: their original graph runs, whatever graph TorchScript has specialized to earlier runs.

A specialized graph has a differentiation of its own, and in it fake tensors do not require grad.
``torch.jit.optimized_execution(False)`` keeps TorchScript from creating one; a new function of the original graph does
not use one that exists. Neither changes the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from graphflops.core.torch_compat import function_of_graph

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def original_graph_call(module: nn.Module) -> Callable[..., Any] | None:
    """A function that runs the original graph of a TorchScript module; None for any other module."""
    if not isinstance(module, torch.jit.ScriptModule) or any(getattr(module, name, None) for name in _HOOKS):
        return None
    scripted: Any = module._c
    if not scripted._has_method("forward"):
        return None
    method = scripted._get_method("forward")
    function: Any = function_of_graph("forward", method.graph)

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return function(scripted, *_positional(method.schema.arguments[1:], args, kwargs))

    return call


def _positional(arguments: list[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments of a call by position, defaults included: a graph has neither names nor defaults.

    Raises:
        TypeError: they do not fit.
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
