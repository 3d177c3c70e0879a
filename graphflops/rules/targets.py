"""Targets of rules: their qualified names, the objects that names stand for, and their keys in a rule book."""

from __future__ import annotations

import re
import sys
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

from graphflops.core.messages import try_getattr

Target: TypeAlias = Any
"""A module class, an autograd.Function, a function, an operator (packet or overload), or the qualified name of one."""


def invalid_target(target: Any) -> str:
    """Why a value is not a valid target, as a sentence; empty if it is one."""
    if isinstance(target, str):
        if is_pattern(target):
            return _invalid_pattern(target)
        if not _NAME.fullmatch(target):
            return f"{target!r} is not a target: write the qualified name of a class, a function or an operator"
        return ""
    torch = sys.modules.get("torch")
    if torch and isinstance(target, torch.nn.Module):
        return f"a {type(target).__name__} is not a target, its class is: write @rule({type(target).__name__})"
    try:
        hash(target)
    except TypeError:
        return f"{short_repr(target)} is not a target: give several one by one, as in @rule(aten.mm, aten.bmm)"
    if not callable(target):
        return (
            f"{short_repr(target)} is not a target: give a module class, a function, an operator, or its qualified name"
        )
    return ""


def is_pattern(target: Target) -> bool:
    """Whether a target is a pattern of class names, such as ``"*.BKCoreFunction"``."""
    return isinstance(target, str) and ("*" in target or "?" in target)


def _invalid_pattern(pattern: str) -> str:
    """Why a pattern is not a valid target, as a sentence; empty if it is one."""
    if not _PATTERN.fullmatch(pattern):
        return f"{pattern!r} is not a pattern: write the qualified name of a class, with * for any part of it"
    if pattern.startswith(("aten.", "torch.ops.", "optimizer.")):
        return f"{pattern!r} is not a target: a pattern matches classes, so name each operator"
    if not re.search(r"\w", pattern.rpartition(".")[2]):
        return f"{pattern!r} matches every class: end it in the name of a class, as in '*.BKCoreFunction'"
    return ""


def short_repr(value: Any) -> str:
    """A value as an error message shows it: short, without an address in memory."""
    text = repr(value) if isinstance(value, (str, int, float, tuple, list, dict, set, type(None))) else ""
    return text if 0 < len(text) <= 80 else getattr(value, "__qualname__", f"a {type(value).__name__}")


def registry_key(target: Target) -> object:
    """The key of a target in a rule book: the qualified name of an operator, anything else itself."""
    if isinstance(target, str):
        return _key_of_name(target)
    import torch

    from graphflops.core.torch_compat import CustomOpDef, OpOverload, OpOverloadPacket

    if isinstance(target, OpOverload):
        return f"{target.namespace}::{target._schema.name.split('::')[1]}.{target._overloadname}"
    if isinstance(target, OpOverloadPacket):
        return target._qualified_op_name
    if isinstance(target, CustomOpDef):
        return target._qualname
    if isinstance(target, BuiltinFunctionType) and hasattr(torch.ops.aten, target.__name__):
        return f"aten::{target.__name__}"  # F.linear is the Python binding of aten.linear
    return target


def _key_of_name(name: str) -> object:
    """The key of a name. It does not depend on what is imported: the prefix tells an ATen operator, without torch."""
    if aten := _ATEN.fullmatch(name):
        return f"aten::{aten[1]}"
    target = resolve(name)
    key = canonical_name(target) if target is name or isinstance(target, (type, FunctionType)) else registry_key(target)
    return key if str(key).startswith("aten::") else canonical_name(key)


def qualified_name(target: Target) -> str:
    """The name of a target as people write it: ``torch.nn.modules.linear.Linear``, ``aten.linear``."""
    key = registry_key(target)
    if isinstance(key, str):
        return key.replace("::", ".").removesuffix(".default")
    module = try_getattr(target, "__module__")
    name = try_getattr(target, "__qualname__") or try_getattr(target, "__name__") or repr(target)
    return f"{module}.{name}" if module else name


def canonical_name(key: object) -> str:
    """A key as people write it: the same text for every way to write a target."""
    return key.replace("::", ".") if isinstance(key, str) else qualified_name(key)


_NAME = re.compile(r"[^\W\d][\w<>]*(?:(?:\.|::)[\w<>]+)*")
_PATTERN = re.compile(r"[\w<>*?]+(?:\.[\w<>*?]+)*")
_ATEN = re.compile(r"(?:torch\.ops\.)?aten(?:\.|::)(\w+(?:\.\w+)?)")
_SHORT = {"F": "torch.nn.functional", "nn": "torch.nn", "aten": "torch.ops.aten"}


def resolve(target: Target) -> Target:
    """The object that a name stands for: ``torch.nn.Linear``, ``F.gelu``, ``aten.gelu``, ``mylib.scan``.

    Returns the name itself if its module is not imported or has no such object, and any other target unchanged.
    """
    if not isinstance(target, str) or target.startswith("optimizer."):
        return target
    head, *rest = target.replace("::", ".").split(".")
    for start in (head, _SHORT.get(head, "")):
        parts = [*start.split("."), *rest]
        for cut in range(len(parts) - 1, 0, -1):
            value: Any = sys.modules.get(".".join(parts[:cut]))
            for part in parts[cut:]:
                value = try_getattr(value, part)
            if callable(value):
                return value
    torch = sys.modules.get("torch")  # no operator exists without it
    if torch and rest:
        from graphflops.core.torch_compat import schemas_of

        if schemas_of(f"{head}::{rest[0]}"):
            packet = getattr(getattr(torch.ops, head), rest[0])
            return getattr(packet, rest[1], target) if rest[1:] else packet
    return target
