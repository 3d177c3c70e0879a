"""Blocks of equal structure: which modules may stand for each other, as far as can be seen before they run.

Blocks are alike if they are of one class and so are all modules in them, in the same places, in the same mode, without
hooks, and their parameters and buffers have the same shapes, strides, dtypes and ``requires_grad``. What else their
modules hold, such as the number of a layer, may differ: whether that matters is seen when one of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Set
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Any

import torch
from torch import nn

_EMPTY = vars(nn.Module())
OF_TORCH = frozenset(_EMPTY)
"""the attributes that every module has"""
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)
"""kinds of values that are what they look like"""
_hooks_in = itemgetter(*(name for name, value in _EMPTY.items() if isinstance(value, dict) and "hooks" in name))


@dataclass(eq=False, slots=True)
class Block:
    """A module that is alike another one: its path, and all its modules in order, itself first."""

    path: str
    kind: str
    """the path of the first block that it is alike"""
    modules: list[nn.Module]
    paths: list[str]
    """the paths of the modules, below that of the block: ``""``, ``.attention``, …"""
    shadowing: list[frozenset[str]]
    """of each module, the attributes that its class has as well"""

    @property
    def head(self) -> nn.Module:
        """The block as a module."""
        return self.modules[0]


def alike_blocks(root: nn.Module, shared: Set[int], is_leaf: Callable[[nn.Module], bool]) -> list[Block]:
    """The outermost blocks of a model that are alike another one beside them, in order.

    ``shared`` are the ids of what is held in more than one place, which no block may have.
    """
    found: list[Block] = []
    waiting = [("", root)]
    while waiting:
        path, parent = waiting.pop()
        of_class: dict[type, list[tuple[str, nn.Module]]] = {}
        for name, child in parent._modules.items():
            # of a single operation nothing is gained
            if child is not None and (child._modules or not type(child).__module__.startswith("torch.")):
                of_class.setdefault(type(child), []).append((f"{path}.{name}" if path else name, child))
        alone: list[tuple[str, nn.Module]] = []
        for children in of_class.values():
            if is_leaf(children[0][1]):
                continue
            groups, others = _grouped(children, shared) if len(children) > 1 else ([], children)
            for group in groups:
                found += group
            alone += others
        waiting += reversed(alone)
    return found


def _grouped(
    children: list[tuple[str, nn.Module]], shared: Set[int]
) -> tuple[list[list[Block]], list[tuple[str, nn.Module]]]:
    """Those that are alike, and the others."""
    groups: list[list[Block]] = []
    others: list[tuple[str, nn.Module]] = []
    for path, child in children:
        for group in groups:
            if modules := _alike(group[0].modules, child):
                group.append(Block(path, group[0].kind, modules, group[0].paths, group[0].shadowing))
                break
        else:
            members = list(_members(child))
            if id(child) in shared or any(_is_odd(each, shared) for _, each in members):
                others.append((path, child))
                continue
            paths, modules = [each for each, _ in members], [each for _, each in members]
            shadowing = [_of_class(_class(each)).intersection(vars(each)) - OF_TORCH for each in modules]
            groups.append([Block(path, path, modules, paths, shadowing)])
    others += [(group[0].path, group[0].head) for group in groups if len(group) == 1]
    usable = [[each for each in group if _is_plain(each, shared)] for group in groups if len(group) > 1]
    return usable, others


def _members(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _members(child, f"{path}.{name}")


def _alike(modules: list[nn.Module], head: nn.Module) -> list[nn.Module] | None:
    """The modules of a block in the order of those of another one, if they are alike."""
    found = [each for _, each in _members(head)]
    if len(found) != len(modules):
        return None
    return found if all(map(_same_structure, modules, found)) else None


def _same_structure(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = vars(one), vars(other)
    if type(one) is not type(other) or mine["training"] is not theirs["training"] or any(_hooks_in(theirs)):
        return False
    if mine.keys() != theirs.keys() or mine["_modules"].keys() != theirs["_modules"].keys():
        return False
    return _same_tensors(mine["_parameters"], theirs["_parameters"]) and _same_tensors(
        mine["_buffers"], theirs["_buffers"]
    )


def _same_tensors(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if mine.keys() != theirs.keys():
        return False
    return not mine or all(map(_same_spec, mine.values(), map(theirs.__getitem__, mine)))


def _same_spec(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return (
        type(one) is type(other)
        and one.shape == other.shape
        and one.dtype is other.dtype
        and one.requires_grad is other.requires_grad
        and one.layout is other.layout is torch.strided
        and one.stride() == other.stride()
        and one.is_leaf
        and other.is_leaf
    )


def _is_odd(module: nn.Module, shared: Set[int]) -> bool:
    """Whether it is not what its structure says: it has hooks, or its attributes are looked up in a way of its own."""
    return (
        _looks_up_otherwise(_class(module))
        or any(_hooks_in(vars(module)))
        or "forward" in vars(module)
        or _is_shared(module, shared)
    )


def _is_shared(module: nn.Module, shared: Set[int]) -> bool:
    if not shared:
        return False
    held = (*module._parameters.values(), *module._buffers.values(), *module._modules.values(), module)
    return any(id(each) in shared for each in held if each is not None)


def _class(module: nn.Module) -> Hashable:
    cls: Any = type(module)
    return cls  # type: ignore[no-any-return]


def _is_plain(block: Block, shared: Set[int]) -> bool:
    """Whether nothing in it is held elsewhere too, and what stands before an attribute of a class is immutable."""
    pairs = zip(block.modules, block.shadowing, strict=True)
    before = (vars(module)[name] for module, names in pairs for name in names)
    return all(isinstance(each, PLAIN) for each in before) and not any(
        _is_shared(module, shared) for module in block.modules
    )


@cache
def _of_class(cls: Hashable) -> frozenset[str]:
    return frozenset(dir(cls))


@cache
def _looks_up_otherwise(cls: Hashable) -> bool:
    own: Any = cls
    return (
        own.__getattr__ is not nn.Module.__getattr__
        or own.__getattribute__ is not object.__getattribute__
        or issubclass(own, torch.jit.ScriptModule)
    )
