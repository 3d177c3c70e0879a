"""Blocks of equal structure: which modules may stand for each other, as far as can be seen before they run.

Blocks are alike if they are of one class and so are all modules in them, in the same places, in the same mode, without
hooks, and their parameters and buffers have the same shapes, strides, dtypes and ``requires_grad``. What else their
modules hold, such as the number of a layer, may differ: whether that matters is seen when one of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from torch import nn

from graphflops.capture.backward_hooks import has_hooks
from graphflops.capture.module_tree import Survey

_EMPTY = vars(nn.Module())
OF_TORCH = frozenset(_EMPTY)
"""the attributes that every module has"""
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)
"""kinds of values that are what they look like"""
_hooks_in = itemgetter(*(name for name, value in _EMPTY.items() if isinstance(value, dict) and "hooks" in name))

Structure: TypeAlias = "tuple[Any, ...]"
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


def identical_blocks(survey: Survey, is_leaf: Callable[[nn.Module], bool]) -> list[Block]:
    """The outermost blocks of a model that are alike another one beside them, in order.

    Nothing in them is held in more than one place.
    """
    found: list[Block] = []
    structures, classes = _structures(survey), _Classes()
    waiting = [("", survey.modules[""])]
    while waiting:
        path, parent = waiting.pop()
        of_class: dict[type, list[tuple[str, nn.Module]]] = {}
        for name, child in parent._modules.items():
            # of a single operation nothing is gained
            if child is None or (not child._modules and type(child).__module__.startswith("torch.")):
                continue
            below = f"{path}.{name}" if path else name
            if survey.modules.get(below) is child:  # else it has another name, and is looked at under that
                of_class.setdefault(type(child), []).append((below, child))
        alone: list[tuple[str, nn.Module]] = []
        for children in of_class.values():
            if is_leaf(children[0][1]):
                continue
            groups, others = _grouped(children, survey, structures, classes) if len(children) > 1 else ([], children)
            for group in groups:
                found += group
            alone += others
        waiting += reversed(alone)
    return found


def _grouped(
    children: list[tuple[str, nn.Module]], survey: Survey, structures: Mapping[int, int], classes: _Classes
) -> tuple[list[list[Block]], list[tuple[str, nn.Module]]]:
    """Those that are alike, and the others."""
    groups: dict[int, list[tuple[str, nn.Module]]] = {}
    others: list[tuple[str, nn.Module]] = []
    for path, child in children:
        structure = structures.get(id(child))
        (others if structure is None else groups.setdefault(structure, [])).append((path, child))
    others += [group[0] for group in groups.values() if len(group) == 1]
    return [_blocks(group, survey, classes) for group in groups.values() if len(group) > 1], others


def _blocks(group: list[tuple[str, nn.Module]], survey: Survey, classes: _Classes) -> list[Block]:
    """What is alike, as blocks, but for those that are not plain."""
    kind, first = group[0]
    own = ((module, vars(module)) for module in survey.below(first)[1])
    shadowing = [classes.attributes_of(type(module)).intersection(held) - OF_TORCH for module, held in own]
    blocks = (Block(path, kind, survey.below(child)[1], shadowing) for path, child in group)
    return list(filter(_is_plain, blocks))


def _structures(survey: Survey) -> dict[int, int]:
    """id of a module → a number that is the same for all that are alike, for those that are what their parts say.

    Those in a module have their numbers before it, so that each is looked at once, however deep it is.
    """
    classes = _Classes()
    numbers: dict[Structure, int] = {}
    found: dict[int, int] = {}
    for module in reversed(survey.modules.values()):
        structure = _structure(module, found, survey.shared, classes)
        if structure is not None:
            found[id(module)] = numbers.setdefault(structure, len(numbers))
    return found


def _structure(module: nn.Module, inside: Mapping[int, int], shared: Set[int], classes: _Classes) -> Structure | None:
    """What a module is made of, those in it by their numbers; None if it is not what that says.

    So it is if it, or what is in it, is held elsewhere too, has hooks, or looks up its attributes in a way of its own.
    """
    held = vars(module)
    if classes.look_up_otherwise(type(module)) or not held.keys() >= OF_TORCH:
        return None
    if any(_hooks_in(held)) or "forward" in held:
        return None
    children = held["_modules"].values()
    numbers = tuple(None if each is None else inside.get(id(each), -1) for each in children)
    tensors = (*held["_parameters"].values(), *held["_buffers"].values())
    if -1 in numbers or (shared and not shared.isdisjoint(map(id, (module, *children, *tensors)))):
        return None
    return (
        type(module),
        bool(held["training"]),
        tuple(held),
        tuple(held["_modules"]),
        numbers,
        tuple(held["_parameters"]),
        tuple(held["_buffers"]),
        tuple(map(_spec, tensors)),
    )


def _spec(tensor: torch.Tensor | None) -> Any:
    """What has to be equal of a parameter or buffer; of an unusual one, nothing is."""
    if tensor is None:
        return None
    if tensor.layout is not torch.strided or not tensor.is_leaf or has_hooks(tensor):
        return id(tensor)
    return type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad


def _is_plain(block: Block) -> bool:
    """Whether what stands before an attribute of a class is immutable."""
    pairs = zip(block.modules, block.shadowing, strict=True)
    return all(isinstance(vars(module)[name], PLAIN) for module, names in pairs for name in names)


class _Classes:
    """The classes of one model, each asked once. It is of the analysis: nothing keeps a class alive after that."""

    def __init__(self) -> None:
        self._attributes: dict[type, frozenset[str]] = {}
        self._otherwise: dict[type, bool] = {}

    def attributes_of(self, cls: type) -> frozenset[str]:
        """The names that a class has."""
        if cls not in self._attributes:
            self._attributes[cls] = frozenset(dir(cls))
        return self._attributes[cls]

    def look_up_otherwise(self, cls: Any) -> bool:
        """Whether a class finds its attributes in a way of its own."""
        if cls not in self._otherwise:
            self._otherwise[cls] = (
                cls.__getattr__ is not nn.Module.__getattr__
                or cls.__getattribute__ is not object.__getattribute__
                or issubclass(cls, torch.jit.ScriptModule)
            )
        return self._otherwise[cls]
