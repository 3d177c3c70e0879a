"""The configuration of a ResNet-BK language model, and the presets: BASELINE, and what each step adds to it."""

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
    """The sizes and options of a ResNet-BK language model; every field may be assigned.

    A config is checked when it is constructed and again when a model is built from it, since fields may have been
    assigned in between.

    Attributes:
        vocab_size: V, the number of distinct tokens, >= 1.
        d_model: D, the width of a token, >= 1.
        n_layers: how many blocks, >= 1.
        n_seq: N, the length of every sequence, >= 1.
        num_experts: E, experts in each mixture, >= 1.
        top_k: experts that work on each token, in 1..num_experts.
        dropout: probability of dropping a hidden unit of an expert, in [0, 1).
        use_analytic_gradient: the local gradient of BK-Core; if False, the full one through the recursions.
        grad_blend: share of the inverse-square rule in the analytic gradient, in [0, 1].
        use_koopman: a linear operator on lifted states learns what a layer does, and takes its place in ``eval``.
        koopman_dim: the width of the lifted states, >= 1.
        use_physics_informed: a loss term for the energy that a layer adds or takes.
        use_quantization: the products of the experts and of the head in integers.
        quantization_bits: their width, 8 or 4.
        use_pruning: experts are gone.
        prune_threshold: ``prune`` removes experts that see a smaller share of the tokens, in (0, 1].
        pruned_experts: how many are gone from the start, >= 1; ``top_k`` must be left.
        use_distillation: a teacher, the same model without any of the options, is run on the same tokens.
        use_mixed_precision: the layers' products in bfloat16, of weights that are kept in float32.
        use_custom_kernels: BK-Core in single precision, as a kernel of its own.
        use_gradient_checkpointing: blocks keep their inputs alone, and run again on the way back.
        use_adaptive_computation: sequences that a halting unit is sure of skip the later blocks.
        use_multi_scale: the middle layers work at N/2, the innermost at N/4.
        use_learned_sparsity: BK-Core on the sites that a predictor finds important.
        sparsity_share: the share of the sites that it keeps, in (0, 1].
        use_curriculum_learning: the model takes shorter sequences than ``n_seq`` as well.
        use_active_learning: steps are made on what a pool of candidates is least sure of.
        use_gradient_caching: gradients are used for several steps.
        use_scattering_router: the phase of the resolvent chooses the experts, without parameters.
        use_birman_schwinger: the resolvent from the Birman-Schwinger operator instead of BK-Core's minors.
        epsilon: Im z, where that resolvent is taken, > 0.

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
        """Raise ValueError naming the field, its value and what is allowed, if a field holds anything else."""
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
        """The experts that are built: ``num_experts``, less those that pruning has taken."""
        return self.num_experts - (self.pruned_experts if self.use_pruning else 0)

    @property
    def scales(self) -> tuple[int, ...]:
        """The factor by which each layer's sequence is shorter: 1 at both ends, 2 and then 4 towards the middle."""
        if not self.use_multi_scale:
            return (1,) * self.n_layers
        return tuple(2 ** min(i, self.n_layers - 1 - i, 2) for i in range(self.n_layers))

    def _validate_together(self) -> None:
        """What fields ask of each other."""
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


FLAGS = tuple(each.name for each in fields(ResNetBKConfig) if each.name.startswith("use_"))
"""the options that are on or off, in the order in which they are turned on"""

STEPS: Mapping[str, tuple[str, ...]] = {
    "BASELINE_CONFIG": (),
    "STEP2_CONFIG": ("use_koopman", "use_physics_informed"),
    "STEP4_CONFIG": ("use_quantization", "use_pruning", "use_distillation"),
    "STEP5_CONFIG": ("use_mixed_precision", "use_custom_kernels", "use_gradient_checkpointing"),
    "STEP6_CONFIG": ("use_adaptive_computation", "use_multi_scale", "use_learned_sparsity"),
    "FULL_CONFIG": ("use_curriculum_learning", "use_active_learning", "use_gradient_caching"),
}
"""preset → the flags that it adds to the one before: learning, compression, hardware, algorithms, system"""


def preset(name: str) -> ResNetBKConfig:
    """A new config as the preset of that name says.

    Raises:
        KeyError: there is no such preset.
    """
    upto = list(STEPS).index(name) if name in STEPS else None
    if upto is None:
        raise KeyError(f"there is no preset {name!r}; there are: {', '.join(STEPS)}")
    flags = [flag for added in list(STEPS.values())[: upto + 1] for flag in added]
    return ResNetBKConfig(**dict.fromkeys(flags, True))


def without_options(config: ResNetBKConfig) -> ResNetBKConfig:
    """The plain model of the same sizes, every flag as in the baseline; it takes sequences of the same lengths."""
    plain = ResNetBKConfig(use_curriculum_learning=config.use_curriculum_learning)
    flags: dict[str, Any] = {name: getattr(plain, name) for name in FLAGS}
    return replace(config, **flags)


BASELINE_CONFIG: ResNetBKConfig
STEP2_CONFIG: ResNetBKConfig
STEP4_CONFIG: ResNetBKConfig
STEP5_CONFIG: ResNetBKConfig
STEP6_CONFIG: ResNetBKConfig
FULL_CONFIG: ResNetBKConfig


def __getattr__(name: str) -> ResNetBKConfig:
    # A config is mutable and a preset is shared, so each look-up of one makes a new one:
    # `config = BASELINE_CONFIG; config.d_model = 32` changes nothing for whoever imports it next.
    if name in STEPS:
        return preset(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *STEPS})
