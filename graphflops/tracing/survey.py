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
    def lazy(self) -> list[str]:
        """The names of the parameters and buffers that have no shape before the first call."""
        held = (self.parameters, self.buffers)
        return [name for tensors in held for name, each in tensors.items() if is_lazy(each)]


def survey_of(root: nn.Module) -> Survey:
    """Everything in a model."""
    found = Survey()
    seen: set[int] = set()
    _walk(root, "", found, seen)
    return found


def _walk(module: nn.Module, path: str, found: Survey, seen: set[int]) -> None:
    if id(module) in seen:
        found.shared.add(id(module))
        return
    seen.add(id(module))
    first = len(found.modules)
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
    for name, child in module._modules.items():
        if child is not None:
            _walk(child, prefix + name, found, seen)
    found.extents[id(module)] = first, len(found.modules)
