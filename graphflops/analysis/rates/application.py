"""Apply rates to entries: the average step, and with it the step in which everything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from graphflops.analysis.rates.patterns import Rates
from graphflops.core.components import parents
from graphflops.core.costs import Work
from graphflops.core.entries import Entry, Phase, PhaseWork, Range
from graphflops.core.rate import RATE_ONE, Rate, product


@dataclass(frozen=True)
class _Scale:
    """The factors of an entry."""

    full: Fraction
    """from its work in the trace to its work if everything runs on all rows"""
    rate: Rate
    """of its full work"""
    overrides_rule: bool
    """whether ``rate`` replaces the rate that the rule states"""


def apply_rates(
    entries: Sequence[Entry],
    modules: Mapping[str, str],
    rates: Rates,
    traced_shares: Mapping[str, Fraction] | None = None,
) -> Sequence[Entry]:
    """The entries at rates: full work times the rates of the operator and of all modules around it.

    ``traced_shares`` maps the path of each routed module to the share of the rows on which it was traced. The share is
    the rate of a module without a given one; a given rate is of all rows. A rate given for a layer, or for a part of a
    layer, whose rule states a rate overrides the rule's. Rates are multiplied first, and each count is rounded down
    once.

    A parameter is updated in each step in which it has a gradient, whatever its rate: only a rate of 0 removes the
    update, unless it comes of an average depth. Gradients are accumulated by the module that produces the tensor.
    """
    if not (rates.modules or rates.operators or traced_shares):
        return entries
    return tuple(_scaled(entry, _scale_of(entry, modules, rates, traced_shares or {})) for entry in entries)


def _scale_of(entry: Entry, modules: Mapping[str, str], rates: Rates, traced_shares: Mapping[str, Fraction]) -> _Scale:
    full, factors = Fraction(1), []
    for path in (entry.path, *parents(entry.path)):
        share = traced_shares.get(path) or Fraction(1)
        full /= share
        if path in rates.averaged and entry.kind == "update":
            continue
        if path in rates.modules:
            factors.append(rates.modules[path])
        elif share != 1:
            factors.append(Rate(share))
    if entry.target in rates.operators:
        factors.append(rates.operators[entry.target])
    is_layer = bool(entry.part and entry.path.endswith(entry.part)) or modules.get(entry.path) == entry.operator
    return _Scale(full, product(factors), is_layer and "full" in entry.ranges and entry.path in rates.modules)


def _scaled(entry: Entry, scale: _Scale) -> Entry:
    if entry.kind == "update":
        scale = _Scale(Fraction(1), Rate(*(Fraction(bound > 0) for bound in scale.rate.bounds)), overrides_rule=False)
    if scale.rate == RATE_ONE and scale.full == 1 and not scale.overrides_rule:
        return entry
    full = entry.at("full")
    expected, lower, upper = (full,) * 3 if scale.overrides_rule else (entry, entry.at("lower"), entry.at("upper"))
    work, useful = _amount(expected, scale.full * scale.rate.expected)
    ranges: dict[Range, PhaseWork] = {
        "full": _amount(full, scale.full),
        "lower": _amount(lower, scale.full * scale.rate.lower),
        "upper": _amount(upper, scale.full * scale.rate.upper),
    }
    if ranges["lower"] == ranges["upper"]:
        del ranges["lower"], ranges["upper"]
    rate = f"{entry.rate} · {scale.rate}" if entry.rate and not scale.overrides_rule else str(scale.rate)
    return replace(entry, work=work, useful=useful, rate=rate, ranges=ranges)


def _amount(entry: Entry, factor: Fraction) -> PhaseWork:
    return PhaseWork(_multiply(entry.work, factor), _multiply(entry.useful, factor))


def _multiply(works: Mapping[Phase, Work], factor: Fraction) -> dict[Phase, Work]:
    scaled = {
        phase: Work(*(count * factor.numerator // factor.denominator for count in work.counts()))
        for phase, work in works.items()
    }
    return {phase: work for phase, work in scaled.items() if work}
