"""Copies of functions: those that bind state, close over it, or name it among the globals of their file.

A copied function runs on a copy of the globals of its file, in which the state that it names is copied too.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch

from graphflops.tracing.copies.code_names import (
    MISSING,
    cell_content,
    is_of_libraries,
    names_in,
    names_written,
    user_modules_named,
)
from graphflops.tracing.copies.copy_containers import ContainerCopier
from graphflops.tracing.copies.object_state import is_a, object_dict
from graphflops.tracing.copies.per_analysis import BUILTIN_METHODS

_CALLABLES = (types.FunctionType, types.MethodType, *BUILTIN_METHODS, functools.partial)


class FunctionCopier(ContainerCopier):
    """Copies functions, methods and partials."""

    def __init__(self, fake: Callable[[torch.Tensor], torch.Tensor], shared: frozenset[type]) -> None:
        super().__init__(fake, shared)
        # id of the globals of a file → them, and a module with the globals of its copied functions
        self._globals: dict[int, tuple[dict[str, Any], types.ModuleType]] = {}

    def _function(self, function: types.FunctionType) -> Any:
        if not self._reaches_state(function):
            return self._share(function)
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        copied = types.FunctionType(
            function.__code__, self._globals_of(function), function.__name__, None, cells if cells else None
        )
        self._keep(function, copied)
        copied.__qualname__, copied.__module__ = function.__qualname__, function.__module__
        copied.__doc__, copied.__annotations__ = function.__doc__, function.__annotations__

        def fill() -> None:
            copied.__defaults__ = self._copy(function.__defaults__)
            copied.__kwdefaults__ = self._copy(function.__kwdefaults__)
            vars(copied).update({name: self._copy(value) for name, value in vars(function).items()})
            for cell, original in zip(cells, function.__closure__ or (), strict=True):
                if (content := cell_content(original)) is not MISSING:
                    cell.cell_contents = self._copy_named(content, function.__code__)

        self._pending.append(fill)
        return copied

    def _method(self, method: types.MethodType) -> Any:
        function, owner = self._copy(method.__func__), self._copy(method.__self__)
        if function is method.__func__ and owner is method.__self__:
            return method
        return self._keep(method, types.MethodType(function, owner))

    def _builtin_method(self, method: Any) -> Any:
        owner = method.__self__
        if isinstance(owner, types.ModuleType) or (copied := self._copy(owner)) is owner:
            return method
        return self._keep(method, getattr(copied, method.__name__))

    def _partial(self, original: functools.partial[Any]) -> Any:
        if not self._reaches_state(original) and not object_dict(original):
            return self._share(original)
        copied = functools.partial.__new__(
            type(original),
            self._copy(original.func),
            *map(self._copy, original.args),
            **{name: self._copy(value) for name, value in original.keywords.items()},
        )
        self._keep(original, copied)
        self._fill_attributes(original, copied)
        return copied

    def _lru_cache(self, original: Any) -> Any:
        """A function with an empty cache."""
        parameters = original.cache_parameters()
        copied = functools.lru_cache(parameters["maxsize"], parameters["typed"])(self._copy(original.__wrapped__))
        return self._keep(original, copied)

    # -- globals -------------------------------------------------------------------------------------------------

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        """The globals of a copied function: those of its file, with copies of the state that it names."""
        own, code = function.__globals__, function.__code__
        if not self._state_among(own, code) and not names_written(code)[0]:
            return vars(self._globals[id(own)][1]) if id(own) in self._globals else own
        return vars(self._copied_module(own, code))

    def _copied_module(self, own: dict[str, Any], code: types.CodeType) -> types.ModuleType:
        """A module with the globals of a file, and copies of the state among them that code names."""
        if id(own) not in self._globals:
            self._globals[id(own)] = own, types.ModuleType(str(own.get("__name__", "")))
            vars(self._globals[id(own)][1]).update(own)
        module = self._globals[id(own)][1]
        copied = vars(module)
        for name in self._state_among(own, code):
            if copied.get(name) is own[name]:
                del copied[name]  # in a cycle of modules it is looked up again
                copied[name] = self._copy_named(own[name], code)
        return module

    def _copy_named(self, value: Any, code: types.CodeType) -> Any:
        """The copy of a value that code names; a Python module is copied with the state in it that code names."""
        if not is_a(value, types.ModuleType):
            return self._copy(value)
        return self._copied_module(vars(value), code) if self._reaches_state_in(value, code) else value

    # -- which functions are copied ------------------------------------------------------------------------------

    def is_stateful(self, value: Any) -> bool:
        """Whether a value is copied, functions aside that reach no state."""
        if self._handler(type(value)) in (None, self._share):
            return False
        if is_a(value, _CALLABLES):
            return self._reaches_state(value)
        if is_a(value, (tuple, frozenset)):
            return any(map(self.is_stateful, value))
        return True

    def _state_among(self, own: dict[str, Any], code: types.CodeType) -> list[str]:
        """The names in code under which a file has state, or a Python module in which code finds some."""
        named = [(name, own[name]) for name in names_in(code) if name in own]
        return [name for name, value in named if self.is_stateful(value) or self._reaches_state_in(value, code)]

    def _reaches_state_in(self, module: Any, code: types.CodeType) -> bool:
        """Whether a value is a Python module in which code finds state, or to which it writes."""
        return any(
            any(self.is_stateful(value) for _, value in named)
            or not vars(user_module).keys().isdisjoint(names_written(code)[1])
            for user_module, named in user_modules_named(module, code)
        )

    def _reaches_state(self, function: Any) -> bool:
        """Whether a function binds state, closes over it, or names it among the globals of its file."""
        pending, visited = [function], set()
        while pending:
            value = pending.pop()
            if id(value) in visited:
                continue
            visited.add(id(value))
            if is_a(value, types.FunctionType):
                if is_of_libraries(value.__module__) and not value.__closure__:
                    continue
                code = value.__code__
                enclosed = [content for content in map(cell_content, value.__closure__ or ()) if content is not MISSING]
                if any(self._reaches_state_in(content, code) for content in enclosed):
                    return True
                pending += enclosed
                pending += value.__defaults__ or ()
                pending += (value.__kwdefaults__ or {}).values()
                if not is_of_libraries(value.__module__):
                    if names_written(code)[0]:
                        return True
                    own = value.__globals__
                    named = [own[name] for name in names_in(code) if name in own]
                    if any(self._reaches_state_in(content, code) for content in named):
                        return True
                    pending += named
            elif is_a(value, types.MethodType):
                pending += [value.__func__, value.__self__]
            elif is_a(value, BUILTIN_METHODS):
                pending.append(value.__self__)
            elif is_a(value, functools.partial):
                pending += [value.func, *value.args, *value.keywords.values()]
            elif is_a(value, (tuple, frozenset)):
                pending += value
            elif self.is_stateful(value):
                return True
        return False
