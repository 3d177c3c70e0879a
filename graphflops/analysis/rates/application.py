"""Entries × rates → entries: the ledger of an average step, and beside it that of a step in which everything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from graphflops.analysis.rates.patterns import Rates, around
from graphflops.core.costs import Work
from graphflops.core.entries import Amount, Entry, Phase, Range
from graphflops.core.rate import ALWAYS, Rate, product


@dataclass(frozen=True)
class _Share:
    """What an entry is a share of: how much more it would be in full, and at which rate that runs."""

    full: Fraction
    rate: Rate
    speaks_over: bool
    """whether it takes the place of the rate that the rule itself says"""


def at_rates(
    entries: Sequence[Entry],
    modules: Mapping[str, str],
    rates: Rates,
    taken: Mapping[str, Fraction] | None = None,
) -> Sequence[Entry]:
    """The ledger at rates: an entry's work is its full work times the rates of all modules it is in, and of its
    operator.

    ``taken`` are the shares that the trace took of what data routes: module path → share of the rows. Such a share is
    the rate of a module that no other is given for; what is given is of all rows. A rate given for a layer, or for a
    part of one, whose rule says a rate speaks over the rule's. Counts stay whole: rates are multiplied first, and
    each count is rounded down once.

    A parameter is updated in each step that has a gradient for it, at whatever rate: only a rate of 0 leaves the
    update out, unless it comes of an average depth. Gradients that meet at a tensor are added where the tensor is made.
    """
    if not (rates.modules or rates.operators or taken):
        return entries
    return tuple(_at(entry, _share(entry, modules, rates, taken or {})) for entry in entries)


def _share(entry: Entry, modules: Mapping[str, str], rates: Rates, taken: Mapping[str, Fraction]) -> _Share:
    full, said = Fraction(1), []
    for path in (entry.path, *around(entry.path)):
        share = taken.get(path) or Fraction(1)
        full /= share
        if path in rates.averaged and entry.kind == "update":
            continue
        if path in rates.modules:
            said.append(rates.modules[path])
        elif share != 1:
            said.append(Rate(share))
    if entry.target in rates.operators:
        said.append(rates.operators[entry.target])
    of_its_rule = bool(entry.part and entry.path.endswith(entry.part)) or modules.get(entry.path) == entry.operator
    return _Share(full, product(said), of_its_rule and "full" in entry.ranges and entry.path in rates.modules)


def _at(entry: Entry, share: _Share) -> Entry:
    if entry.kind == "update":
        share = _Share(Fraction(1), Rate(*(Fraction(each > 0) for each in share.rate.bounds)), speaks_over=False)
    if share.rate == ALWAYS and share.full == 1 and not share.speaks_over:
        return entry
    full = entry.at("full")
    expected, least, most = (full,) * 3 if share.speaks_over else (entry, entry.at("least"), entry.at("most"))
    work, useful = _amount(expected, share.full * share.rate.expected)
    ranges: dict[Range, Amount] = {
        "full": _amount(full, share.full),
        "least": _amount(least, share.full * share.rate.least),
        "most": _amount(most, share.full * share.rate.most),
    }
    if ranges["least"] == ranges["most"]:
        del ranges["least"], ranges["most"]
    rate = f"{entry.rate} · {share.rate}" if entry.rate and not share.speaks_over else str(share.rate)
    return replace(entry, work=work, useful=useful, rate=rate, ranges=ranges)


def _amount(entry: Entry, times: Fraction) -> Amount:
    return Amount(_times(entry.work, times), _times(entry.useful, times))


def _times(work: Mapping[Phase, Work], times: Fraction) -> dict[Phase, Work]:
    found: dict[Phase, Work] = {}
    for phase, each in work.items():
        found[phase] = Work(*(count * times.numerator // times.denominator for count in each.counts()))
    return {phase: each for phase, each in found.items() if each}
