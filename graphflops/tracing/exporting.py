"""torch.export, the last way to a graph: for a model whose Python goes another way when it is exported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.export import _trace

from graphflops.tracing.lending import left_as_it_was


def exported(root: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, grad: bool) -> fx.GraphModule | str:
    """What torch.export makes of a module, which runs on tensors without data there too; or in a line why nothing."""
    with left_as_it_was(root), _quietly(), torch.set_grad_enabled(grad):
        try:
            return torch.export.export(root, args, dict(kwargs), strict=False).module()
        except Exception as error:
            said = next(iter(str(error).strip().splitlines()), "")
            return f"{type(error).__name__}: {said}"


@contextmanager
def _quietly() -> Iterator[None]:
    """What torch.export logs and prints of a program that it gives up is of no use to who asked for a cost.

    It calls ``print``, which its module has from here on a name of its own for: that of Python for everybody but a
    thread that is in here.
    """
    vars(_trace).setdefault("print", _print)
    before, _here.is_quiet = getattr(_here, "is_quiet", False), True
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        _here.is_quiet = before


_here = threading.local()


def _print(*values: Any, **options: Any) -> None:
    if not getattr(_here, "is_quiet", False):
        print(*values, **options)
