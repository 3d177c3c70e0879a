"""The configuration of a ResNet-BK language model and the preset to start from."""

from dataclasses import dataclass

from graphflops.models.checks import require_bool, require_dropout, require_grad_blend, require_size, require_top_k


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

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ValueError naming the field, its value and what is allowed, if a field holds anything else."""
        for name in ("vocab_size", "d_model", "n_layers", "n_seq", "num_experts"):
            require_size(name, getattr(self, name))
        require_top_k(self.top_k, self.num_experts)
        require_dropout(self.dropout)
        require_bool("use_analytic_gradient", self.use_analytic_gradient)
        require_grad_blend(self.grad_blend)


BASELINE_CONFIG: ResNetBKConfig


def __getattr__(name: str) -> ResNetBKConfig:
    # A config is mutable and a preset is shared, so each look-up of the preset makes a new one:
    # `config = BASELINE_CONFIG; config.d_model = 32` changes nothing for whoever imports it next.
    if name == "BASELINE_CONFIG":
        return ResNetBKConfig()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "BASELINE_CONFIG"})
