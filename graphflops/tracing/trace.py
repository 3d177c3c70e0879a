"""Trace: the result of a capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import fx

from graphflops.core.sizes import Spec


@dataclass(frozen=True)
class Trace:
    """The result of a capture: the calls as an fx graph, each node with its ``NodeRecord``, and facts of the model."""

    graph: fx.Graph
    modules: Mapping[str, str]
    """module path → class name, of every module"""
    called: frozenset[str]
    """paths of the modules that ran"""
    name: str
    inputs: Mapping[str, Spec] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    """name → number of elements, of every parameter of the model, whether it is used or not"""
    held: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name → the user's own parameter, which is only looked at"""
    constants: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name → the user's own tensor, of the buffers and other tensors that were read"""
    trainable: frozenset[str] = frozenset()
    """names of the parameters that require grad"""
    capture: tuple[str, ...] = ()
    """how the graph came about: of a given one, or of a run on fake tensors; and what of it was described, not run"""
    assumed: tuple[str, ...] = ()
    """what was taken as given where data decides, each with the user's source line"""
    routed: Mapping[str, Fraction] = field(default_factory=dict)
    """path of each module whose rows data chooses → the share of them that was taken to reach it"""
    untrained: str = ""
    """that nothing which is returned requires grad, although there are parameters that do"""
    warnings: tuple[str, ...] = ()
    """what may run beside what is in the graph"""
    is_step: bool = False
    """whether the program goes back, or has an optimizer step, by itself: each node's ``meta["phase"]`` says which"""
    stepped: tuple[str, ...] = ()
    """the names of the optimizers that it has step"""
    reached: frozenset[int] = frozenset()
    """the checkpointed regions, run with reentrance, that its own backward passes come to"""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """module path → the module's attributes that are numbers"""
