"""Example models: ResNet-BK, a language model that trains on a CPU, and its baselines Mamba and a Transformer.

`BASELINE_CONFIG` is the basic preset; `STEP2_CONFIG`, `STEP4_CONFIG`, `STEP5_CONFIG`, `STEP6_CONFIG` and `FULL_CONFIG`
each add options to the one before. Every import or lookup of a preset returns a new config:

    from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK

    config = BASELINE_CONFIG
    config.d_model = 32
    model = ConfigurableResNetBK(config)

`MambaLM` and `TransformerLM` are baselines with the same vocabulary.
"""

from graphflops.models import configuration
from graphflops.models.birman_schwinger import BirmanSchwingerCore
from graphflops.models.bk_core import BKCore
from graphflops.models.configuration import ResNetBKConfig
from graphflops.models.mamba import MambaLM
from graphflops.models.moe import SparseMoE
from graphflops.models.resnet_bk import ConfigurableResNetBK, LanguageModel
from graphflops.models.transformer import TransformerLM

__all__ = [
    "BASELINE_CONFIG",
    "FULL_CONFIG",
    "STEP2_CONFIG",
    "STEP4_CONFIG",
    "STEP5_CONFIG",
    "STEP6_CONFIG",
    "BKCore",
    "BirmanSchwingerCore",
    "ConfigurableResNetBK",
    "LanguageModel",
    "MambaLM",
    "ResNetBKConfig",
    "SparseMoE",
    "TransformerLM",
]


def __getattr__(name: str) -> ResNetBKConfig:
    # A new config per lookup; see configuration.__getattr__.
    if name in configuration.STEPS:
        return configuration.preset(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
