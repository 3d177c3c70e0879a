"""The fields and queries of a report: plain numbers, without torch and the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self, TypeAlias

from graphflops.core.components import ROOT_COMPONENT, components, nearest, parents
from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import PHASES, Entry, Phase, Range, Unknown, distinct_entries
from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value
from graphflops.core.rate import Rate, product
from graphflops.core.retired import renamed
from graphflops.report.conventions import Convention, convention_named
from graphflops.report.conventions.closed_forms import terms
from graphflops.report.names import entries_of
from graphflops.report.parts import Bounds, Costs, Coverage, CoverageBy, ModelInfo, Notes

Query: TypeAlias = Literal["forward", "backward", "optimizer", "total", "dgrad", "wgrad", "recompute"]

_PHASES_OF: Mapping[str, tuple[Phase, ...]] = {
    **{phase: (phase,) for phase in PHASES},
    "backward": ("dgrad", "wgrad"),
    "total": PHASES,
}


@dataclass(frozen=True)
class ReportData:
    """The four parts of a report, and its queries."""

    info: ModelInfo
    costs: Costs
    convention: Convention
    notes: Notes = field(default_factory=Notes)

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        """Name of the model's class or function."""
        return self.info.name

    @property
    def inputs(self) -> Mapping[str, str]:
        """Input name → dtype and shape."""
        return self.info.inputs

    @property
    def parameters(self) -> Mapping[str, int]:
        """Parameter name → number of elements; tied parameters once."""
        return self.info.parameters

    @property
    def modules(self) -> Mapping[str, str]:
        """Module path → class name."""
        return self.info.modules

    @property
    def optimizer_name(self) -> str | None:
        """Name of the optimizer whose step is counted."""
        return self.info.optimizer

    @property
    def entries(self) -> Sequence[Entry]:
        """Cost entries: an op, or a named part of it, with its work in each phase and its rule."""
        return self.costs.entries

    @property
    def unknown(self) -> tuple[Unknown, ...]:
        """Unsupported ops: they are in no number."""
        return self.costs.unknown

    @property
    def rates(self) -> Mapping[str, Rate]:
        """Module path or operator → rate, as given."""
        return self.costs.rates

    @property
    def routed_modules(self) -> Mapping[str, Fraction]:
        """Path of each module whose input rows depend on data → share of the rows that is counted."""
        return self.costs.routed_modules

    @property
    def warnings(self) -> tuple[str, ...]:
        """Rules that were left out and ops that were not expanded, with the reason."""
        return self.notes.warnings

    @property
    def capture_notes(self) -> tuple[str, ...]:
        """How the graph was captured, and calls that were described by their rule instead of run."""
        return self.notes.capture

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Assumptions where the graph depends on data, each with its source line."""
        return self.notes.assumptions

    def with_entries(self, entries: Sequence[Entry]) -> Self:
        """The report with other cost entries."""
        return replace(self, costs=replace(self.costs, entries=entries))

    # -- totals --------------------------------------------------------------------------------------------------

    def work(self, phase: str = "total", of: str = "") -> Work:
        """Operations of a phase by class, independent of the convention; of a part of the model, as for ``flops``."""
        return _work(*self._query(phase, of))

    def flops(self, phase: str = "total", of: str = "") -> int:
        """FLOPs of a phase; of a module with its children, a component or an op, if ``of`` names one or is a pattern.

        ``flops("layer1.*")`` is ``flops("total", of="layer1.*")``.

        Raises:
            UsageError: there is no such phase, or nothing of this name.
        """
        entries, query = self._query(phase, of)
        return sum(times * self._of(entry, query) for entry, times in distinct_entries(entries))

    @property
    def forward(self) -> int:
        """FLOPs of the forward pass."""
        return self.flops("forward")

    @property
    def dgrad(self) -> int:
        """FLOPs of the gradients of activations."""
        return self.flops("dgrad")

    @property
    def wgrad(self) -> int:
        """FLOPs of the gradients of parameters."""
        return self.flops("wgrad")

    @property
    def backward(self) -> int:
        """FLOPs of all gradients: dgrad + wgrad."""
        return self.flops("backward")

    @property
    def recompute(self) -> int:
        """FLOPs of forward work that the backward pass repeats, as checkpoints do."""
        return self.flops("recompute")

    @property
    def optimizer(self) -> int:
        """FLOPs of the optimizer's update of every parameter that has a gradient."""
        return self.flops("optimizer")

    @property
    def total(self) -> int:
        """FLOPs of the step: forward + backward + recompute + optimizer."""
        return self.flops("total")

    @property
    def causal_useful(self) -> int:
        """FLOPs of the step without the masked half of causal attention."""
        return self.with_convention(replace(self.convention, causal="useful")).total

    @property
    def macs(self) -> int:
        """Multiply-adds of matmul and convolution in the forward pass, which many papers call FLOPs."""
        return _int(self.work("forward").macs)

    # -- rates ---------------------------------------------------------------------------------------------------

    @property
    def at_full_rate(self) -> Self:
        """The report at rate 1: all experts and all layers run for all rows."""
        entries = self._at("full").entries
        return replace(self, costs=replace(self.costs, entries=entries, rates={}, routed_modules={}))

    @property
    def lower_bound(self) -> Self:
        """The report at the lower bounds of all rates."""
        return self._at("lower")

    @property
    def upper_bound(self) -> Self:
        """The report at the upper bounds of all rates."""
        return self._at("upper")

    @property
    def has_bounds(self) -> bool:
        """Whether a rate has bounds, so that ``forward``, ``total``, … lie between two numbers."""
        return any("upper" in entry.ranges for entry in self.entries)

    def bounds(self, phase: Query = "total") -> Bounds:
        """Lower and upper bound of the FLOPs of a phase.

        ``flops(phase)`` is the expected value, or the upper bound where a rate has no expected value.
        """
        return Bounds(self.lower_bound.flops(phase), self.upper_bound.flops(phase))

    @property
    def active_parameters(self) -> int:
        """Parameters at the rates of their modules, each rounded down: those that one token uses."""
        return sum(self._active(name, size) for name, size in self.parameters.items())

    def _active(self, name: str, size: int) -> int:
        if not self.rates and not self.routed_modules:
            return size
        rates = (self.rates.get(path, self.routed_modules.get(path, Fraction(1))) for path in parents(name))
        rate = product(rates).expected
        return size * rate.numerator // rate.denominator

    def _at(self, range: Range) -> Self:
        if not any(entry.ranges for entry in self.entries):
            return self
        return self.with_entries(tuple(entry.at(range) for entry in self.entries))

    # -- queries, named as in fvcore -----------------------------------------------------------------------------

    def by_module(self, phase: Query = "forward") -> dict[str, int]:
        """Module path → FLOPs of the module and its children; the path of the model is ``""``."""
        totals = dict.fromkeys(self.modules, 0)
        own: Counter[str] = Counter()
        for entry in self.entries:
            own[entry.path] += self._of(entry, phase)
        for inner, flops in own.items():
            for path in (inner, *parents(inner)):
                totals[path] = totals.get(path, 0) + flops
        return totals

    def by_operator(self, phase: Query = "forward") -> Counter[str]:
        """Operator → FLOPs, the most expensive first; with optimizer and gradient fan-in, if they cost anything."""
        totals: Counter[str] = Counter()
        for entry in self.entries:
            flops = self._of(entry, phase)
            if flops or entry.kind == "call":
                totals[entry.operator] += flops
        return Counter(dict(totals.most_common()))

    def by_module_and_operator(self, phase: Query = "forward") -> dict[str, Counter[str]]:
        """Module path → operator → FLOPs."""
        totals: dict[str, Counter[str]] = {path: Counter() for path in self.modules}
        own: dict[str, Counter[str]] = {}
        for entry in self.entries:
            flops = self._of(entry, phase)
            if flops or entry.kind == "call":
                own.setdefault(entry.path, Counter())[entry.operator] += flops
        for inner, counts in own.items():
            for path in (inner, *parents(inner)):
                counter = totals.setdefault(path, Counter())
                for operator, flops in counts.items():
                    counter[operator] += flops
        return totals

    def parameters_by_module(self) -> dict[str, int]:
        """Module path → number of parameters of the module and its children; a tied one is at its first name."""
        totals = dict.fromkeys(self.modules, 0)
        for name, size in self.parameters.items():
            for path in parents(name):
                totals[path] = totals.get(path, 0) + size
        return totals

    def by_component(self, phase: Query = "forward") -> dict[str, int]:
        """Component → FLOPs, with the total as their sum; see ``graphflops.core.components``."""
        component = components(self.modules)
        flops: Counter[str] = Counter()
        with_work = set()
        for entry in self.entries:
            name = component[nearest(entry.path, component)]
            flops[name] += self._of(entry, phase)
            if entry.work or name != ROOT_COMPONENT:
                with_work.add(name)
        return {name: flops[name] for name in dict.fromkeys(component.values()) if name in with_work}

    def by_dtype(self, phase: Query = "forward") -> dict[str, Work]:
        """Dtype → operations by class, integer ones among them."""
        totals: dict[str, Work] = {}
        for entry in self.entries:
            if work := _work((entry,), phase):
                totals[entry.dtype] = totals.get(entry.dtype, ZERO) + work
        return totals

    def unsupported_ops(self) -> Counter[str]:
        """Target → number of unsupported ops; ``unknown`` lists them one by one."""
        return Counter(op.target for op in self.unknown)

    def uncalled_modules(self) -> set[str]:
        """Paths of the modules that did not run, without containers whose children ran."""
        called = {path for inner in self.info.called for path in (inner, *parents(inner))}
        return {path for path in self.modules if path not in called}

    @property
    def coverage(self) -> Coverage:
        """Coverage of the graph by ops, by output elements and by bytes."""
        unknown = {op.op: op for op in self.unknown}
        calls: dict[str, Entry] = {}
        with_work: set[str] = set()
        for entry in self.entries:
            if entry.kind == "call" and entry.op not in unknown:
                calls[entry.op] = entry
                if entry.at("full").work:
                    with_work.add(entry.op)
        counted = [entry for op, entry in calls.items() if op in with_work]
        zero = [entry for op, entry in calls.items() if op not in with_work]
        groups = (counted, zero, unknown.values())
        return Coverage(
            counted=len(counted),
            zero=len(zero),
            unknown=len(unknown),
            elements=CoverageBy(*(sum(op.elements for op in group) for group in groups)),
            nbytes=CoverageBy(*(sum(op.nbytes for op in group) for group in groups)),
        )

    def with_convention(self, convention: str | Path | Convention) -> Self:
        """The report under another convention; the work is the same, or the terms of a closed formula.

        Raises:
            UsageError: the convention does not exist, the model lacks the sizes of a formula, or this report has only
                the terms of another formula.
        """
        chosen = convention_named(convention)
        if chosen.formula == self.convention.formula:
            return replace(self, convention=chosen)
        if self.convention.formula:
            raise UsageError(
                f"a report under {self.convention.name} has only the terms of its formula: use the report from which "
                "it was made"
            )
        entries = terms(chosen.formula, self.entries, self.parameters)
        return replace(self, convention=chosen, costs=replace(self.costs, entries=entries, unknown=()))

    under = with_convention

    def select(self, name: str) -> tuple[Entry, ...]:
        """Cost entries of a module with its children, of a component, of an op, or of all ops of an operator.

        The name may be a pattern: ``"layer1.*"`` is the module ``layer1`` with everything in it, ``"*.conv1"`` all
        modules of this name, ``"aten.*norm*"`` all operators that it matches.

        Raises:
            UsageError: there is no module, component, op or operator of this name.
        """
        try:
            return entries_of(name, self.entries, self.modules)
        except UsageError as error:
            raise UsageError(f"{self.model} has {error}" if isinstance(name, str) else str(error)) from None

    useful, full, least, most = map(renamed, ("causal_useful", "at_full_rate", "lower_bound", "upper_bound"))
    interval, is_interval = renamed("bounds"), renamed("has_bounds")
    capture, assumed, routed = renamed("capture_notes"), renamed("assumptions"), renamed("routed_modules")

    def _query(self, phase: str, of: str) -> tuple[Sequence[Entry], Query]:
        """The entries of a part of the model, and the phase; a name alone asks for the total of a part."""
        is_phase = not isinstance(phase, str) or phase in _PHASES_OF
        if is_phase or of:
            phases_of(phase)  # which says which there are
            return self.select(of) if of else self.entries, phase  # type: ignore[return-value]
        try:
            return self.select(phase), "total"
        except UsageError as error:
            raise UsageError(f"there is no phase {format_value(phase)}, of {', '.join(_PHASES_OF)}; {error}") from None

    def _of(self, entry: Entry, phase: Query) -> int:
        return self.convention.of(entry, phases_of(phase), self.modules.get(entry.path, ""))


def is_of_training(report: ReportData) -> bool | None:
    """Whether a report is of a training step, not of a forward pass; None if the model has nothing to train."""
    if report.optimizer_name is not None or _work(report.entries, "backward") or _work(report.entries, "recompute"):
        return True
    return False if report.info.trainable else None


def _work(entries: Iterable[Entry], query: Query) -> Work:
    phases = phases_of(query)
    works = (
        times * entry.work[phase]
        for entry, times in distinct_entries(entries)
        for phase in phases
        if phase in entry.work
    )
    return sum(works, ZERO)


def phases_of(query: str) -> tuple[Phase, ...]:
    """The phases that a query sums.

    Raises:
        UsageError: there is no such phase.
    """
    if not isinstance(query, str) or query not in _PHASES_OF:
        raise UsageError(f"there is no phase {format_value(query)}; there are: {', '.join(_PHASES_OF)}")
    return _PHASES_OF[query]


def _int(size: object) -> int:
    return int(size)  # type: ignore[call-overload, no-any-return]
