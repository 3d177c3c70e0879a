"""Targets of rules: their dotted names, the objects that names stand for, and the key of each in a rule book."""

from __future__ import annotations

import re
import sys
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

from graphflops.core.messages import try_getattr

Target: TypeAlias = Any
"""A module class, an autograd.Function, a function, an operator (packet or overload), or a dotted name of one."""


def invalid_target(target: Any) -> str:
    """Why something cannot be what a rule speaks for, as a sentence; empty if it can."""
    if isinstance(target, str):
        if is_pattern(target):
            return _invalid_pattern(target)
        if not _NAME.fullmatch(target):
            return f"{target!r} is no target: write the dotted name of a class, a function or an operator"
        return ""
    torch = sys.modules.get("torch")
    if torch and isinstance(target, torch.nn.Module):
        return f"a {type(target).__name__} is no target, its class is: write @rule({type(target).__name__})"
    try:
        hash(target)
    except TypeError:
        return f"{short_repr(target)} is no target: give each by itself, as in @rule(aten.mm, aten.bmm)"
    if not callable(target):
        return f"{short_repr(target)} is no target: give a module class, a function, an operator, or its dotted name"
    return ""


def is_pattern(target: Target) -> bool:
    """Whether a target names every class whose dotted name is like it, as ``"*.BKCoreFunction"`` does."""
    return isinstance(target, str) and ("*" in target or "?" in target)


def _invalid_pattern(target: str) -> str:
    """Why a pattern cannot be what a rule speaks for, as a sentence; empty if it can."""
    if not _PATTERN.fullmatch(target):
        return f"{target!r} is no pattern: write the dotted name of a class, with * for any part of it"
    if target.startswith(("aten.", "torch.ops.", "optimizer.")):
        return f"{target!r} is no target: a pattern is of classes, so name each operator"
    if not re.search(r"\w", target.rpartition(".")[2]):
        return f"{target!r} names every class there is: end it in a class's own name, as in '*.BKCoreFunction'"
    return ""


def short_repr(value: Any) -> str:
    """A value as an error message shows it: short, without an address in memory."""
    text = repr(value) if isinstance(value, (str, int, float, tuple, list, dict, set, type(None))) else ""
    return text if 0 < len(text) <= 80 else getattr(value, "__qualname__", f"a {type(value).__name__}")


def registry_key(target: Target) -> object:
    """What a target is filed under: operators by their qualified name, everything else as it is."""
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
        return f"aten::{target.__name__}"  # F.linear is the face of aten.linear
    return target


def _key_of_name(name: str) -> object:
    """The same, whatever is imported by now: an ATen operator is known by its prefix, without torch."""
    if aten := _ATEN.fullmatch(name):
        return f"aten::{aten[1]}"
    found = resolve(name)
    key = canonical_name(found) if found is name or isinstance(found, (type, FunctionType)) else registry_key(found)
    return key if str(key).startswith("aten::") else canonical_name(key)


def qualified_name(target: Target) -> str:
    """How people write a target: ``torch.nn.modules.linear.Linear``, ``aten.linear``."""
    key = registry_key(target)
    if isinstance(key, str):
        return key.replace("::", ".").removesuffix(".default")
    module = try_getattr(target, "__module__")
    name = try_getattr(target, "__qualname__") or try_getattr(target, "__name__") or repr(target)
    return f"{module}.{name}" if module else name


def canonical_name(key: object) -> str:
    """A key as people write it; two spellings of one target are equal so."""
    return key.replace("::", ".") if isinstance(key, str) else qualified_name(key)


_NAME = re.compile(r"[^\W\d][\w<>]*(?:(?:\.|::)[\w<>]+)*")
_PATTERN = re.compile(r"[\w<>*?]+(?:\.[\w<>*?]+)*")
_ATEN = re.compile(r"(?:torch\.ops\.)?aten(?:\.|::)(\w+(?:\.\w+)?)")
_SHORT = {"F": "torch.nn.functional", "nn": "torch.nn", "aten": "torch.ops.aten"}


def resolve(target: Target) -> Target:
    """What a name names, as far as it is imported: ``torch.nn.Linear``, ``F.gelu``, ``aten.gelu``, ``mylib.scan``.

    What is no name, or names nothing yet, is given back as it is.
    """
    if not isinstance(target, str) or target.startswith("optimizer."):
        return target
    head, *rest = target.replace("::", ".").split(".")
    for start in (head, _SHORT.get(head, "")):
        parts = [*start.split("."), *rest]
        for cut in range(len(parts) - 1, 0, -1):
            found: Any = sys.modules.get(".".join(parts[:cut]))
            for part in parts[cut:]:
                found = try_getattr(found, part)
            if callable(found):
                return found
    torch = sys.modules.get("torch")  # without it there is no operator
    if torch and rest:
        from graphflops.core.torch_compat import schemas_of

        if schemas_of(f"{head}::{rest[0]}"):
            found = getattr(getattr(torch.ops, head), rest[0])
            return getattr(found, rest[1], target) if rest[1:] else found
    return target
