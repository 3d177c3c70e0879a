"""Example calls of the rules for these models, for ``graphflops rules check``."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

import graphflops.models.bk_core  # registers its operators
import graphflops.models.losses
import graphflops.models.mamba
import graphflops.models.quantization  # noqa: F401
from graphflops.models.moe import Experts, SparseMoE
from graphflops.models.scattering import ScatteringMoE, ScatteringRouter

Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""arguments and keyword arguments; the first argument is the module, if the rule is for a module class"""


def bk_core() -> Call:
    """A call of ``graphflops::bk_core`` on two sequences."""
    diagonal, band = torch.zeros(2, 9, requires_grad=True), torch.ones(8)
    return (diagonal, band, band, 0.0, 1.0, 0.5), {}


def bk_core_function() -> Call:
    """A call of an autograd.Function of the name and the signature of ResNet-BK's."""

    class BKCoreFunction(torch.autograd.Function):
        """ResNet-BK's, for a diagonal matrix."""

        @staticmethod
        def forward(ctx: Any, he_diag: Any, h0_super: Any, h0_sub: Any, z: complex) -> Any:
            return (1 / (he_diag - z)).real

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return -grad, None, None, None

    return (BKCoreFunction.apply, torch.zeros(2, 9, requires_grad=True), *torch.ones(2, 2, 8), 1j), {}


def birman_schwinger() -> Call:
    """A call of ``graphflops::birman_schwinger`` on two potentials."""
    return (torch.zeros(2, 9, requires_grad=True), 1.0, 0.5), {}


def sparse_moe() -> Call:
    """A call of a mixture of four experts, of which each token visits two."""
    return (SparseMoE(8, num_experts=4, top_k=2), torch.zeros(2, 6, 8, requires_grad=True)), {}


def experts() -> Call:
    """A call of experts behind a scattering router."""
    tokens, features = torch.zeros(2, 6, 8, requires_grad=True), torch.zeros(2, 6, 2, requires_grad=True)
    return (ScatteringMoE(Experts(8, 4), ScatteringRouter(4, top_k=2)), tokens, features), {}


def quantized_linear() -> Call:
    """A call of ``graphflops::quantized_linear`` with 8 bits."""
    return (torch.zeros(4, 8, requires_grad=True), torch.zeros(6, 8, requires_grad=True), 8), {}


def selective_scan() -> Call:
    """A call of the selective scan: batch 2, length 5, width 3, state 4."""
    shapes = ((2, 5, 3), (2, 5, 3), (3, 4), (2, 5, 4), (2, 5, 4), (3,))
    return tuple(torch.zeros(shape, requires_grad=True) for shape in shapes), {}


def with_loss() -> Call:
    """A call of ``WithLoss``."""
    return (torch.zeros(4, 8, requires_grad=True), torch.zeros((), requires_grad=True)), {}
