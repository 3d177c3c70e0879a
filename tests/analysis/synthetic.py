"""Costs given as formulas instead of a model, so that the polynomials are known."""

from collections.abc import Callable, Mapping

from graphflops.analysis.scaling.atoms import Atom
from graphflops.analysis.scaling.fitting import fit
from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.polynomials import Monomial, Polynomial
from graphflops.analysis.scaling.quantities import Quantity
from graphflops.analysis.scaling.ranges import SizeRange, checked_sizes
from graphflops.analysis.scaling.sample_points import SamplePoints
from graphflops.report.conventions import STANDARD

Cost = Callable[..., int]


def quantity(name: str = "cost", **changes: object) -> Quantity:
    return Quantity(component=name, path=name, what="op", phase="forward", kind="elementwise")._replace(**changes)


def points_of(sizes: Mapping[str, int | SizeRange], **costs: Cost) -> SamplePoints:
    """A model that has these costs."""

    def observe(**at: int) -> dict[Quantity, int]:
        return {quantity(name): value for name, cost in costs.items() if (value := cost(**at))}

    return SamplePoints(checked_sizes(sizes), observe)


def law_of(sizes: Mapping[str, int | SizeRange], **costs: Cost) -> Law:
    """The law of a model that has these costs."""
    points = points_of(sizes, **costs)
    fitted = fit(points)
    quantities = points.table().quantities
    terms = {quantity: fitted.polynomials[quantity] for quantity in quantities if quantity in fitted.polynomials}
    validated = tuple(points.as_sizes(point) for point in fitted.validated)
    return Law("synthetic", points.ranges, terms, STANDARD, len(points.observations), validated)


def polynomial(terms: Mapping[tuple[tuple[str, int], ...], int]) -> Polynomial:
    """A polynomial from sizes and powers."""

    def monomial(powers: tuple[tuple[str, int], ...]) -> Monomial:
        return tuple(sorted((Atom(size), power) for size, power in powers if power))

    return Polynomial({monomial(powers): value for powers, value in terms.items()})
