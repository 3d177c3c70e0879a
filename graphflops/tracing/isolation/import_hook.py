"""Imports of a traced program: the imported module runs untraced, so that its constants are no fake tensors."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from graphflops.core.torch_compat import DisableTorchFunction, no_dispatch_modes
from graphflops.tracing.session.session import is_tracing, not_tracing

_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "graphflops"})


class UntracedImports:
    """A finder of ``sys.meta_path`` whose loaders run a module untraced."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that another finder returns, with a loader that runs the module untraced."""
        if not is_tracing() or name.partition(".")[0] in _LIBRARIES:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if finder is not self and find is not None else None
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _UntracedLoader(spec.loader)
                return spec
        return None


class _UntracedLoader:
    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        with _untraced():
            self.loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


@contextmanager
def _untraced() -> Iterator[None]:
    """Nothing is traced in this thread while this is open."""
    with not_tracing(), no_dispatch_modes(), DisableTorchFunction(), torch.enable_grad():
        yield
