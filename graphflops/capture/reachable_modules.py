"""The modules that a function reaches, by the names that its author has for them, so that a report can name them.

Looked into are what a function closes over, binds, names among its globals and has as defaults, and the attributes of
plain objects there, such as a trainer's.
"""

from __future__ import annotations

import collections
import functools
import inspect
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from graphflops.capture.code_names import MISSING, cell_content, names_in, user_modules_named
from graphflops.capture.object_state import is_a, is_plain, object_dict

DEEPEST = 4
"""attributes and members, one in the other, that are looked through"""
WIDEST = 1000
"""members of a container that are looked through"""


def find_modules(
    function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> dict[str, nn.Module]:
    """Name → module, of those that are in no other one; a method's module itself has the empty name."""
    found: dict[int, tuple[str, nn.Module]] = {}
    seen: set[int] = set()
    level: list[tuple[str, Any]] = [("", function), *_named(function, args), *(kwargs or {}).items()]
    for _ in range(DEEPEST):
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if id(value) in seen:
                continue
            seen.add(id(value))
            if is_a(value, nn.Module):
                if "_modules" in object_dict(value):  # else it was not made as PyTorch makes them
                    found[id(value)] = name, value
            else:
                below += _members(name, value)
        level = below
    modules = [module for _, module in found.values()]
    inner = {id(each) for module in modules for each in _below(module)}
    outer = [(name, module) for name, module in found.values() if id(module) not in inner]
    names: dict[str, nn.Module] = {}
    for name, module in outer:
        base, number = name, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names[name] = module
    return names


def _below(module: nn.Module) -> Iterator[nn.Module]:
    """The modules in a module, without itself."""
    waiting, seen = list(module._modules.values()), {id(module)}
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += each._modules.values()


def _members(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """What there is to look into next, each with its name."""
    if is_a(value, types.FunctionType):
        code = value.__code__
        enclosed = zip(code.co_freevars, filter(_is_there, map(cell_content, value.__closure__ or ())), strict=False)
        named = ((each, value.__globals__[each]) for each in names_in(code) if each in value.__globals__)
        for each, content in (*enclosed, *named):
            if is_a(content, types.ModuleType):
                yield from itertools.chain.from_iterable(found for _, found in user_modules_named(content, code))
            else:
                yield each, content
        defaults = value.__defaults__ or ()
        yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
        yield from (value.__kwdefaults__ or {}).items()
    elif is_a(value, types.MethodType):
        yield "", value.__self__
        yield "", value.__func__
    elif is_a(value, functools.partial):
        yield "", value.func
        yield from _named(value.func, value.args)
        yield from value.keywords.items()
    elif is_a(value, (dict, list, tuple, collections.deque)):
        members = dict.items(value) if is_a(value, dict) else enumerate(value)
        yield from ((_joined(name, str(key)), each) for key, each in itertools.islice(members, WIDEST))
    elif is_plain(type(value)) and not is_a(value, type):
        yield from ((_joined(name, key), each) for key, each in object_dict(value).items())
        yield from (("", vars(cls)["__call__"]) for cls in type(value).__mro__ if "__call__" in vars(cls))


def _named(function: Any, args: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Positional arguments by the names of a function's parameters."""
    names = positional_names(function)
    return ((names[i] if i < len(names) else f"argument_{i}", each) for i, each in enumerate(args))


def positional_names(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that may be given by position; none for a builtin, which does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]


def _joined(name: str, member: str) -> str:
    return f"{name}_{member}".strip("_").replace(".", "_") or member


def _is_there(content: Any) -> bool:
    return content is not MISSING


def register_modules(holder: nn.Module, reached: Mapping[str, nn.Module]) -> None:
    """Have a module hold others by their names; of what has no name, its parts by theirs."""
    for name, module in reached.items():
        if name:
            holder._modules[name] = module
        else:
            for held in ("_modules", "_parameters", "_buffers"):
                getattr(holder, held).update(getattr(module, held).items())
