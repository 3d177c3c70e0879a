"""Records of a block that repeats another one in the graph that capture writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphflops.core.renaming import Renaming


@dataclass(frozen=True)
class Output:
    """A value that is one of a block's outputs."""

    place: int


@dataclass(eq=False)
class Body:
    """What a pattern put into the graph."""

    nodes: tuple[fx.Node, ...]
    inputs: Sequence[fx.Node | None]
    """the nodes of the tensors that it was called with; None of one that nobody read before"""
    outputs: Sequence[Any]
    """the leaves of what it returned, tensors as nodes, then the nodes of what it wrote to objects that it shares"""
    structure: Any
    writes: Sequence[tuple[int, Any, Any]]
    """what it wrote to these: which part of them, the key and the value, a tensor as an `Output`"""
    constants: int
    """how many constants it made"""
    called: frozenset[str]
    """paths of the modules that ran"""
    kinds: Mapping[str, tuple[int, int]]
    """kind of a call → its first number, and how many there are"""
    looked_at: Sequence[tuple[torch.Tensor, int]]
    """tensors from outside whose values it asked for, each at which version"""
    pinned: Sequence[tuple[int, torch.Tensor]]
    """which of its inputs were among them"""
    line: str | None
    """the user's line that called it, if something in it is written down under that line"""


@dataclass(frozen=True)
class Repeat:
    """A node that stands for a whole block: the block that it repeats, the renaming, and its own inputs."""

    body: Body
    renaming: Renaming
    inputs: Sequence[fx.Node | None]
