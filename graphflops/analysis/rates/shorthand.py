"""Rates as people say them: an average depth, a capacity factor."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.core.rate import Number, Rate, exactly


@dataclass(frozen=True)
class Layers:
    """How many of a list run on average, as ``graphflops.analysis.rates.layers`` says it."""

    average: Rate

    def of(self, index: int, count: int) -> Rate:
        """The rate of one of them.

        Raises:
            UsageError: the list has fewer.
        """
        if self.average.most > count:
            raise UsageError(f"{float(self.average.most):g} layers cannot run on average of {count}")
        return Rate(*(min(max(average - index, Fraction(0)), Fraction(1)) for average in self.average.bounds))


def layers(*average: Number) -> Layers:
    """Say how deep a list of layers runs on average, as adaptive computation reports it.

    ``rates={"blocks": layers(5.2)}``, or as text ``avg_layers_executed=5.2``.

    A model that halts runs a layer only if it ran the one before. So of an average of 5.2, layers 0 to 4 always run,
    and layer 5 at 1/5. The average alone does not say how the depth is spread; for layers that cost the same, the
    total is the same however it is. Two or three numbers are bounds, as of a ``Rate``.

    >>> [str(layers(5.2).of(index, 8)) for index in range(8)]
    ['1', '1', '1', '1', '1', '1/5', '0', '0']

    Raises:
        UsageError: it is no number, or negative.
    """
    return Layers(Rate(*average))


def capacity(tokens: int, experts: int, top_k: int = 1, capacity_factor: Any = 1) -> Rate:
    """The rate of the experts of a mixture that drops tokens: rows that experts work on, of all tokens by all experts.

    An expert has room for C = ⌈capacity_factor · tokens · top_k / experts⌉ tokens, and what is routed to it beyond
    that is dropped. The most are worked on if routing is even: min(tokens · top_k, experts · C) rows. The fewest, if
    all tokens want the same ``top_k`` experts: top_k · min(tokens, C). Expected is what is kept if each token chooses
    at random, each expert as likely as another, in whole rows, rounded down. Code that fills the rest of C with
    padding works on all its room: its rate is ``C / tokens``, whatever is routed.

    >>> capacity(64, experts=8, top_k=1, capacity_factor=1.25)
    Rate(5/256 – 61/512 – 1/8)

    Raises:
        UsageError: a number is not possible.
    """
    factor = exactly(capacity_factor)
    if not (tokens >= 1 and 1 <= top_k <= experts and factor > 0):
        raise UsageError(
            f"tokens must be at least 1, top_k in 1..experts and capacity_factor above 0, "
            f"not {tokens}, {top_k} of {experts} and {capacity_factor}"
        )
    room = min(tokens, ceil(factor * tokens * top_k / experts))
    most, least = min(tokens * top_k, experts * room), top_k * room
    kept = experts * _kept(tokens, top_k, experts, room)
    of_all = tokens * experts
    return Rate(Fraction(least, of_all), Fraction(max(least, min(int(kept), most)), of_all), Fraction(most, of_all))


def _kept(tokens: int, top_k: int, experts: int, room: int) -> Fraction:
    """How many of the tokens that want an expert it has room for, of a binomial number of them, to 1/2⁶⁴ and below.

    room − Σ (room − n)·P(n) over n < room, with P(n) = C(tokens, n)·top_kⁿ·(experts − top_k)^(tokens − n) /
    experts^tokens.
    """
    if top_k == experts:
        return Fraction(room)
    term, missing = (experts - top_k) ** tokens, 0
    for n in range(room):
        missing += (room - n) * term
        term = term * (tokens - n) * top_k // ((n + 1) * (experts - top_k))  # which divides without rest
    return room - Fraction(-(-(missing << 64) // experts**tokens), 1 << 64)
