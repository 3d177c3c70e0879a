"""Shorthand for rates: the average depth of a list of layers, and the capacity of experts."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.core.rate import Number, Rate, to_fraction


@dataclass(frozen=True)
class AverageDepth:
    """How many layers of a list run on average, as ``graphflops.rates.layers`` returns it."""

    average: Rate

    def rate_of_layer(self, index: int, count: int) -> Rate:
        """The rate of one of ``count`` layers.

        Raises:
            UsageError: there are fewer layers than run on average.
        """
        if self.average.upper > count:
            raise UsageError(f"an average depth of {float(self.average.upper):g} exceeds the {count} layers")
        return Rate(*(min(max(average - index, Fraction(0)), Fraction(1)) for average in self.average.bounds))


def layers(*average: Number) -> AverageDepth:
    """The average depth of a list of layers, as adaptive computation reports it.

    ``rates={"blocks": layers(5.2)}``, or as text ``avg_layers_executed=5.2``.

    A model that halts runs a layer only if it ran the previous one. So with an average of 5.2, layers 0 to 4 always
    run, and layer 5 has rate 1/5. The average alone does not determine how the depth is distributed; for layers of
    equal cost, the total does not depend on it. Two or three numbers are bounds, as of a ``Rate``.

    >>> [str(layers(5.2).rate_of_layer(index, 8)) for index in range(8)]
    ['1', '1', '1', '1', '1', '1/5', '0', '0']

    Raises:
        UsageError: an average is not a number, or negative.
    """
    return AverageDepth(Rate(*average))


def expert_capacity(tokens: int, experts: int, top_k: int = 1, capacity_factor: Any = 1) -> Rate:
    """The rate of experts that drop tokens: the rows that they process, of all tokens times all experts.

    An expert has a capacity of C = ⌈capacity_factor · tokens · top_k / experts⌉ tokens; tokens routed to it beyond
    that are dropped. Upper bound, with balanced routing: min(tokens · top_k, experts · C) rows. Lower bound, if all
    tokens choose the same ``top_k`` experts: top_k · min(tokens, C) rows. Expected: the rows that are kept if each
    token chooses its experts at random, all equally likely, rounded down to whole rows. Code that pads each expert to
    its capacity processes all of it: its rate is ``C / tokens``, whatever the routing.

    >>> expert_capacity(64, experts=8, top_k=1, capacity_factor=1.25)
    Rate(5/256 – 61/512 – 1/8)

    Raises:
        UsageError: a number is out of range.
    """
    factor = to_fraction(capacity_factor)
    if not (tokens >= 1 and 1 <= top_k <= experts and factor > 0):
        raise UsageError(
            f"tokens must be at least 1, top_k in 1..experts and capacity_factor above 0, "
            f"not {tokens}, {top_k} of {experts} and {capacity_factor}"
        )
    expert_rows = min(tokens, ceil(factor * tokens * top_k / experts))
    upper, lower = min(tokens * top_k, experts * expert_rows), top_k * expert_rows
    expected = int(experts * _expected_rows(tokens, top_k, experts, expert_rows))
    dense = tokens * experts
    return Rate(Fraction(lower, dense), Fraction(max(lower, min(expected, upper)), dense), Fraction(upper, dense))


capacity = expert_capacity
"""the same by its short name, for ``graphflops.rates.capacity``"""


def _expected_rows(tokens: int, top_k: int, experts: int, capacity: int) -> Fraction:
    """The expected rows that one expert keeps, E[min(n, capacity)] with n binomial, rounded down to 1/2⁶⁴.

    capacity − Σ (capacity − n)·P(n) over n < capacity, with P(n) = C(tokens, n)·top_kⁿ·(experts − top_k)^(tokens − n) /
    experts^tokens.
    """
    if top_k == experts:
        return Fraction(capacity)
    term, missing = (experts - top_k) ** tokens, 0
    for n in range(capacity):
        missing += (capacity - n) * term
        term = term * (tokens - n) * top_k // ((n + 1) * (experts - top_k))  # divides without remainder
    return capacity - Fraction(-(-(missing << 64) // experts**tokens), 1 << 64)
