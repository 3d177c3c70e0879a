"""The configuration of a ResNet-BK language model, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from graphflops.models.checks import (
    require_bits,
    require_bool,
    require_dropout,
    require_grad_blend,
    require_positive,
    require_share,
    require_size,
    require_top_k,
)


@dataclass
class ResNetBKConfig:
    """Sizes and options of a ResNet-BK language model.

    Fields may be assigned; a config is checked when it is constructed and when a model is built from it.

    Attributes:
        vocab_size: V, the number of distinct tokens, >= 1.
        d_model: D, the width of a token, >= 1.
        n_layers: number of blocks, >= 1.
        n_seq: N, the length of every sequence, >= 1.
        num_experts: E, experts per mixture, >= 1.
        top_k: experts per token, in 1..num_experts.
        dropout: probability of dropping a hidden unit of an expert, in [0, 1).
        use_analytic_gradient: the local gradient of BK-Core; if False, the full one through the recursions.
        grad_blend: share of the inverse-square rule in the analytic gradient, in [0, 1].
        use_koopman: a linear operator on lifted states learns to predict each layer, and replaces it in ``eval`` mode.
        koopman_dim: the width of the lifted states, >= 1.
        use_physics_informed: a loss term for the energy that a layer adds or removes.
        use_quantization: integer matrix products in the experts and the head.
        quantization_bits: their width, 8 or 4.
        use_pruning: experts are removed.
        prune_threshold: ``prune`` removes experts with a smaller share of the tokens, in (0, 1].
        pruned_experts: number of removed experts, >= 1; at least ``top_k`` must remain.
        use_distillation: a teacher, the same model without options, runs on the same tokens.
        use_mixed_precision: matrix products in bfloat16, with weights in float32.
        use_custom_kernels: BK-Core in single precision, as a separate kernel.
        use_gradient_checkpointing: blocks save only their inputs, and run again in the backward pass.
        use_adaptive_computation: sequences skip later blocks when a halting unit decides so.
        use_multi_scale: middle layers run at length N/2, the innermost at N/4.
        use_learned_sparsity: BK-Core on the sites that a predictor selects.
        sparsity_share: share of the sites that are selected, in (0, 1].
        use_curriculum_learning: the model also accepts sequences shorter than ``n_seq``.
        use_active_learning: steps use the candidates of a pool that the model is most uncertain about.
        use_gradient_caching: gradients are used for several steps.
        use_scattering_router: the phase of the resolvent selects the experts, without parameters.
        use_birman_schwinger: the resolvent from the Birman-Schwinger operator instead of BK-Core.
        epsilon: Im z of that resolvent, > 0.

    Raises:
        ValueError: as `validate`.
    """

    vocab_size: int = 30000
    d_model: int = 64
    n_layers: int = 4
    n_seq: int = 128
    num_experts: int = 4
    top_k: int = 1
    dropout: float = 0.1
    use_analytic_gradient: bool = True
    grad_blend: float = 0.5
    use_koopman: bool = False
    koopman_dim: int = 256
    use_physics_informed: bool = False
    use_quantization: bool = False
    quantization_bits: int = 8
    use_pruning: bool = False
    prune_threshold: float = 0.1
    pruned_experts: int = 1
    use_distillation: bool = False
    use_mixed_precision: bool = False
    use_custom_kernels: bool = False
    use_gradient_checkpointing: bool = False
    use_adaptive_computation: bool = False
    use_multi_scale: bool = False
    use_learned_sparsity: bool = False
    sparsity_share: float = 0.5
    use_curriculum_learning: bool = False
    use_active_learning: bool = False
    use_gradient_caching: bool = False
    use_scattering_router: bool = False
    use_birman_schwinger: bool = False
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ValueError if a field is invalid."""
        for name in ("vocab_size", "d_model", "n_layers", "n_seq", "num_experts", "koopman_dim", "pruned_experts"):
            require_size(name, getattr(self, name))
        require_top_k(self.top_k, self.num_experts)
        require_dropout(self.dropout)
        require_grad_blend(self.grad_blend)
        require_bits(self.quantization_bits)
        require_share("prune_threshold", self.prune_threshold)
        require_share("sparsity_share", self.sparsity_share)
        require_positive("epsilon", self.epsilon)
        for name in FLAGS:
            require_bool(name, getattr(self, name))
        self._validate_together()

    @property
    def experts_left(self) -> int:
        """Number of experts after pruning."""
        return self.num_experts - (self.pruned_experts if self.use_pruning else 0)

    @property
    def scales(self) -> tuple[int, ...]:
        """For each layer, the factor by which its sequence is shorter: 1 at both ends, then 2, and 4 in the middle."""
        if not self.use_multi_scale:
            return (1,) * self.n_layers
        return tuple(2 ** min(i, self.n_layers - 1 - i, 2) for i in range(self.n_layers))

    def _validate_together(self) -> None:
        """Check combinations of fields."""
        if self.experts_left < self.top_k:
            raise ValueError(
                f"pruned_experts must leave top_k = {self.top_k} of num_experts = {self.num_experts}, "
                f"got {self.pruned_experts!r}"
            )
        if self.n_seq % max(self.scales):
            raise ValueError(
                f"n_seq must be a multiple of {max(self.scales)} for use_multi_scale with n_layers = {self.n_layers}, "
                f"got {self.n_seq!r}"
            )
        if self.use_custom_kernels and not self.use_analytic_gradient:
            raise ValueError(
                "use_analytic_gradient must be True with use_custom_kernels, whose kernel has no other gradient, "
                f"got {self.use_analytic_gradient!r}"
            )
        if self.use_birman_schwinger and not self.use_analytic_gradient:
            raise ValueError(
                "use_analytic_gradient must be True with use_birman_schwinger, which has no other gradient, "
                f"got {self.use_analytic_gradient!r}"
            )


