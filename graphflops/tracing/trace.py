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
    output_shapes: Mapping[str, str] = field(default_factory=dict)
    """module path → dtypes and shapes of the result of its last call, as text"""
    training: bool = True
    """whether gradients were followed"""
    inputs: Mapping[str, Spec] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    """name → number of elements, of every parameter of the model, used or not"""
    trainable: frozenset[str] = frozenset()
    """names of the parameters that require grad"""
    parameter_tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name → the user's own parameter, which is only read"""
    constant_tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """name → the user's own tensor, for buffers and other tensors that were read"""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """module path → the module's attributes that are numbers, which rates may name; empty unless requested"""
    capture_notes: tuple[str, ...] = ()
    """the way to the graph: a given graph, or a run on fake tensors; and the calls that did not run"""
    assumptions: tuple[str, ...] = ()
    """assumptions where data decides, each with the user's source line"""
    routed_modules: Mapping[str, Fraction] = field(default_factory=dict)
    """path of each module whose rows data chooses → the share of them on which it was traced"""
    no_gradient: str = ""
    """a warning that no result requires grad, although there are parameters that do"""
    warnings: tuple[str, ...] = ()
    """work that may run beside the graph"""
    is_step: bool = False
    """whether the program runs backward or an optimizer by itself: each record's ``phase`` says where a call ran"""
    optimizers: tuple[str, ...] = ()
    """the names of the optimizers whose step it runs"""
    recomputed_regions: frozenset[int] = frozenset()
    """the reentrant checkpointed regions that its own backward passes recompute"""
