"""The home model of graphflops: ResNet-BK, a language model that runs and trains on a CPU.

`BASELINE_CONFIG` is the preset to start from. Every import or look-up of it gives a config of one's own:

    from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK

    config = BASELINE_CONFIG
    config.d_model = 32
    model = ConfigurableResNetBK(config)
"""

from graphflops.models import configuration
from graphflops.models.bk_core import BKCore
from graphflops.models.configuration import ResNetBKConfig
from graphflops.models.moe import SparseMoE
from graphflops.models.resnet_bk import ConfigurableResNetBK, LanguageModel

__all__ = ["BASELINE_CONFIG", "BKCore", "ConfigurableResNetBK", "LanguageModel", "ResNetBKConfig", "SparseMoE"]

BASELINE_CONFIG: ResNetBKConfig


def __getattr__(name: str) -> ResNetBKConfig:
    # Importing the preset by name would bind one object for everyone; see configuration.__getattr__.
    if name == "BASELINE_CONFIG":
        return configuration.BASELINE_CONFIG
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
