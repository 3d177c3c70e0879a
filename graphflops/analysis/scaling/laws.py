"""Law: the cost of a model at any sizes, as exact polynomials. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphflops.analysis.scaling.growth import Crossover, Order, crossover, largest_within, order
from graphflops.analysis.scaling.law_terms import LawPhase, LawTerms, check_phase, to_int
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity, weighs_classes
from graphflops.core.costs import WORK_CLASSES, Work
from graphflops.core.errors import UsageError
from graphflops.core.retired import renamed
from graphflops.report.conventions import Convention, convention_named

if TYPE_CHECKING:
    import numpy
    import sympy

    from graphflops.report.exports.sections import Section


@dataclass(frozen=True)
class Law(LawTerms):
    """The cost of a model as a function of its sizes: one exact polynomial for each number of its report.

    A size that is not given has its base value, ``sizes[name].base``. Numbers are in ``convention.unit``.
    """

    at, over, along = renamed("evaluate"), renamed("evaluate_array"), renamed("sweep")
    filled, summed = renamed("all_sizes"), renamed("sum_of")
    checked, refused = renamed("validated"), renamed("rejected")

    # -- expressions ---------------------------------------------------------------------------------------------

    @property
    def forward(self) -> sympy.Expr:
        """The forward pass."""
        return self.expression("forward")

    @property
    def backward(self) -> sympy.Expr:
        """All gradients: ``dgrad + wgrad``."""
        return self.expression("backward")

    @property
    def dgrad(self) -> sympy.Expr:
        """The gradients of activations."""
        return self.expression("dgrad")

    @property
    def wgrad(self) -> sympy.Expr:
        """The gradients of parameters."""
        return self.expression("wgrad")

    @property
    def recompute(self) -> sympy.Expr:
        """The forward work that the backward pass repeats."""
        return self.expression("recompute")

    @property
    def optimizer(self) -> sympy.Expr:
        """The optimizer's update."""
        return self.expression("optimizer")

    @property
    def total(self) -> sympy.Expr:
        """The training step: forward + backward + recompute + optimizer."""
        return self.expression("total")

    @property
    def parameters(self) -> sympy.Expr:
        """The number of elements of all parameters."""
        return self.expression("parameters")

    def expression(self, phase: LawPhase = "total", component: str | None = None) -> sympy.Expr:
        """A phase, of the model or of one component, in sympy; symbols are positive integers with the sizes' names.

        Raises:
            UsageError: there is no such phase or component.
        """
        return self.polynomial(phase, component).as_sympy()

    def work(self, phase: LawPhase = "total") -> Work:
        """A phase by class of work, before any convention; each class is a sympy expression.

        Raises:
            UsageError: there is no such phase, or the convention of this law does not weigh classes.
        """
        if not weighs_classes(self.convention):
            raise UsageError(f"the convention {self.convention.name} does not weigh classes of work")
        phases = check_phase(phase)
        return Work(
            **{
                kind: Polynomial.sum(
                    (1, polynomial)
                    for quantity, polynomial in self.terms.items()
                    if quantity.phase in phases and quantity.kind == kind
                ).as_sympy()
                for kind in WORK_CLASSES
            }
        )

    def by_component(self, phase: LawPhase = "forward") -> dict[str, sympy.Expr]:
        """Component → expression; their sum is that of the model."""
        return {name: self.expression(phase, name) for name in self.components}

    def by_module(self, phase: LawPhase = "forward") -> dict[str, sympy.Expr]:
        """Module path → expression of the module with all submodules; the model is ``""``."""
        modules: dict[str, list[Quantity]] = {"": []}
        for quantity in self.terms:
            parts = quantity.path.split(".") if quantity.path else []
            for path in ("", *(".".join(parts[: i + 1]) for i in range(len(parts)))):
                modules.setdefault(path, []).append(quantity)
        return {path: self.sum_of(phase, quantities).as_sympy() for path, quantities in modules.items()}

    def with_convention(self, convention: str | Path | Convention) -> Law:
        """The same law under another convention.

        Raises:
            UsageError: there is no such convention, or it, or this law's, does not weigh classes of work: give
                ``graphflops.law(…, convention=…)`` its name then.
        """
        chosen = convention_named(convention)
        for either in (chosen, self.convention):
            if not weighs_classes(either) and chosen != self.convention:
                raise UsageError(
                    f"the convention {either.name} does not weigh classes of work: "
                    f"it needs a law of its own, law(…, convention={chosen.name!r})"
                )
        return replace(self, convention=chosen, _sums={})

    under = with_convention

    # -- output --------------------------------------------------------------------------------------------------

    def section(self, phase: LawPhase = "total", **values: Sequence[int]) -> Section:
        """A section for ``report.to_html(sections=[…])``: a curve over each size, and the expressions.

        ``values`` names the sizes to draw with their values, ``N=[128, 256, 512]``; by default all are drawn, from a
        sixteenth to sixteen times their base value.

        Raises:
            UsageError: there is no such size or phase, or a size may not have a value.
        """
        from graphflops.analysis.scaling.law_section import law_section

        return law_section(self, values, phase)

    # -- numbers -------------------------------------------------------------------------------------------------

    def evaluate(self, phase: LawPhase = "total", component: str | None = None, **sizes: int) -> int:
        """The exact number at some sizes, the others at their base values.

        Raises:
            UsageError: there is no such size, phase or component, or a size may not have a value.
        """
        return to_int(self.polynomial(phase, component).evaluate(self.all_sizes(sizes)))

    def evaluate_array(self, phase: LawPhase = "total", component: str | None = None, **sizes: Any) -> numpy.ndarray:
        """The exact numbers at arrays of sizes, which broadcast, as an array of int64.

        Raises:
            UsageError: as ``evaluate``; or a number needs more than 63 bits, or numpy is not installed.
        """
        from graphflops.analysis.scaling.arrays import evaluate_array

        self.check_sizes(sizes)
        fixed = {name: size.base for name, size in self.sizes.items() if name not in sizes}
        ranges = {name: self.sizes[name] for name in sizes}
        return evaluate_array(self.polynomial(phase, component).substitute(fixed), ranges, sizes)

    # -- growth --------------------------------------------------------------------------------------------------

    def order(self, size: str, phase: LawPhase = "total") -> Order:
        """The order of growth in a size: degree, coefficient of the highest power, and the operations that have it.

        Raises:
            UsageError: there is no such size or phase.
        """
        return order(self, size, phase)

    def solve(self, size: str, budget: float, phase: LawPhase = "total", **sizes: int) -> int:
        """The largest value of a size within a budget, the other sizes as given or at their base values.

        Raises:
            UsageError: no value is, or all are.
        """
        return largest_within(self, size, budget, phase, sizes)

    def crossover(self, other: Law, size: str, phase: LawPhase = "total", **sizes: int) -> Crossover:
        """The intervals of a size in which each of two models is cheaper; common sizes are this law's unless given.

        Raises:
            UsageError: a law has no such size, or the conventions differ.
        """
        if not isinstance(other, Law):
            raise UsageError(f"crossover needs another law, not a {type(other).__name__}")
        return crossover(self, other, size, phase, sizes)

    # -- files and text ------------------------------------------------------------------------------------------

    def to_json(self, path: str | Path) -> Path:
        """Write the law to a file, from which ``from_json`` reads an equal one.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.analysis.scaling.law_json import dumps
        from graphflops.report.files import write_atomic

        return write_atomic(path, dumps(self))

    @classmethod
    def from_json(cls, path: str | Path) -> Law:
        """Read a law that ``to_json`` wrote; needs neither the model nor torch.

        Raises:
            UsageError: there is no such file, or it is not a law of a known version.
        """
        from graphflops.analysis.scaling.law_json import load

        return load(path, cls)

    def __str__(self) -> str:
        from graphflops.analysis.scaling.law_text import law_text

        return law_text(self)

    def __repr__(self) -> str:
        return f"<Law of {self.model} in {', '.join(self.sizes)} ({self.convention.name})>"
