"""Find blocks of identical structure, as far as it can be seen before they run.

Blocks are identical if they and all their modules have the same classes, in the same places, in the same mode, without
hooks, and their parameters and buffers have the same shapes, strides, dtypes and ``requires_grad``. Other attributes,
such as the index of a layer, may differ: whether they matter is seen when a block runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from torch import nn

from graphflops.tracing.copies.module_tree import Survey
from graphflops.tracing.copies.object_state import object_dict
from graphflops.tracing.recording.backward_hooks import has_hooks

_EMPTY = vars(nn.Module())
OF_TORCH = frozenset(_EMPTY)
"""the attributes that every module has"""
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)
"""immutable values, which are equal if they compare equal"""
_hooks_in = itemgetter(*(name for name, value in _EMPTY.items() if isinstance(value, dict) and "hooks" in name))

Structure: TypeAlias = "tuple[Any, ...]"
"""everything that is equal in identical blocks"""


@dataclass(eq=False, slots=True)
class Block:
    """A module that is identical to another one: its path, and all its modules in order, itself first."""

    path: str
    kind: str
    """the path of the first block that it is identical to"""
    modules: Sequence[nn.Module]
    shadowing: Sequence[frozenset[str]]
    """for each module, the attributes that its class has as well"""

    @property
    def head(self) -> nn.Module:
        """Return the block as a module."""
        return self.modules[0]


def identical_blocks(survey: Survey, is_leaf: Callable[[nn.Module], bool]) -> list[Block]:
    """Return the outermost blocks of a model that are identical to another one beside them, in order.

    Nothing in them is held in more than one place.
    """
    blocks: list[Block] = []
    structures, classes = _structures(survey), _Classes()
    waiting = [("", survey.modules[""])]
    while waiting:
        path, parent = waiting.pop()
        of_class: dict[type, list[tuple[str, nn.Module]]] = {}
        for name, child in parent._modules.items():
            # folding a single operation gains nothing
            if child is None or (not child._modules and type(child).__module__.startswith("torch.")):
                continue
            below = f"{path}.{name}" if path else name
            if survey.modules.get(below) is child:  # else it is visited under another name
                of_class.setdefault(type(child), []).append((below, child))
        alone: list[tuple[str, nn.Module]] = []
        for children in of_class.values():
            if is_leaf(children[0][1]):
                continue
            groups, single = (
                _group_by_structure(children, survey, structures, classes) if len(children) > 1 else ([], children)
            )
            for group in groups:
                blocks += group
            alone += single
        waiting += reversed(alone)
    return blocks


def _group_by_structure(
    children: list[tuple[str, nn.Module]], survey: Survey, structures: Mapping[int, int], classes: _Classes
) -> tuple[list[list[Block]], list[tuple[str, nn.Module]]]:
    """Return groups of identical modules, and the modules without an identical one."""
    groups: dict[int, list[tuple[str, nn.Module]]] = {}
    single: list[tuple[str, nn.Module]] = []
    for path, child in children:
        structure = structures.get(id(child))
        (single if structure is None else groups.setdefault(structure, [])).append((path, child))
    single += [group[0] for group in groups.values() if len(group) == 1]
    return [_blocks(group, survey, classes) for group in groups.values() if len(group) > 1], single


def _blocks(group: list[tuple[str, nn.Module]], survey: Survey, classes: _Classes) -> list[Block]:
    """Return identical modules as blocks, but for those that are not plain."""
    kind, first = group[0]
    shadowing = [
        classes.attributes_of(type(module)).intersection(vars(module)) - OF_TORCH for module in survey.below(first)[1]
    ]
    blocks = (Block(path, kind, survey.below(child)[1], shadowing) for path, child in group)
    return list(filter(_is_plain, blocks))


def _structures(survey: Survey) -> dict[int, int]:
    """Return id of a module → a number that identical modules share, for modules that can be compared.

    Submodules get their numbers first, so that each is visited once, however deep it is.
    """
    classes = _Classes()
    numbers: dict[Structure, int] = {}
    structures: dict[int, int] = {}
    for module in reversed(survey.modules.values()):
        structure = _structure(module, structures, survey.shared, classes)
        if structure is not None:
            structures[id(module)] = numbers.setdefault(structure, len(numbers))
    return structures


def _structure(module: nn.Module, inside: Mapping[int, int], shared: Set[int], classes: _Classes) -> Structure | None:
    """Return everything that has to be equal in an identical module, its submodules by their numbers.

    None if the module cannot be compared: something of it is held elsewhere too, it has hooks, or its class looks up
    attributes by its own code.
    """
    attributes = vars(module)
    if classes.has_own_lookup(type(module)) or not attributes.keys() >= OF_TORCH:
        return None
    if any(_hooks_in(attributes)) or "forward" in attributes:
        return None
    children = attributes["_modules"].values()
    numbers = tuple(None if child is None else inside.get(id(child), -1) for child in children)
    tensors = (*attributes["_parameters"].values(), *attributes["_buffers"].values())
    if -1 in numbers or (shared and not shared.isdisjoint(map(id, (module, *children, *tensors)))):
        return None
    return (
        type(module),
        bool(attributes["training"]),
        tuple(attributes),
        tuple(attributes["_modules"]),
        numbers,
        tuple(attributes["_parameters"]),
        tuple(attributes["_buffers"]),
        tuple(map(_spec, tensors)),
    )


def _spec(tensor: torch.Tensor | None) -> Any:
    """Return what has to be equal of a parameter or buffer; an unusual one is equal to none."""
    if tensor is None:
        return None
    attributes = (
        object_dict(tensor) if type(tensor) in (torch.Tensor, nn.Parameter) else {}
    )  # others: the class has them
    is_plain = all(type(value) in PLAIN for value in attributes.values())
    if tensor.layout is not torch.strided or not tensor.is_leaf or has_hooks(tensor) or not is_plain:
        return id(tensor)
    return type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad, (*attributes.items(),)


def _is_plain(block: Block) -> bool:
    """Whether attributes that shadow one of the class are immutable."""
    pairs = zip(block.modules, block.shadowing, strict=True)
    return all(isinstance(vars(module)[name], PLAIN) for module, names in pairs for name in names)


class _Classes:
    """The classes of one model, each inspected once. It lives as long as the analysis: it keeps no class alive."""

    def __init__(self) -> None:
        self._attributes: dict[type, frozenset[str]] = {}
        self._own_lookup: dict[type, bool] = {}

    def attributes_of(self, cls: type) -> frozenset[str]:
        """Return the names that a class has."""
        if cls not in self._attributes:
            self._attributes[cls] = frozenset(dir(cls))
        return self._attributes[cls]

    def has_own_lookup(self, cls: Any) -> bool:
        """Whether a class looks up attributes by its own code."""
        if cls not in self._own_lookup:
            self._own_lookup[cls] = (
                cls.__getattr__ is not nn.Module.__getattr__
                or cls.__getattribute__ is not object.__getattribute__
                or issubclass(cls, torch.jit.ScriptModule)
            )
        return self._own_lookup[cls]
