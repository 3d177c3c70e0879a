"""graphflops: what a PyTorch model costs, read from its graph without running it.

The public names are imported when they are first used, so that reading a report needs no torch.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphflops.core.retired import install, retired_names

if TYPE_CHECKING:
    from graphflops.analysis.generation.generation import Generation as Generation
    from graphflops.analysis.generation.generation import generation as generation
    from graphflops.analysis.generation.law import GenerationLaw as GenerationLaw
    from graphflops.analysis.generation.record import GenerationRecord as GenerationRecord
    from graphflops.analysis.pipeline import analyze as analyze
    from graphflops.analysis.pipeline import capture as capture
    from graphflops.analysis.scaling import Law as Law
    from graphflops.analysis.scaling import law as law
    from graphflops.analysis.scaling import multiples as multiples
    from graphflops.core.costs import Cost as Cost
    from graphflops.core.costs import Work as Work
    from graphflops.core.errors import CaptureError as CaptureError
    from graphflops.core.errors import DuplicateRule as DuplicateRule
    from graphflops.core.errors import GraphflopsError as GraphflopsError
    from graphflops.core.errors import LawError as LawError
    from graphflops.core.errors import MissingRules as MissingRules
    from graphflops.core.errors import NotSupported as NotSupported
    from graphflops.core.errors import RuleError as RuleError
    from graphflops.core.errors import RuleLoadError as RuleLoadError
    from graphflops.core.errors import UsageError as UsageError
    from graphflops.core.names import aten as aten
    from graphflops.core.sizes import Spec as Spec
    from graphflops.core.sizes import spec as spec
    from graphflops.integrations.compile_backend import CompileBackend as CompileBackend
    from graphflops.integrations.compile_backend import compiled_graphs as compiled_graphs
    from graphflops.integrations.targets import load as load
    from graphflops.models.act_counter import ACTFLOPsCounter as ACTFLOPsCounter
    from graphflops.models.act_counter import measure_act_flops as measure_act_flops
    from graphflops.models.counter import FLOPsCounter as FLOPsCounter
    from graphflops.models.counter import compare_models as compare_models
    from graphflops.models.flops_count import FLOPsCount as FLOPsCount
    from graphflops.report.changes.diff import ReportDiff as ReportDiff
    from graphflops.report.changes.diff import diff as diff
    from graphflops.report.conventions import Convention as Convention
    from graphflops.report.parts import Coverage as Coverage
    from graphflops.report.report import Report as Report
    from graphflops.rules.rule import Rule as Rule
    from graphflops.rules.rule import rule as rule

# torch remarks on a missing numpy when it is first imported; nothing here needs numpy.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)

_HOMES = {
    "models.act_counter": ["ACTFLOPsCounter", "measure_act_flops"],
    "analysis.generation.generation": ["Generation", "generation"],
    "analysis.generation.law": ["GenerationLaw"],
    "analysis.generation.record": ["GenerationRecord"],
    "analysis.pipeline": ["analyze", "capture"],
    "report.changes.diff": ["ReportDiff", "diff"],
    "report.conventions": ["Convention"],
    "core.costs": ["Cost", "Work"],
    "models.counter": ["FLOPsCounter", "compare_models"],
    "models.flops_count": ["FLOPsCount"],
    "core.errors": [
        "CaptureError",
        "DuplicateRule",
        "GraphflopsError",
        "LawError",
        "MissingRules",
        "RuleError",
        "RuleLoadError",
        "NotSupported",
        "UsageError",
    ],
    "report.parts": ["Coverage"],
    "report.report": ["Report"],
    "rules.rule": ["Rule", "rule"],
    "analysis.scaling": ["Law", "law", "multiples"],
    "core.names": ["aten"],
    "core.sizes": ["Spec", "spec"],
    "integrations.compile_backend": ["CompileBackend", "compiled_graphs"],
    "integrations.targets": ["load"],
}
_retired_name = retired_names(__name__)
install()
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "rates":
        return import_module("graphflops.analysis.rates")
    if name not in _HOME_OF:
        return _retired_name(name)
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
