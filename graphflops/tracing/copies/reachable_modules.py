"""The modules that a function reaches, by the names that its author gave them, so that a report can name them.

Searched are the function's closure, bound object, globals that it names and defaults, and the attributes of plain
objects there, such as a trainer's.
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

from graphflops.tracing.copies.code_names import MISSING, cell_content, names_in, user_modules_named
from graphflops.tracing.copies.object_state import is_a, is_plain, object_dict

MAX_DEPTH = 4
"""nested attributes and members that are searched"""
MAX_MEMBERS = 1000
"""members of a container that are searched"""


def find_modules(
    function: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> dict[str, nn.Module]:
    """Name → module, for modules that are in no other one; the module of a method has the empty name."""
    reached: dict[int, tuple[str, nn.Module]] = {}
    visited: set[int] = set()
    level: list[tuple[str, Any]] = [("", function), *_named(function, args), *(kwargs or {}).items()]
    for _ in range(MAX_DEPTH):
        below: list[tuple[str, Any]] = []
        for name, value in level:
            if id(value) in visited:
                continue
            visited.add(id(value))
            if is_a(value, nn.Module):
                if "_modules" in object_dict(value):  # else its __init__ has not run
                    reached[id(value)] = name, value
            else:
                below += _members(name, value)
        level = below
    inner = {id(submodule) for _, module in reached.values() for submodule in _submodules(module)}
    outer = [(name, module) for name, module in reached.values() if id(module) not in inner]
    names: dict[str, nn.Module] = {}
    for name, module in outer:
        base, number = name, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names[name] = module
    return names


def _submodules(module: nn.Module) -> Iterator[nn.Module]:
    """The modules in a module, without itself."""
    pending, visited = list(module._modules.values()), {id(module)}
    while pending:
        submodule = pending.pop()
        if submodule is not None and id(submodule) not in visited:
            visited.add(id(submodule))
            yield submodule
            pending += submodule._modules.values()


def _members(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """The values to search next, with their names."""
    if is_a(value, types.FunctionType):
        code = value.__code__
        contents = (content for content in map(cell_content, value.__closure__ or ()) if content is not MISSING)
        enclosed = zip(code.co_freevars, contents, strict=False)
        named = (
            (variable, value.__globals__[variable]) for variable in names_in(code) if variable in value.__globals__
        )
        for variable, content in (*enclosed, *named):
            if is_a(content, types.ModuleType):
                yield from itertools.chain.from_iterable(members for _, members in user_modules_named(content, code))
            else:
                yield variable, content
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
        yield from ((_join(name, str(key)), member) for key, member in itertools.islice(members, MAX_MEMBERS))
    elif is_plain(type(value)) and not is_a(value, type):
        yield from ((_join(name, key), member) for key, member in object_dict(value).items())
        yield from (("", vars(cls)["__call__"]) for cls in type(value).__mro__ if "__call__" in vars(cls))


def _named(function: Any, args: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Positional arguments by the names of a function's parameters."""
    names = positional_names(function)
    return ((names[i] if i < len(names) else f"argument_{i}", arg) for i, arg in enumerate(args))


def positional_names(function: Callable[..., Any]) -> list[str]:
    """The names of the positional parameters; none for a builtin without a signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in positional]


def _join(name: str, member: str) -> str:
    return f"{name}_{member}".strip("_").replace(".", "_") or member


def register_modules(parent: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Register modules as submodules; of a module with the empty name, its submodules, parameters and buffers."""
    for name, module in modules.items():
        if name:
            parent._modules[name] = module
        else:
            for registry in ("_modules", "_parameters", "_buffers"):
                getattr(parent, registry).update(getattr(module, registry).items())
