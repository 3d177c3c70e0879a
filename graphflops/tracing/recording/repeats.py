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
class TemplateGraph:
    """The nodes that a template put into the graph."""

    nodes: tuple[fx.Node, ...]
    inputs: Sequence[fx.Node | None]
    """the nodes of its input tensors; None for one that no call had read before"""
    outputs: Sequence[Any]
    """the leaves of its result, tensors as nodes, then the nodes of tensors that it wrote to shared objects"""
    structure: Any
    writes: Sequence[tuple[int, Any, Any]]
    """its writes to shared objects: number of the part, key and value, a tensor as an `Output`"""
    constants: int
    """how many constants it made"""
    called: Mapping[str, str]
    """path of each module that ran → shapes of its result"""
    kinds: Mapping[str, tuple[int, int]]
    """kind of a call → its first number, and how many there are"""
    value_reads: Sequence[tuple[torch.Tensor, int]]
    """tensors from outside whose values it read, and their versions"""
    pinned: Sequence[tuple[int, torch.Tensor]]
    """those of its inputs among these, by their places; a repeat has the same"""
    line: str | None
    """the user's line that called it, if a node in it has that line"""


@dataclass(frozen=True)
class Repeat:
    """A node that stands for a whole block: the template, the renaming, and the nodes of its own inputs."""

    template: TemplateGraph
    renaming: Renaming
    inputs: Sequence[fx.Node | None]
