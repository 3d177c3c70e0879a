"""Costs that are written down as formulas, in place of a model: the answer is known from elsewhere."""

from collections.abc import Callable, Mapping

from graphflops.analysis.scaling.fitting import find
from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.measurement import Quantity
from graphflops.analysis.scaling.polynomials import Atom, Monomial, Polynomial
from graphflops.analysis.scaling.ranges import Multiples, as_ranges
from graphflops.analysis.scaling.sample_points import Points
from graphflops.report.conventions import STANDARD

Cost = Callable[..., int]


def quantity(name: str = "cost", **changes: object) -> Quantity:
    return Quantity(component=name, path=name, what="op", phase="forward", kind="elementwise")._replace(**changes)


def points_of(sizes: Mapping[str, int | Multiples], **costs: Cost) -> Points:
    """A model that has these costs."""

    def observe(**at: int) -> dict[Quantity, int]:
        return {quantity(name): value for name, cost in costs.items() if (value := cost(**at))}

    return Points(as_ranges(sizes), observe)


def law_of(sizes: Mapping[str, int | Multiples], **costs: Cost) -> Law:
    """The law of a model that has these costs."""
    points = points_of(sizes, **costs)
    found = find(points)
    terms = {each: found.laws[each] for each in points.table().quantities if each in found.laws}
    checked = tuple(points.named(point) for point in found.checked)
    return Law("synthetic", points.ranges, terms, STANDARD, len(points.seen), checked)


def polynomial(terms: Mapping[tuple[tuple[str, int], ...], int]) -> Polynomial:
    """A polynomial from sizes and powers."""

    def monomial(powers: tuple[tuple[str, int], ...]) -> Monomial:
        return tuple(sorted((Atom(size), power) for size, power in powers if power))

    return Polynomial({monomial(powers): value for powers, value in terms.items()})
