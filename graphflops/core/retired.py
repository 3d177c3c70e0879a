"""Old names of public modules and objects: each works for one more version, with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

RETIRED = {
    # modules
    "graphflops.adapters": "graphflops.rules.adapters",
    "graphflops.comparison": "graphflops.models.waterfall",
    "graphflops.conventions": "graphflops.report.conventions",
    "graphflops.costs": "graphflops.core.costs",
    "graphflops.counts": "graphflops.models.flops_count",
    "graphflops.discovery": "graphflops.rules.loading",
    "graphflops.errors": "graphflops.core.errors",
    "graphflops.explanation": "graphflops.report.differences",
    "graphflops.family": "graphflops.models.length_sweep",
    "graphflops.laws": "graphflops.rules.templates",
    "graphflops.ledger": "graphflops.core.entries",
    "graphflops.names": "graphflops.core.names",
    "graphflops.primitives": "graphflops.analysis.op_counter",
    "graphflops.rates": "graphflops.analysis.rates",
    "graphflops.report_json": "graphflops.report.json_format",
    "graphflops.report_text": "graphflops.report.text",
    "graphflops.rulebook": "graphflops.rules.rule",
    "graphflops.runs": "graphflops.models.training_run",
    "graphflops.scaling": "graphflops.analysis.scaling",
    "graphflops.sizes": "graphflops.core.sizes",
    "graphflops.units": "graphflops.core.units",
    "graphflops.verification": "graphflops.verify.rule_check",
    "graphflops.witness": "graphflops.analysis.mac_counter",
    # objects, by the module in which they were
    "graphflops:Unpriced": "graphflops.core.errors:NotSupported",
    "graphflops.analysis:analyze": "graphflops.analysis.pipeline:analyze",
    "graphflops.comparison:stages": "graphflops.models.waterfall:intermediate_configs",
    "graphflops.costs:NOTHING": "graphflops.core.costs:ZERO",
    "graphflops.costs:greatest": "graphflops.core.sizes:size_max",
    "graphflops.errors:Contradicted": "graphflops.core.errors:VerificationFailed",
    "graphflops.errors:Unpriced": "graphflops.core.errors:NotSupported",
    "graphflops.family:Member": "graphflops.models.length_sweep:ModelCurve",
    "graphflops.family:family": "graphflops.models.length_sweep:length_sweep",
    "graphflops.family:print_family": "graphflops.models.length_sweep:print_length_sweep",
    "graphflops.laws:ANY": "graphflops.rules.templates:ALL_OPERANDS",
    "graphflops.laws:compares": "graphflops.rules.templates:comparison",
    "graphflops.laws:law": "graphflops.rules.templates:template",
    "graphflops.laws:least": "graphflops.core.sizes:size_min",
    "graphflops.laws:moves": "graphflops.rules.templates:free",
    "graphflops.laws:summed_back": "graphflops.rules.templates:sum_to_size",
    "graphflops.laws:quantized": "graphflops.rules.templates:quantize_work",
    "graphflops.laws:rounded": "graphflops.rules.templates:dequantize_work",
    "graphflops.laws:wanted": "graphflops.rules.templates:operands_in_mask",
    "graphflops.primitives:executed": "graphflops.analysis.op_counter:count_scalar_ops",
    "graphflops.primitives:Executed": "graphflops.analysis.op_counter:ScalarOpCount",
    "graphflops.report:Coverage": "graphflops.report.parts:Coverage",
    "graphflops.report:Report": "graphflops.report.report:Report",
    "graphflops.rates:Layers": "graphflops.analysis.rates.shorthand:AverageDepth",
    "graphflops.rulebook:RuleBook": "graphflops.rules.book:RuleBook",
    "graphflops.runs:run_amount": "graphflops.models.training_run:training_run_cost",
    "graphflops.scaling:Multiples": "graphflops.analysis.scaling.ranges:SizeRange",
    "graphflops.verification:Comparison": "graphflops.verify.rule_check:RuleCheck",
    "graphflops.witness:Dispatched": "graphflops.analysis.mac_counter:MacCount",
    "graphflops.witness:dispatched": "graphflops.analysis.mac_counter:count_macs",
}
"""old name → new name, of a module or of ``module:object``

A module that still exists needs ``__getattr__ = retired_names(__name__)`` for its old objects.
"""


LASTING = frozenset({"graphflops.rates"})
"""names of modules that stay: they are shorter than where the modules lie"""


def retired_names(module: str, new_module: str | None = None) -> Callable[[str], Any]:
    """A ``__getattr__`` for the old names of a module; other names are looked up in ``new_module``."""

    def lookup(name: str) -> Any:
        if (old := f"{module}:{name}") in RETIRED:
            _warn(old)
            return resolve(RETIRED[old])
        if new_module is None or name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(new_module), name)

    return lookup


def resolve(name: str) -> Any:
    """Import a module, or an object given as ``module:object``."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute) if attribute else import_module(module)


def renamed(new: str) -> Any:
    """A property with which an attribute or method keeps its old name."""

    class Renamed:
        def __set_name__(self, owner: type, name: str) -> None:
            self.old = f"{owner.__name__}.{name}"

        def __get__(self, instance: Any, owner: type) -> Any:
            warnings.warn(f"{self.old} is now {new}", DeprecationWarning, stacklevel=2)
            return getattr(owner if instance is None else instance, new)

    return Renamed()


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of a function whose keyword arguments were renamed, given as ``old="new"``: the old names work."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            renamed: dict[str, Any] = {}
            for old in new_names.keys() & kwargs.keys():
                renamed[new_names[old]] = kwargs.pop(old)
                message = f"{function.__name__}({old}=…) is now {function.__name__}({new_names[old]}=…)"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs, **renamed)

        return call

    return decorate


class RetiredModules:
    """An import finder for old modules, whose names are looked up in the new ones."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of an old module, None for any other."""
        if name not in RETIRED:
            return None
        if name not in LASTING:
            _warn(name)
        return ModuleSpec(name, RetiredModules())  # type: ignore[arg-type]  # importlib.abc imports much

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the creation to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the names of the old module be those of the new one."""
        module.__getattr__ = retired_names(module.__name__, RETIRED[module.__name__])  # type: ignore[method-assign]


def install() -> None:
    """Make the old modules importable."""
    if RetiredModules not in sys.meta_path:
        sys.meta_path.insert(0, RetiredModules)  # a folder that an older checkout left would be found before


def _warn(old: str) -> None:
    message = f"{old} is now {RETIRED[old]}".replace(":", ".")
    warnings.warn(message, DeprecationWarning, stacklevel=3)
