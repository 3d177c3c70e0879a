"""What a call of a target can offer to its rule, as far as that is known before there is a call."""

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
from graphflops.rules.rule import Rule
from graphflops.rules.targets import Target, qualified_name, registry_key, resolve

OPTIONS = frozenset({"attention"})
"""what an analysis offers beside the operands"""


def check_signature(rule: Rule) -> str:
    """What is wrong with the names that a rule asks for, as a sentence; empty if nothing is known to be.

    A name without a default must be offered by every target, one with a default by at least one of them.
    """
    known = {target: names for target in rule.targets if (names := available_names(target)) is not None}
    asked = rule.signature.parameters
    for target, names in known.items():
        missing = [name for name, each in asked.items() if each.default is each.empty and name not in names]
        if missing:
            listed = f"asks for {', '.join(missing)}, but {qualified_name(target)} offers {_listed(target, names)}"
            return listed + _called_otherwise(target, missing)
    if len(known) == len(rule.targets) and known:
        names = frozenset().union(*known.values())
        if stray := [name for name in asked if name not in names]:
            listed = "; ".join(
                f"{qualified_name(target)} offers {_listed(target, names)}" for target, names in known.items()
            )
            return f"asks for {', '.join(stray)}, which nothing offers: {listed}"
    return ""


def available_names(target: Target) -> frozenset[str] | None:
    """The names that calls of a target may offer; None where that shows only in a call.

    Of an operator its schema's, of a function its signature's, of a module class what its source and its bases' name.
    """
    if isinstance(target, str) and target.startswith("optimizer."):
        return frozenset({"param"})
    target = resolve(target)
    target = resolve(registry_key(target)) if isinstance(target, (BuiltinFunctionType, CustomOpDef)) else target
    names: frozenset[str] | None = None
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        names = frozenset(each.name for op in overloads(target) for each in op._schema.arguments)
    elif isinstance(target, type) and issubclass(target, torch.autograd.Function):
        names = _arguments(target.forward, skip=not overrides_setup(target))
    elif isinstance(target, type) and issubclass(target, nn.Module):
        names = _of_module(target)
    elif inspect.isfunction(target):
        names = _arguments(target)
    return None if names is None else names | OPTIONS | {"out", "grad_outputs"}


def overloads(op: OpOverload | OpOverloadPacket) -> list[OpOverload]:
    """An overload alone, or all of an operator, those of its in-place variant too."""
    if isinstance(op, OpOverload):
        return [op]
    inplace = getattr(torch.ops.aten, f"{op.__name__}_", None) if op._qualified_op_name.startswith("aten::") else None
    packets = [op, *([inplace] if isinstance(inplace, OpOverloadPacket) else [])]
    named = [getattr(each, name) for each in packets for name in each.overloads()]  # type: ignore[no-untyped-call]
    of_tensors = [op for op in named if any("Tensor" in str(each.type) for each in op._schema.arguments)]
    return of_tensors or named  # some are TorchScript's, of numbers and lists


def overrides_setup(function: Any) -> bool:
    """Whether an autograd.Function has a ``setup_context`` of its own, so that its forward takes no ``ctx``."""
    return function.setup_context is not torch.autograd.Function.setup_context


def _called_otherwise(target: Target, asked: list[str]) -> str:
    """What to ask for instead of names that the documentation of a builtin function uses, and its operator does not."""
    function = resolve(target)
    if not isinstance(function, BuiltinFunctionType):
        return ""
    signature = re.match(rf"\s*{function.__name__}\(([^)]*)\)", function.__doc__ or "")
    documented = re.findall(r"(?:^|,)\s*(\w+)", signature[1]) if signature else []
    operator = resolve(registry_key(function))
    schema = overloads(operator)[0]._schema.arguments if isinstance(operator, (OpOverload, OpOverloadPacket)) else []
    named = dict(zip(documented, (each.name for each in schema), strict=False))
    instead = [f"{named[name]} for {name}" for name in asked if named.get(name, name) != name]
    return f"; ask for {', '.join(instead)}, as the operator's schema names it" if instead else ""


def _arguments(function: Callable[..., Any], *, skip: bool = False) -> frozenset[str] | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())[int(skip) :]
    except (TypeError, ValueError):  # a property, or a builtin that says nothing of its arguments
        return None
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        return None
    return frozenset(each.name for each in parameters)


def _of_module(cls: type) -> frozenset[str] | None:
    """The arguments of forward, the attributes of the class, and every name that its source and its bases' write.

    None if a source is not there, or makes names as it runs.
    """
    found = _arguments(cls.forward, skip=True)  # type: ignore[attr-defined]
    if found is None:
        return None
    names = {*found, *dir(cls)}
    for base in cls.__mro__:
        names |= set(getattr(base, "__annotations__", ()))
        if base in (nn.Module, object):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except Exception:  # there is no source, or what is found there is none
            return None
        written = set(_names_in(tree))
        if "setattr" in written or "__getattr__" in written:
            return None
        names |= written
    return frozenset(filter(str.isidentifier, names))


def _names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Constant(value=str(name)):
                yield name


def _listed(target: Target, names: frozenset[str]) -> str:
    """What to say that a target offers; of a module class what its code is most likely to mean."""
    cls = resolve(target)
    if isinstance(cls, type) and issubclass(cls, nn.Module):
        annotated = {name for base in cls.__mro__[:-2] for name in getattr(base, "__annotations__", ())}
        named = _arguments(cls.forward, skip=True) or frozenset()
        written = set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = |register_\w+\(\s*[\"'](\w+)", inspect.getsource(cls)))
        names = names & ({"out", *annotated, *named, *(name for pair in written for name in pair)})
    return ", ".join(sorted(name for name in names if not name.startswith("_")))
