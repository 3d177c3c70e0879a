"""What functions of a model remember (``functools.lru_cache``): of tensors nothing, before and after a trace.

A tensor that was remembered before would not be counted when it is made; one without data that was remembered during a
trace would be handed to whoever runs the model next. What else is remembered stays.
"""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

_Memo = functools._lru_cache_wrapper
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
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


def memos_of(root: nn.Module, classes: Collection[type]) -> frozenset[Any]:
    """What remembers among the functions of the files that a model's classes stand in, and that these import from."""
    near = {each.__module__ for cls in classes for each in cls.__mro__}
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
        info = memo.cache_info()
        if info.currsize and _WITHOUT.get(memo) == info:
            continue
        _WITHOUT.pop(memo, None)  # emptied, it counts from the start again
        if info.currsize and _holds_a_tensor(memo):
            memo.cache_clear()
        elif info.currsize:
            _WITHOUT[memo] = info


_WITHOUT: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""memos that held no tensor, when they had been asked so often"""


def _holds_a_tensor(memo: Any) -> bool:
    """Whether there is a tensor among its arguments or results, in whatever containers; some hold tens of thousands."""
    seen: set[int] = set()
    held = gc.get_referents(memo)
    while held:
        kinds = set(map(type, held))
        if any(issubclass(each, torch.Tensor) for each in kinds):
            return True
        containers = {each for each in kinds if issubclass(each, _CONTAINERS)}
        fresh = [each for each in held if type(each) in containers and id(each) not in seen]
        seen.update(map(id, fresh))
        held = gc.get_referents(*fresh)
    return False
