"""Law: what a model costs at any sizes, as exact polynomials, and the questions one asks of it. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from graphflops.analysis.scaling.measurement import PARAMETERS, Quantity, weighs_classes, weights
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.ranges import Multiples
from graphflops.core.costs import WORK_CLASSES, Work
from graphflops.core.errors import UsageError
from graphflops.report.conventions import Convention, convention_named
from graphflops.report.data import phases_of

if TYPE_CHECKING:
    import numpy
    import sympy

    from graphflops.analysis.scaling.growth import Crossover, Order

Query: TypeAlias = Literal["forward", "backward", "optimizer", "total", "dgrad", "wgrad", "recompute", "parameters"]


@dataclass(frozen=True)
class Law:
    """What a model costs, as a function of its sizes: one exact polynomial for each number of its report.

    Whatever is asked without a size takes that size's base value, ``sizes[name].at``. Numbers are in
    ``convention.unit``.
    """

    model: str
    sizes: Mapping[str, Multiples]
    terms: Mapping[Quantity, Polynomial]
    convention: Convention
    traces: int = 0
    """at how many points the model was looked at, those among them that the law was held to"""
    checked: tuple[Mapping[str, int], ...] = ()
    """the points that took no part in finding the law, and at which all of it holds"""
    refused: tuple[str, ...] = ()
    """sizes that the model does not go with, and what it said"""
    unknown: tuple[str, ...] = ()
    """targets that no rule speaks for: the law is at least what is said"""
    _sums: dict[Any, Polynomial] = field(default_factory=dict, compare=False, repr=False)

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
        """Forward work that the backward pass does again."""
        return self.expression("recompute")

    @property
    def optimizer(self) -> sympy.Expr:
        """The optimizer's update."""
        return self.expression("optimizer")

    @property
    def total(self) -> sympy.Expr:
        """The step: forward + backward + recompute + optimizer."""
        return self.expression("total")

    @property
    def parameters(self) -> sympy.Expr:
        """How many numbers the parameters are."""
        return self.expression("parameters")

    def expression(self, phase: Query = "total", component: str | None = None) -> sympy.Expr:
        """A phase, of the model or of one component, in sympy; symbols are positive whole numbers by the sizes' names.

        Raises:
            UsageError: there is no such phase or component.
        """
        return self.polynomial(phase, component).as_sympy()

    def polynomial(self, phase: Query = "total", component: str | None = None) -> Polynomial:
        """The same as monomials and coefficients.

        Raises:
            UsageError: there is no such phase or component.
        """
        if component is not None and component not in self.components:
            raise UsageError(f"there is no component {component!r}; there are: {', '.join(self.components)}")
        phases_in_a_law(phase)
        return self._summed(phase, component, lambda each: component is None or each.component == component)

    def work(self, phase: Query = "total") -> Work:
        """A phase by class of work, before any convention; each class a sympy expression.

        Raises:
            UsageError: there is no such phase, or the convention of this law does not weigh classes.
        """
        if not weighs_classes(self.convention):
            raise UsageError(f"the convention {self.convention.name} counts by itself, and not by classes of work")
        phases = phases_in_a_law(phase)
        found = {
            kind: Polynomial.sum(
                (1, law) for each, law in self.terms.items() if each.phase in phases and each.kind == kind
            ).as_sympy()
            for kind in WORK_CLASSES
        }
        return Work(**found)

    @property
    def components(self) -> tuple[str, ...]:
        """The components, as ``report.by_component`` names them; ``layer_*`` is all blocks, where depth is a size."""
        return tuple(dict.fromkeys(each.component for each in self.terms))

    def by_component(self, phase: Query = "forward") -> dict[str, sympy.Expr]:
        """Component → its law; they sum to that of the model."""
        return {name: self.expression(phase, name) for name in self.components}

    def by_module(self, phase: Query = "forward") -> dict[str, sympy.Expr]:
        """Module path → the law of the module and all that it contains; the whole model is ``""``."""
        paths: dict[str, list[Quantity]] = {"": []}
        for each in self.terms:
            parts = each.path.split(".") if each.path else []
            for path in ("", *(".".join(parts[: i + 1]) for i in range(len(parts)))):
                paths.setdefault(path, []).append(each)
        chosen = self._weights(phase)
        return {
            path: Polynomial.sum((chosen(each), self.terms[each]) for each in members).as_sympy()
            for path, members in paths.items()
        }

    def under(self, convention: str | Path | Convention) -> Law:
        """The same law under another convention: the classes of work are weighed anew.

        Raises:
            UsageError: there is no such convention, or it, or this law's, does not weigh classes: ask
                ``graphflops.law(…, convention=…)`` for its law then.
        """
        asked = convention_named(convention)
        for each in (asked, self.convention):
            if not weighs_classes(each) and asked != self.convention:
                raise UsageError(
                    f"the convention {each.name} counts by itself, and not by classes of work: it needs a law of its "
                    f"own, law(…, convention={asked.name!r})"
                )
        return replace(self, convention=asked, _sums={})

    # -- numbers -------------------------------------------------------------------------------------------------

    def at(self, phase: Query = "total", component: str | None = None, **sizes: int) -> int:
        """The exact number at some sizes, the others as at the base.

        Raises:
            UsageError: there is no such size, phase or component, or a value that a size may not have.
        """
        return _whole(self.polynomial(phase, component)(self.filled(sizes)))

    def over(self, phase: Query = "total", component: str | None = None, **sizes: Any) -> numpy.ndarray:
        """The numbers at many sizes at once: arrays that broadcast, or numbers; int64, exact.

        Raises:
            UsageError: as ``at``; or a number does not fit into 63 bits, or numpy is not installed.
        """
        from graphflops.analysis.scaling.arrays import evaluated

        self._known(sizes)
        fixed = {name: each.at for name, each in self.sizes.items() if name not in sizes}
        free = {name: self.sizes[name] for name in sizes}
        return evaluated(self.polynomial(phase, component).put(fixed), free, sizes)

    def filled(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """All sizes: those that are given, and the base values of the others.

        Raises:
            UsageError: there is no such size, or it may not have this value.
        """
        self._known(sizes)
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or not self.sizes[name].allows(value):
                raise UsageError(f"{name} = {value!r}: this law holds for whole numbers, {self.sizes[name]}")
        return {name: sizes.get(name, each.at) for name, each in self.sizes.items()}

    def along(
        self, size: str, values: Iterable[int], phase: Query = "total", component: str | None = None
    ) -> list[int]:
        """The exact numbers at some values of one size, the others as at the base; of any length.

        Raises:
            UsageError: as ``at``.
        """
        law = self.polynomial(phase, component)
        return [_whole(law(self.filled({size: each}))) for each in values]

    # -- how it grows --------------------------------------------------------------------------------------------

    def order(self, size: str, phase: Query = "total") -> Order:
        """How the cost grows with a size: its degree, the coefficient of the highest power, and what carries it.

        Raises:
            UsageError: there is no such size or phase.
        """
        from graphflops.analysis.scaling.growth import order

        self._known([size])
        return order(self, size, phase)

    def solve(self, size: str, budget: float, phase: Query = "total", **sizes: int) -> int:
        """The largest value of a size that keeps within a budget, the other sizes as given or as at the base.

        Raises:
            UsageError: nothing does, or everything does.
        """
        from graphflops.analysis.scaling.growth import largest

        self._known([size])
        return largest(self, size, budget, phase, sizes)

    def crossover(self, other: Law, size: str, phase: Query = "total", **sizes: int) -> Crossover:
        """Where two models cost the same as a size grows; sizes that both have are this law's unless given.

        Raises:
            UsageError: one of them has no such size, or they count in different conventions.
        """
        from graphflops.analysis.scaling.growth import crossover

        if not isinstance(other, Law):
            raise UsageError(f"a law is held against another law, not against a {type(other).__name__}")
        self._known([size])
        other._known([size])
        return crossover(self, other, size, phase, sizes)

    # -- files and people ----------------------------------------------------------------------------------------

    def to_json(self, path: str | Path) -> Path:
        """Write the law to a file, from which ``from_json`` makes an equal one.

        Raises:
            UsageError: the path cannot be written.
        """
        from graphflops.analysis.scaling.law_json import dumps
        from graphflops.report.files import write_whole

        return write_whole(path, dumps(self))

    @classmethod
    def from_json(cls, path: str | Path) -> Law:
        """Read a law that ``to_json`` wrote, on a machine that needs neither the model nor torch.

        Raises:
            UsageError: there is no such file, or it is not a law of a known version.
        """
        from graphflops.analysis.scaling.law_json import load

        return load(path)

    def __str__(self) -> str:
        from graphflops.analysis.scaling.law_text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"<Law of {self.model} in {', '.join(self.sizes)} ({self.convention.name})>"

    # -- inside --------------------------------------------------------------------------------------------------

    def summed(self, phase: Query, chosen: Iterable[Quantity]) -> Polynomial:
        """The weighed sum of some of its terms in a phase."""
        weight = self._weights(phase)
        return Polynomial.sum((weight(each), self.terms[each]) for each in chosen)

    def _summed(self, phase: Query, key: str | None, belongs: Callable[[Quantity], bool]) -> Polynomial:
        if (phase, key) not in self._sums:
            self._sums[phase, key] = self.summed(phase, filter(belongs, self.terms))
        return self._sums[phase, key]

    def _weights(self, phase: Query) -> Callable[[Quantity], int]:
        """What a quantity counts in an answer about a phase."""
        phases, kinds = phases_in_a_law(phase), weights(self.convention)

        def weight(each: Quantity) -> int:
            if each.phase not in phases:
                return 0
            if each.phase == PARAMETERS:
                return 1
            return kinds.get(each.kind, 0) if each.phase in self.convention.phases else 0

        return weight

    def _known(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.sizes:
                raise UsageError(f"{self.model}'s law has no size {name!r}; it has: {', '.join(self.sizes)}")


def phases_in_a_law(phase: str) -> tuple[str, ...]:
    """The phases that a question about a law is about.

    Raises:
        UsageError: there is no such question.
    """
    return (PARAMETERS,) if phase == PARAMETERS else phases_of(phase)  # type: ignore[arg-type]


def _whole(value: int | Fraction) -> int:
    if isinstance(value, Fraction):  # what is counted is whole; a law that says otherwise did not hold there
        raise UsageError(f"the law is not whole at these sizes ({value}): the model cannot be had at them")
    return value
