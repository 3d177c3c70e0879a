"""The modules, parameters and buffers of a model, collected in one walk."""

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
    """The modules, parameters and buffers of a model, each by its first name, in PyTorch's order."""

    modules: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    """ids of the modules and tensors that have several names"""
    extents: dict[int, tuple[int, int]] = field(default_factory=dict)
    """id of a module → the range of its own index and those of its submodules among the modules"""

    def below(self, module: nn.Module) -> tuple[Sequence[str], Sequence[nn.Module]]:
        """The paths of a module and its submodules, and these modules, in order."""
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
        """The number of nested levels of modules."""
        return 1 + max(path.count(".") + 1 if path else 0 for path in self.modules)

    @property
    def lazy(self) -> list[str]:
        """The names of the parameters and buffers that have no shape before the first call."""
        named = (*self.parameters.items(), *self.buffers.items())
        return [name for name, tensor in named if is_lazy(tensor)]


def survey_model(root: nn.Module) -> Survey:
    """Collect the modules and tensors of a model, however deep, also if a module contains itself."""
    survey = Survey()
    visited: set[int] = set()
    _add(root, "", survey, visited)
    open_modules = [(root, "", iter([*root._modules.items()]))]
    while open_modules:
        module, prefix, children = open_modules[-1]
        for name, child in children:
            if child is None:
                continue
            if id(child) in visited:
                survey.shared.add(id(child))
                continue
            _add(child, prefix + name, survey, visited)
            open_modules.append((child, f"{prefix}{name}.", iter([*child._modules.items()])))
            break
        else:
            open_modules.pop()
            survey.extents[id(module)] = survey.extents[id(module)][0], len(survey.modules)
    return survey


def _add(module: nn.Module, path: str, survey: Survey, visited: set[int]) -> None:
    """Add a module, without its submodules."""
    visited.add(id(module))
    survey.extents[id(module)] = len(survey.modules), len(survey.modules)
    survey.modules[path] = module
    prefix = f"{path}." if path else ""
    tensors: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        (module._parameters, survey.parameters),
        (module._buffers, survey.buffers),
    )
    for own, collected in tensors:
        for name, tensor in own.items():
            if tensor is None:
                continue
            if id(tensor) in visited:
                survey.shared.add(id(tensor))
            else:
                visited.add(id(tensor))
                collected[prefix + name] = tensor
