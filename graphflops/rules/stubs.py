"""Rule stubs for a target at hand: its arguments, read from its signature, schema or forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS
from graphflops.core.rule_stub import rule_stub
from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket
from graphflops.rules.available_names import overloads, overrides_setup
from graphflops.rules.targets import canonical_name, registry_key

_TENSOR, _OPTIONAL, _VALUE = "Spec", "Spec | None = None", "Any = None"
"""annotations of an argument: always a tensor, a tensor or None, something else"""


def stub(target: Any, *, describes_output: bool = False) -> str:
    """The text of a rule file for a module class, an autograd.Function, a function, or a custom or ATen operator.

    With ``describes_output`` the rule has ``outputs=``: the output is assumed to be like the first tensor.

    Raises:
        UsageError: it is none of these, or its arguments have no names.
    """
    arguments, parameters = _arguments(target), _parameters(target)
    operator = target._opoverload if isinstance(target, CustomOpDef) else target
    name = canonical_name(registry_key(operator)).removesuffix(".default")
    if not all(part.isidentifier() or part == "<locals>" for part in name.split(".")):
        raise UsageError(f"{name!r} is not a name that a rule can be written for")
    annotations = {
        **arguments,
        **{parameter: _OPTIONAL for parameter in parameters if parameter.isidentifier()},
        **arguments,
    }
    gradients = {operand: f"Work(elementwise={operand}.numel)" for operand, kind in arguments.items() if kind != _VALUE}
    gradients |= dict.fromkeys(parameters, "Work()")
    output = next((name for name, kind in arguments.items() if kind == _TENSOR), "") if describes_output else ""
    signature = [f"{argument}: {annotation}" for argument, annotation in annotations.items()]
    return rule_stub(name, signature, gradients, outputs=output)


def _arguments(target: Any) -> Mapping[str, str]:
    """The arguments of a target: name → annotation."""
    if isinstance(target, CustomOpDef):
        target = target._opoverload
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        schema = overloads(target)[0]._schema
        types = {argument.name: str(argument.type) for argument in schema.arguments if not argument.is_out}
        return {
            name: _TENSOR if kind == "Tensor" else _OPTIONAL if "Tensor" in kind else _VALUE
            for name, kind in types.items()
        }
    if isinstance(target, type) and issubclass(target, torch.autograd.Function):
        return _arguments_of_function(target.forward, skip=not overrides_setup(target))
    if isinstance(target, type) and issubclass(target, nn.Module):
        return _arguments_of_function(target.forward, skip=True)
    if inspect.isfunction(target):
        return _arguments_of_function(target)
    raise UsageError(
        f"{target!r} is a {type(target).__name__}: give a module class, an autograd.Function, a function or an operator"
    )


def _arguments_of_function(function: Any, *, skip: bool = False) -> Mapping[str, str]:
    try:
        parameters = list(inspect.signature(function).parameters.values())[int(skip) :]
    except (TypeError, ValueError) as error:
        raise UsageError(f"the arguments of {function!r} have no names: {error}") from error
    arguments: dict[str, str] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        kind = str(parameter.annotation)
        if parameter.annotation is not parameter.empty and "Tensor" not in kind:
            arguments[parameter.name] = _VALUE
        else:
            arguments[parameter.name] = (
                _TENSOR if parameter.default is parameter.empty and "None" not in kind else _OPTIONAL
            )
    return arguments


def _parameters(target: Any) -> list[str]:
    """The parameters of a module, if its class can be made without arguments."""
    if not (isinstance(target, type) and issubclass(target, nn.Module)):
        return []
    try:
        with torch.device("meta"):
            return [name for name, _ in target().named_parameters()]
    except USER_EXCEPTIONS:
        return []
