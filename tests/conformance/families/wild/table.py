"""The table of the wild: who makes which model, and the small tensors that models are called with."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from zoo import Case, Entry

ENTRIES: list[Entry] = []
"""the entries, in the order of their makers in the files"""

Maker = Callable[[], Case]


def wild(package: str, about: str, refused: str = "") -> Callable[[Maker], Maker]:
    """Add a maker's model to the table. ``package`` is its name on PyPI; ``refused`` says why there is no number."""

    def add(make: Maker) -> Maker:
        ENTRIES.append(Entry("wild", f"{package}: {about}", lambda: _made(make), refused=refused, package=package))
        return make

    return add


def _made(make: Maker) -> Case:
    """The maker's model with the same random values each time; nothing is put on the meta device."""
    torch.manual_seed(0)
    random.seed(0)
    return make()


def image(*shape: int) -> torch.Tensor:
    """Real numbers between 0 and 1."""
    return torch.rand(shape)


def signal(*shape: int) -> torch.Tensor:
    """Real numbers of a normal distribution."""
    return torch.randn(shape)


def tokens(*shape: int, vocab_size: int = 100) -> torch.Tensor:
    """Whole numbers below ``of``."""
    return torch.randint(0, vocab_size, shape)