FLAGS = tuple(field.name for field in fields(ResNetBKConfig) if field.name.startswith("use_"))
"""boolean options, in the order in which they are turned on"""

STEPS: Mapping[str, tuple[str, ...]] = {
    "BASELINE_CONFIG": (),
    "STEP2_CONFIG": ("use_koopman", "use_physics_informed"),
    "STEP4_CONFIG": ("use_quantization", "use_pruning", "use_distillation"),
    "STEP5_CONFIG": ("use_mixed_precision", "use_custom_kernels", "use_gradient_checkpointing"),
    "STEP6_CONFIG": ("use_adaptive_computation", "use_multi_scale", "use_learned_sparsity"),
    "FULL_CONFIG": ("use_curriculum_learning", "use_active_learning", "use_gradient_caching"),
}
"""preset → flags that it adds to the preset before: learning, compression, hardware, algorithms, system"""


def preset(name: str) -> ResNetBKConfig:
    """A new config of a preset.

    Raises:
        KeyError: no such preset.
    """
    if name not in STEPS:
        raise KeyError(f"no preset {name!r}; expected one of {', '.join(STEPS)}")
    steps = list(STEPS.values())[: list(STEPS).index(name) + 1]
    flags = [flag for step in steps for flag in step]
    return ResNetBKConfig(**dict.fromkeys(flags, True))


def without_options(config: ResNetBKConfig) -> ResNetBKConfig:
    """The config with all flags as in the baseline; it accepts the same sequence lengths."""
    plain = ResNetBKConfig(use_curriculum_learning=config.use_curriculum_learning)
    flags: dict[str, Any] = {name: getattr(plain, name) for name in FLAGS}
    return replace(config, **flags)


def __getattr__(name: str) -> ResNetBKConfig:
    # Configs are mutable, so each lookup returns a new one:
    # `config = BASELINE_CONFIG; config.d_model = 32` does not change the preset for other code.
    if name in STEPS:
        return preset(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *STEPS})
