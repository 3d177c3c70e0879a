"""Blocks of equal structure: which modules may stand for each other, as far as can be seen before they run.

Blocks are alike if they are of one class and so are all modules in them, in the same places, in the same mode, without
hooks, and their parameters and buffers have the same shapes, strides, dtypes and ``requires_grad``. What else their
modules hold, such as the number of a layer, may differ: whether that matters is seen when one of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from torch import nn

from graphflops.tracing.backward_hooks import has_hooks
from graphflops.tracing.survey import Survey

_EMPTY = vars(nn.Module())
OF_TORCH = frozenset(_EMPTY)
"""the attributes that every module has"""
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)
"""kinds of values that are what they look like"""
_hooks_in = itemgetter(*(name for name, value in _EMPTY.items() if isinstance(value, dict) and "hooks" in name))

Structure: TypeAlias = "tuple[list[Any], ...]"
"""what has to be equal in blocks that are alike"""


@dataclass(eq=False, slots=True)
class Block:
    """A module that is alike another one: its path, and all its modules in order, itself first."""

    path: str
    kind: str
    """the path of the first block that it is alike"""
    modules: Sequence[nn.Module]
    shadowing: Sequence[frozenset[str]]
    """of each module, the attributes that its class has as well"""

    @property
    def head(self) -> nn.Module:
        """The block as a module."""
        return self.modules[0]


def alike_blocks(survey: Survey, is_leaf: Callable[[nn.Module], bool]) -> list[Block]:
    """The outermost blocks of a model that are alike another one beside them, in order.

    Nothing in them is held in more than one place.
    """
    found: list[Block] = []
    waiting = [("", survey.modules[""])]
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
            groups, others = _grouped(children, survey) if len(children) > 1 else ([], children)
            for group in groups:
                found += group
            alone += others
        waiting += reversed(alone)
    return found


def _grouped(
    children: list[tuple[str, nn.Module]], survey: Survey
) -> tuple[list[list[Block]], list[tuple[str, nn.Module]]]:
    """Those that are alike, and the others."""
    groups: list[tuple[Structure, list[Block]]] = []
    others: list[tuple[str, nn.Module]] = []
    for path, child in children:
        names, modules = survey.below(child)
        structure = _structure(path, names, modules, survey.shared)
        if structure is None:
            others.append((path, child))
            continue
        for like, group in groups:
            if like == structure:
                group.append(Block(path, group[0].kind, modules, group[0].shadowing))
                break
        else:
            shadowing = [_of_class(_class(each)).intersection(vars(each)) - OF_TORCH for each in modules]
            groups.append((structure, [Block(path, path, modules, shadowing)]))
    others += [(group[0].path, group[0].head) for _, group in groups if len(group) == 1]
    return [list(filter(_is_plain, group)) for _, group in groups if len(group) > 1], others


def _structure(path: str, names: Sequence[str], modules: Sequence[nn.Module], shared: Set[int]) -> Structure | None:
    """What a block is made of; None if it is not what that says.

    So it is if something in it is held elsewhere too, has hooks, or looks up its attributes in a way of its own.
    """
    kinds, held = list(map(type, modules)), list(map(vars, modules))
    parameters, buffers = [each["_parameters"] for each in held], [each["_buffers"] for each in held]
    tensors = [each for values in (*parameters, *buffers) for each in values.values()]
    if any(map(_looks_up_otherwise, {*kinds})) or any(chain.from_iterable(map(_hooks_in, held))):
        return None
    if any("forward" in each for each in held):
        return None
    if shared and not shared.isdisjoint(map(id, (*modules, *tensors))):
        return None
    return (
        kinds,
        [name[len(path) :] for name in names],
        [each["training"] for each in held],
        list(map(tuple, held)),
        [tuple(each["_modules"]) for each in held],
        list(map(tuple, parameters)),
        list(map(tuple, buffers)),
        list(map(_spec, tensors)),
    )


def _spec(tensor: torch.Tensor | None) -> Any:
    """What has to be equal of a parameter or buffer; of an unusual one, nothing is."""
    if tensor is None:
        return None
    if tensor.layout is not torch.strided or not tensor.is_leaf or has_hooks(tensor):
        return id(tensor)
    return type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad


def _class(module: nn.Module) -> Hashable:
    cls: Any = type(module)
    return cls  # type: ignore[no-any-return]


def _is_plain(block: Block) -> bool:
    """Whether what stands before an attribute of a class is immutable."""
    pairs = zip(block.modules, block.shadowing, strict=True)
    return all(isinstance(vars(module)[name], PLAIN) for module, names in pairs for name in names)


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
