"""Build the parts of a model from a configuration: each flag selects a part or wraps one."""

from __future__ import annotations

from torch import nn

from graphflops.models.birman_schwinger import BirmanSchwingerCore
from graphflops.models.bk_core import BKCore
from graphflops.models.configuration import ResNetBKConfig
from graphflops.models.koopman import Koopman, KoopmanLayer
from graphflops.models.layers import ResNetBKBlock, ResNetBKLayer, ScatteringLayer
from graphflops.models.moe import Experts, SparseMoE
from graphflops.models.multi_scale import AtScale
from graphflops.models.physics import Energy, EnergyConserving
from graphflops.models.precision import CastLinear, InBfloat16, LinearFactory
from graphflops.models.quantization import quantized
from graphflops.models.scattering import ScatteringMoE, ScatteringRouter
from graphflops.models.sparsity import SparseCore


def linear_factory(config: ResNetBKConfig) -> LinearFactory:
    """The class of the linear layers."""
    return CastLinear if config.use_mixed_precision else nn.Linear


def large_linear_factory(config: ResNetBKConfig) -> LinearFactory:
    """The class of the large linear layers: experts and head."""
    return quantized(config.quantization_bits) if config.use_quantization else linear_factory(config)


def make_core(config: ResNetBKConfig, n_seq: int) -> nn.Module:
    """The core, from potentials at n_seq sites to features."""
    if config.use_learned_sparsity:
        return SparseCore(lambda kept: _dense_core(config, kept), n_seq, config.sparsity_share)
    return _dense_core(config, n_seq)


def _dense_core(config: ResNetBKConfig, n_seq: int) -> nn.Module:
    shorter = config.use_curriculum_learning
    if config.use_birman_schwinger:
        return BirmanSchwingerCore(n_seq, config.epsilon, grad_blend=config.grad_blend, allow_shorter=shorter)
    return BKCore(
        n_seq,
        use_analytic_gradient=config.use_analytic_gradient,
        grad_blend=config.grad_blend,
        use_custom_kernel=config.use_custom_kernels,
        allow_shorter=shorter,
    )


def make_resnet_bk_layer(config: ResNetBKConfig, n_seq: int) -> ResNetBKLayer:
    """A layer for sequences of n_seq tokens: mixture of experts, core, and projections."""
    d, experts, wide, narrow = config.d_model, config.experts_left, large_linear_factory(config), linear_factory(config)
    core = make_core(config, n_seq)
    if config.use_scattering_router:
        mixture = ScatteringMoE(
            Experts(d, experts, config.dropout, linear=wide), ScatteringRouter(experts, config.top_k)
        )
        return ScatteringLayer(d, mixture, core, linear=narrow)
    moe = SparseMoE(d, experts, config.top_k, config.dropout, linear=wide, gate=narrow)
    return ResNetBKLayer(d, moe, core, linear=narrow)


def make_layer(config: ResNetBKConfig, scale: int) -> nn.Module:
    """The layer inside a block's residual connection, with its wrappers."""
    d, narrow = config.d_model, linear_factory(config)
    layer: nn.Module = make_resnet_bk_layer(config, config.n_seq // scale)
    if config.use_koopman:
        layer = KoopmanLayer(layer, Koopman(d, config.koopman_dim, linear=narrow))
    if scale > 1:
        layer = AtScale(layer, scale, d, linear=narrow)
    if config.use_mixed_precision:
        layer = InBfloat16(layer)
    if config.use_physics_informed:
        layer = EnergyConserving(layer, Energy(d))
    return layer


def make_blocks(config: ResNetBKConfig) -> nn.ModuleList:
    """The blocks, in execution order."""
    return nn.ModuleList(ResNetBKBlock(config.d_model, make_layer(config, scale)) for scale in config.scales)


def make_head(config: ResNetBKConfig) -> nn.Module:
    """The head, (…, D) to (…, V)."""
    head = large_linear_factory(config)(config.d_model, config.vocab_size)
    return InBfloat16(head) if config.use_mixed_precision else head
