"""The names that a rule's arguments can have, by its targets: read from schemas, signatures and source code."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import nn

from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket
from graphflops.rules.rule import Rule, listed
from graphflops.rules.targets import Target, qualified_name, registry_key, resolve

OPTIONS = frozenset({"attention"})
"""options of an analysis, which are available to every rule"""


def check_signature(rule: Rule) -> str:
    """The problem with the arguments of a rule, as the end of a sentence; empty if there is none.

    Every target must provide an argument without default, and one target at least an argument with a default. A target
    whose names are not known is not checked.
    """
    available = {target: names for target in rule.targets if (names := available_names(target)) is not None}
    parameters = rule.signature.parameters
    for target, names in available.items():
        missing = [
            name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in names
        ]
        if missing:
            return (
                f"has {listed('argument', missing)}, which {qualified_name(target)} does not provide; "
                f"available: {_relevant(target, names)}{_schema_names(target, missing)}"
            )
    if len(available) == len(rule.targets) and available:
        union = frozenset().union(*available.values())
        if missing := [name for name in parameters if name not in union]:
            choices = "; ".join(
                f"of {qualified_name(target)}: {_relevant(target, names)}" for target, names in available.items()
            )
            return f"has {listed('argument', missing)}, which no target provides; available {choices}"
    return ""


def available_names(target: Target) -> frozenset[str] | None:
    """The names that a call of a target may provide; None if they are known only in a call.

    Those of an operator's schema, a function's signature, or a module class's source, with its bases.
    """
    if isinstance(target, str) and target.startswith("optimizer."):
        return frozenset({"param"})
    target = resolve(target)
    target = resolve(registry_key(target)) if isinstance(target, (BuiltinFunctionType, CustomOpDef)) else target
    names: frozenset[str] | None = None
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        names = frozenset(argument.name for op in overloads(target) for argument in op._schema.arguments)
    elif isinstance(target, type) and issubclass(target, torch.autograd.Function):
        names = _parameters(target.forward, skip_first=not overrides_setup(target))
    elif isinstance(target, type) and issubclass(target, nn.Module):
        names = _names_of_module(target)
    elif inspect.isfunction(target):
        names = _parameters(target)
    return None if names is None else names | OPTIONS | {"out", "grad_outputs"}


def overloads(op: OpOverload | OpOverloadPacket) -> list[OpOverload]:
    """The overloads of an operator on tensors, with those of its in-place variant; of an overload, itself."""
    if isinstance(op, OpOverload):
        return [op]
    inplace = getattr(torch.ops.aten, f"{op.__name__}_", None) if op._qualified_op_name.startswith("aten::") else None
    packets = [op, *([inplace] if isinstance(inplace, OpOverloadPacket) else [])]
    variants = [getattr(packet, name) for packet in packets for name in packet.overloads()]  # type: ignore[no-untyped-call]
    on_tensors = [op for op in variants if any("Tensor" in str(argument.type) for argument in op._schema.arguments)]
    return on_tensors or variants  # some are TorchScript's, on numbers and lists


def overrides_setup(function: Any) -> bool:
    """Whether an autograd.Function has a ``setup_context`` of its own, so that its forward takes no ``ctx``."""
    return function.setup_context is not torch.autograd.Function.setup_context


def _schema_names(target: Target, missing: list[str]) -> str:
    """A hint for a builtin function whose documentation names arguments otherwise than its operator's schema."""
    function = resolve(target)
    if not isinstance(function, BuiltinFunctionType):
        return ""
    signature = re.match(rf"\s*{function.__name__}\(([^)]*)\)", function.__doc__ or "")
    documented = re.findall(r"(?:^|,)\s*(\w+)", signature[1]) if signature else []
    operator = resolve(registry_key(function))
    schema = overloads(operator)[0]._schema.arguments if isinstance(operator, (OpOverload, OpOverloadPacket)) else []
    names = dict(zip(documented, (argument.name for argument in schema), strict=False))
    renamed = [f"{names[name]} instead of {name}" for name in missing if names.get(name, name) != name]
    return f"; the operator's schema has {', '.join(renamed)}" if renamed else ""


def _parameters(function: Callable[..., Any], *, skip_first: bool = False) -> frozenset[str] | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())[int(skip_first) :]
    except (TypeError, ValueError):  # a property, or a builtin without a signature
        return None
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def _names_of_module(cls: type) -> frozenset[str] | None:
    """The arguments of forward, the attributes of the class, and every name in its source and its bases'.

    None if a source is missing, or sets attributes by names made at run time.
    """
    parameters = _parameters(cls.forward, skip_first=True)  # type: ignore[attr-defined]
    if parameters is None:
        return None
    names = {*parameters, *dir(cls)}
    for base in cls.__mro__:
        names |= set(getattr(base, "__annotations__", ()))
        if base in (nn.Module, object):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except Exception:  # no source, or text that is not the source
            return None
        in_source = set(_names_in(tree))
        if "setattr" in in_source or "__getattr__" in in_source:
            return None
        names |= in_source
    return frozenset(filter(str.isidentifier, names))


def _names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Constant(value=str(name)):
                yield name


def _relevant(target: Target, names: frozenset[str]) -> str:
    """The names to list in a message; for a module class its arguments and attributes, not every name in its source."""
    cls = resolve(target)
    if isinstance(cls, type) and issubclass(cls, nn.Module):
        annotated = {name for base in cls.__mro__[:-2] for name in getattr(base, "__annotations__", ())}
        parameters = _parameters(cls.forward, skip_first=True) or frozenset()
        pattern = r"self\.(\w+)(?:: [^=\n]+)? = |register_\w+\(\s*[\"'](\w+)"
        attributes = {name for pair in re.findall(pattern, inspect.getsource(cls)) for name in pair}
        names = names & {"out", *annotated, *parameters, *attributes}
    return ", ".join(sorted(name for name in names if not name.startswith("_")))
