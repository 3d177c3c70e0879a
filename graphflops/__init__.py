"""graphflops: what a PyTorch model costs, read from its graph without running it.

The public names are imported when they are first used, so that reading a report needs no torch.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphflops.act_counter import ACTFLOPsCounter as ACTFLOPsCounter
    from graphflops.act_counter import measure_act_flops as measure_act_flops
    from graphflops.analysis import analyze as analyze
    from graphflops.conventions import Convention as Convention
    from graphflops.costs import Cost as Cost
    from graphflops.costs import Work as Work
    from graphflops.counter import FLOPsCounter as FLOPsCounter
    from graphflops.counter import compare_models as compare_models
    from graphflops.counts import FLOPsCount as FLOPsCount
    from graphflops.errors import CaptureError as CaptureError
    from graphflops.errors import DuplicateRule as DuplicateRule
    from graphflops.errors import GraphflopsError as GraphflopsError
    from graphflops.errors import LawError as LawError
    from graphflops.errors import MissingRules as MissingRules
    from graphflops.errors import RuleError as RuleError
    from graphflops.errors import RuleLoadError as RuleLoadError
    from graphflops.errors import Unpriced as Unpriced
    from graphflops.errors import UsageError as UsageError
    from graphflops.report import Coverage as Coverage
    from graphflops.report import Report as Report
    from graphflops.rulebook import Rule as Rule
    from graphflops.rulebook import rule as rule
    from graphflops.scaling import Law as Law
    from graphflops.scaling import law as law
    from graphflops.scaling import multiples as multiples
    from graphflops.sizes import Spec as Spec
    from graphflops.sizes import spec as spec

# torch remarks on a missing numpy when it is first imported; nothing here needs numpy.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)

_HOMES = {
    "act_counter": ["ACTFLOPsCounter", "measure_act_flops"],
    "analysis": ["analyze"],
    "conventions": ["Convention"],
    "costs": ["Cost", "Work"],
    "counter": ["FLOPsCounter", "compare_models"],
    "counts": ["FLOPsCount"],
    "errors": [
        "CaptureError",
        "DuplicateRule",
        "GraphflopsError",
        "LawError",
        "MissingRules",
        "RuleError",
        "RuleLoadError",
        "Unpriced",
        "UsageError",
    ],
    "report": ["Coverage", "Report"],
    "rulebook": ["Rule", "rule"],
    "scaling": ["Law", "law", "multiples"],
    "sizes": ["Spec", "spec"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "rates":
        return import_module("graphflops.rates")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
