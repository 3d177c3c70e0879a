"""What functions of a model remember (``functools.lru_cache``): of tensors nothing, before and after a trace.

A tensor that was remembered before would not be counted when it is made; one without data that was remembered during a
trace would be handed to whoever runs the model next. What else is remembered stays.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

_Memo = functools._lru_cache_wrapper
_OTHERS = frozenset({*sys.stdlib_module_names, "torch", "graphflops"})
"""packages whose functions remember nothing of a model"""


@contextmanager
def forgotten(memos: Collection[Any]) -> Iterator[None]:
    """Nothing is remembered of a tensor when this is opened, nor of one that was made meanwhile when it is closed."""
    _forget(memos)
    try:
        yield
    finally:
        _forget(memos)


def memos_of(root: nn.Module) -> frozenset[Any]:
    """What remembers among the functions of the files that a model's classes stand in, and that these import from."""
    near = {each.__module__ for module in root.modules() for each in type(module).__mro__}
    own = vars(root).get("forward")
    near |= {own.__module__} if inspect.isfunction(own) else set()  # None of what was run from a text
    found: frozenset[Any] = frozenset()
    for name in filter(_is_users, near):
        memos, others = _in_file(name, len(vars(sys.modules[name])))
        found = found.union(memos, *(_in_file(each, len(vars(sys.modules[each])))[0] for each in others - near))
    return found


@functools.cache
def _in_file(name: str, size: int) -> tuple[frozenset[Any], frozenset[str]]:
    """The memos in a Python module, and the modules that it has functions and classes of; anew if it has grown."""
    memos: set[Any] = set()
    others: set[str] = set()
    for value in [*vars(sys.modules[name]).values()]:
        origin = getattr(value, "__module__", None)
        if isinstance(value, (FunctionType, type, _Memo)) and isinstance(origin, str) and _is_users(origin):
            others.add(origin)
        inside = [*vars(value).values()] if isinstance(value, type) and origin == name else []
        memos.update(memo for each in (value, *inside) for memo in _behind(each))
    return frozenset(memos), frozenset(others)


def _behind(value: Any) -> Iterator[Any]:
    """A function's memo: itself, or one that it is wrapped around."""
    value = getattr(value, "__func__", value)  # of a class method
    if isinstance(value, _Memo):
        yield value
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # nothing yet
                continue
            if isinstance(held, _Memo):
                yield held


def _is_users(name: str | None) -> bool:
    return name is not None and name.partition(".")[0] not in _OTHERS and isinstance(sys.modules.get(name), ModuleType)


def _forget(memos: Collection[Any]) -> None:
    for memo in memos:
        if memo.cache_info().currsize and any(map(torch.is_tensor, tree_leaves(_remembered(memo)))):
            memo.cache_clear()


def _remembered(memo: Any) -> list[Any]:
    """The results that a memo holds: a bounded one by itself, another one in a dict."""
    held = gc.get_referents(memo)
    return [*held, *(result for each in held if isinstance(each, dict) for result in each.values())]
