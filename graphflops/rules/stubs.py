"""A rule file to fill in, for a target of the user's: it loads as it is, and what it prices stays unknown till then."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS
from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket
from graphflops.rules.available_names import overloads, overrides_setup
from graphflops.rules.targets import canonical_name, registry_key


def stub(target: Any) -> str:
    """The text of a rule file for a module class, an autograd.Function, a function, or a custom or ATen operator.

    Raises:
        UsageError: it is none of these, or its arguments have no names.
    """
    arguments, parameters = _arguments(target), _parameters(target)
    name = canonical_name(registry_key(target._opoverload if isinstance(target, CustomOpDef) else target)).removesuffix(
        ".default"
    )
    if not all(part.isidentifier() or part == "<locals>" for part in name.split(".")):
        raise UsageError(f"{name!r} is no name that a rule can be written for")
    tensors = [each for each, default in arguments.items() if default is _TENSOR or default is _OPTIONAL]
    asked = [f"{each}: {_annotation(default)}" for each, default in arguments.items()]
    asked += [f"{each}: Spec | None = None" for each in parameters if each.isidentifier() and each not in arguments]
    grads = [f'#         "{each}": Work(elementwise={each}.numel),' for each in tensors]
    grads += [f'#         "{each}": Work(),  # a parameter' for each in parameters]
    asked = sorted(asked, key=lambda each: "=" in each)
    return f'''"""Rules for {name}. Fill in what is marked …, and take the line with Unpriced away."""

from typing import Any

from graphflops import Cost, Spec, Unpriced, Work, rule


@rule("{name}")
def {_function_name(name)}({", ".join([*asked, "out: Any = None"])}) -> Cost:
    """… The formula, where it is published, and what it leaves out.

    What is asked for and not needed may be taken away: names are offered as the call has them. ``out`` is the Spec of
    the result, or a tuple of them. Classes of work: macs, elementwise, division, transcendental, integer.
    """
    raise Unpriced("{name}: the stub of its rule is not filled in")


# What to return, for example:
#
# return Cost(
#     Work(elementwise=…),  # forward
#     {{  # of each gradient; Work() says that it is free, and one that is left out is reported as unknown
{chr(10).join(grads) or '#         "*": Work(),'}
#     }},
#     span=…,  # if it is a recursion: how many operations wait for each other
# )
'''


_TENSOR, _OPTIONAL, _VALUE = object(), object(), object()


def _annotation(kind: object) -> str:
    if kind is _TENSOR:
        return "Spec"
    if kind is _OPTIONAL:
        return "Spec | None = None"
    return "Any = None"


def _arguments(target: Any) -> Mapping[str, object]:
    """Name → whether a call gives a tensor there, may give one, or gives something else."""
    if isinstance(target, CustomOpDef):
        target = target._opoverload
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        schema = overloads(target)[0]._schema
        found = {each.name: str(each.type) for each in schema.arguments if not each.is_out}
        return {
            name: _TENSOR if kind == "Tensor" else _OPTIONAL if "Tensor" in kind else _VALUE
            for name, kind in found.items()
        }
    if isinstance(target, type) and issubclass(target, torch.autograd.Function):
        return _of_function(target.forward, skip=not overrides_setup(target))
    if isinstance(target, type) and issubclass(target, nn.Module):
        return _of_function(target.forward, skip=True)
    if inspect.isfunction(target):
        return _of_function(target)
    raise UsageError(
        f"{target!r} is a {type(target).__name__}: give a module class, an autograd.Function, a function or an operator"
    )


def _of_function(function: Any, *, skip: bool = False) -> Mapping[str, object]:
    try:
        parameters = list(inspect.signature(function).parameters.values())[int(skip) :]
    except (TypeError, ValueError) as error:
        raise UsageError(f"the arguments of {function!r} have no names: {error}") from error
    found: dict[str, object] = {}
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            continue
        kind = str(each.annotation)
        if each.annotation is not each.empty and "Tensor" not in kind:
            found[each.name] = _VALUE
        else:
            found[each.name] = _TENSOR if each.default is each.empty and "None" not in kind else _OPTIONAL
    return found


def _parameters(target: Any) -> list[str]:
    """The parameters of a module, if its class can be made without arguments."""
    if not (isinstance(target, type) and issubclass(target, nn.Module)):
        return []
    try:
        with torch.device("meta"):
            return [name for name, _ in target().named_parameters()]
    except USER_EXCEPTIONS:
        return []


def _function_name(name: str) -> str:
    last = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.split(".")[-1]).lower()
    return f"{last}_rule" if keyword.iskeyword(last) else last
