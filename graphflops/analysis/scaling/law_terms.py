"""The terms of a law: an exact polynomial for each number of a report, and their sums by phase and component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import PARAMETERS, Quantity, weights
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.core.errors import UsageError
from graphflops.report.conventions import Convention
from graphflops.report.data import phases_of

LawPhase: TypeAlias = Literal["forward", "backward", "optimizer", "total", "dgrad", "wgrad", "recompute", "parameters"]


@dataclass(frozen=True)
class LawTerms:
    """The cost of a model as a function of its sizes: one exact polynomial for each number of its report."""

    model: str
    sizes: Mapping[str, SizeRange]
    terms: Mapping[Quantity, Polynomial]
    convention: Convention
    traces: int = 0
    """the number of traced points, including those of the validation"""
    validated: tuple[Mapping[str, int], ...] = ()
    """the points of the validation: no polynomial was fitted to them, and all of them hold there"""
    rejected: tuple[str, ...] = ()
    """sizes at which the model raised, with the error"""
    unknown: tuple[str, ...] = ()
    """targets without a rule: the law is a lower bound"""
    _sums: dict[Any, Polynomial] = field(default_factory=dict, compare=False, repr=False)

    @property
    def components(self) -> tuple[str, ...]:
        """The components, as in ``report.by_component``; ``layer_*`` is all blocks, where the depth is a size."""
        return tuple(dict.fromkeys(quantity.component for quantity in self.terms))

    @property
    def phases(self) -> list[LawPhase]:
        """The phases with a cost."""
        phases: tuple[LawPhase, ...] = ("forward", "backward", "recompute", "optimizer", "parameters")
        return [phase for phase in phases if self.polynomial(phase)]

    def polynomial(self, phase: LawPhase = "total", component: str | None = None) -> Polynomial:
        """The polynomial of a phase, of the model or of one component.

        Raises:
            UsageError: there is no such phase or component.
        """
        if component is not None and component not in self.components:
            raise UsageError(f"there is no component {component!r}; there are: {', '.join(self.components)}")
        check_phase(phase)
        if (phase, component) not in self._sums:
            terms = (quantity for quantity in self.terms if component in (None, quantity.component))
            self._sums[phase, component] = self.sum_of(phase, terms)
        return self._sums[phase, component]

    def sum_of(self, phase: LawPhase, quantities: Iterable[Quantity]) -> Polynomial:
        """The weighted sum of some terms in a phase."""
        weight = self.weight_in(phase)
        return Polynomial.sum((weight(quantity), self.terms[quantity]) for quantity in quantities)

    def weight_in(self, phase: LawPhase) -> Callable[[Quantity], int]:
        """The weight of each quantity in a phase, under the convention."""
        phases, kinds = check_phase(phase), weights(self.convention)

        def weight(quantity: Quantity) -> int:
            if quantity.phase not in phases:
                return 0
            if quantity.phase == PARAMETERS:
                return 1
            return kinds.get(quantity.kind, 0) if quantity.phase in self.convention.phases else 0

        return weight

    def all_sizes(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """All sizes: the given ones, and the base values of the others.

        Raises:
            UsageError: there is no such size, or it may not have this value.
        """
        self.check_sizes(sizes)
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value not in self.sizes[name]:
                raise UsageError(f"{name} = {value!r}: {self.sizes[name].requirement(name)}")
        return {name: sizes.get(name, size.base) for name, size in self.sizes.items()}

    def sweep(
        self, size: str, values: Iterable[int], phase: LawPhase = "total", component: str | None = None
    ) -> list[int]:
        """The exact numbers at several values of one size, the others at their base values.

        Raises:
            UsageError: there is no such size, phase or component, or a size may not have a value.
        """
        polynomial = self.polynomial(phase, component)
        return [to_int(polynomial.evaluate(self.all_sizes({size: value}))) for value in values]

    def check_sizes(self, names: Iterable[str]) -> None:
        """Raise UsageError if the law has no size with one of these names."""
        for name in names:
            if name not in self.sizes:
                raise UsageError(f"{self.model}'s law has no size {name!r}; it has: {', '.join(self.sizes)}")


def check_phase(phase: str) -> tuple[str, ...]:
    """The phases of entries in a phase of a law.

    Raises:
        UsageError: there is no such phase.
    """
    return (PARAMETERS,) if phase == PARAMETERS else phases_of(phase)


def to_int(value: int | Fraction) -> int:
    """A count; UsageError if it is not whole, as the model then cannot have these sizes."""
    if isinstance(value, Fraction):
        raise UsageError(f"the value at these sizes is not whole ({value}): the model cannot have them")
    return value
