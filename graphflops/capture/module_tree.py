"""What a model is made of, found in one walk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


@dataclass(frozen=True)
class Survey:
    """A model's modules, parameters and buffers, each by the first of its names, as PyTorch orders and names them."""

    modules: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    """ids of the modules and tensors that are held in more than one place"""
    extents: dict[int, tuple[int, int]] = field(default_factory=dict)
    """id of a module → where it and those in it stand among the modules: from, and up to"""

    def below(self, module: nn.Module) -> tuple[Sequence[str], Sequence[nn.Module]]:
        """A module and all in it, in order: paths, and modules."""
        extent = slice(*self.extents[id(module)])
        return self._paths[extent], self._modules[extent]

    @cached_property
    def _paths(self) -> Sequence[str]:
        return tuple(self.modules)

    @cached_property
    def _modules(self) -> Sequence[nn.Module]:
        return tuple(self.modules.values())

    @property
    def classes(self) -> set[type]:
        """The classes of the modules."""
        return set(map(type, self.modules.values()))

    @property
    def depth(self) -> int:
        """How many levels of modules there are, one in the other."""
        return 1 + max(path.count(".") + 1 if path else 0 for path in self.modules)

    @property
    def lazy(self) -> list[str]:
        """The names of the parameters and buffers that have no shape before the first call."""
        held = (self.parameters, self.buffers)
        return [name for tensors in held for name, each in tensors.items() if is_lazy(each)]


def survey_model(root: nn.Module) -> Survey:
    """Everything in a model, however deep: what holds itself, or what it is in, is there once."""
    found = Survey()
    seen: set[int] = set()
    _enter(root, "", found, seen)
    open_modules = [(root, "", iter([*root._modules.items()]))]
    while open_modules:
        module, prefix, children = open_modules[-1]
        for name, child in children:
            if child is None:
                continue
            if id(child) in seen:
                found.shared.add(id(child))
                continue
            _enter(child, prefix + name, found, seen)
            open_modules.append((child, f"{prefix}{name}.", iter([*child._modules.items()])))
            break
        else:
            open_modules.pop()
            found.extents[id(module)] = found.extents[id(module)][0], len(found.modules)
    return found


def _enter(module: nn.Module, path: str, found: Survey, seen: set[int]) -> None:
    """Write down a module, without those in it."""
    seen.add(id(module))
    found.extents[id(module)] = len(found.modules), len(found.modules)
    found.modules[path] = module
    prefix = f"{path}." if path else ""
    tensors: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        (module._parameters, found.parameters),
        (module._buffers, found.buffers),
    )
    for held, names in tensors:
        for name, tensor in held.items():
            if tensor is None:
                continue
            if id(tensor) in seen:
                found.shared.add(id(tensor))
            else:
                seen.add(id(tensor))
                names[prefix + name] = tensor
