"""Rates: how often an Op runs in a step, where the data decides: experts, early exit, adaptive depth.

``analyze(…, rates={"blocks.3.*": 0.62, "*.experts.*": "top_k/num_experts"})``. A rate is a number, an expression in the
attributes of the module, a pair of bounds, ``layers(5.2)``, ``capacity(…)``, or measured: ``measure(model, batches)``.
"""

from typing import TYPE_CHECKING, Any

from graphflops.analysis.rates.shorthand import capacity, layers
from graphflops.core.rate import Rate

if TYPE_CHECKING:
    from graphflops.analysis.rates.measurement import measure as measure

__all__ = ["Rate", "capacity", "layers", "measure"]


def __getattr__(name: str) -> Any:
    if name != "measure":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from graphflops.analysis.rates.measurement import measure  # it imports the capture, which a rate does not need

    return measure
