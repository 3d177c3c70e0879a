"""The fields and queries of a report: plain numbers, without torch and the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeAlias

from graphflops.core.components import REST, components
from graphflops.core.costs import ZERO, Work
from graphflops.core.entries import PHASES, Entry, Phase, Range, Unknown, counted
from graphflops.core.errors import UsageError
from graphflops.core.messages import format_value
from graphflops.core.rate import Rate, product
from graphflops.core.units import percent
from graphflops.report.conventions import Convention, convention_named

Query: TypeAlias = Literal["forward", "backward", "optimizer", "total", "dgrad", "wgrad", "recompute"]

_PHASES_OF: Mapping[str, tuple[Phase, ...]] = {
    **{phase: (phase,) for phase in PHASES},
    "backward": ("dgrad", "wgrad"),
    "total": PHASES,
}


@dataclass(frozen=True, slots=True)
class Shares:
    """A quantity of a graph by what is known of the Ops that have it."""

    counted: int = 0
    zero: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.counted + self.zero + self.unknown


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many Ops are counted, zero because a rule says so, or unknown; and how much they put out."""

    counted: int
    zero: int
    unknown: int
    elements: Shares = Shares()
    nbytes: Shares = Shares()

    @property
    def ops(self) -> int:
        """All Ops: each is exactly one of the three."""
        return self.counted + self.zero + self.unknown

    def __str__(self) -> str:
        text = f"{self.ops} ops: {self.counted} counted, {self.zero} zero by rule, {self.unknown} unknown"
        if self.unknown:
            elements = percent(self.elements.unknown, self.elements.total)
            text += f" ({elements} of output elements, {percent(self.nbytes.unknown, self.nbytes.total)} of bytes)"
        return text


class Interval(NamedTuple):
    """FLOPs where data decides: the least and the most."""

    least: int
    most: int


@dataclass(frozen=True)
class ReportData:
    """The fields of a report and the questions that it answers."""

    model: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, int]
    """parameter name → number of elements, tied ones once"""
    trainable: frozenset[str]
    optimizer_name: str | None
    convention: Convention
    modules: Mapping[str, str]
    called: frozenset[str]
    entries: Sequence[Entry]
    unknown: tuple[Unknown, ...] = ()
    warnings: tuple[str, ...] = ()
    """rules of others that were left out, and Ops that were not expanded, and why"""
    capture: tuple[str, ...] = ()
    """how the graph came about, and what of it was described by its rule instead of run"""
    assumed: tuple[str, ...] = ()
    """what was taken as given where data decides, each with the user's source line"""
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """module path or operator → the rate that was given for it"""
    routed: Mapping[str, Fraction] = field(default_factory=dict)
    """path of each module whose rows data chooses → the share of them that was taken to reach it, 1 for all"""

    # -- totals --------------------------------------------------------------------------------------------------

    def work(self, phase: Query = "total") -> Work:
        """The work of a phase by class, before any convention."""
        return _work(self.entries, phase)

    def flops(self, phase: Query = "total") -> int:
        """The FLOPs of a phase."""
        return sum(times * self._of(entry, phase) for entry, times in counted(self.entries))

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
        """FLOPs of forward work that the backward pass does again."""
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
    def useful(self) -> int:
        """FLOPs of the step without what is computed to be thrown away: causal attention as its triangle."""
        return self.under(replace(self.convention, causal="useful")).total

    @property
    def macs(self) -> int:
        """Multiply-adds of matmul and convolution in the forward pass, the number that many papers call FLOPs."""
        return _int(self.work("forward").macs)

    # -- where data decides --------------------------------------------------------------------------------------

    @property
    def full(self) -> Self:
        """The same graph if everything in it ran: at rate 1. What is here against it is active against total."""
        return self._at("full")

    @property
    def least(self) -> Self:
        """The same at the least that data can make of it, as far as rates say it."""
        return self._at("least")

    @property
    def most(self) -> Self:
        """The same at the most that data can make of it, as far as rates say it."""
        return self._at("most")

    @property
    def is_interval(self) -> bool:
        """Whether data decides between a least and a most: then ``forward``, ``total``, … are one number between."""
        return any("most" in entry.ranges for entry in self.entries)

    def interval(self, phase: Query = "total") -> Interval:
        """The least and the most FLOPs of a phase. The plain numbers are what is expected, or where no rate says what
        to expect, the most.
        """
        return Interval(self.least.flops(phase), self.most.flops(phase))

    @property
    def active_parameters(self) -> int:
        """Parameters at the rates of the modules that hold them, each rounded down: those that one token meets."""
        return sum(self._active(name, size) for name, size in self.parameters.items())

    def _active(self, name: str, size: int) -> int:
        if not self.rates and not self.routed:
            return size
        paths = _outwards(name.rpartition(".")[0])
        rate = product(self.rates.get(path, self.routed.get(path, Fraction(1))) for path in paths).expected
        return size * rate.numerator // rate.denominator

    def _at(self, range: Range) -> Self:
        entries = self.entries
        if any(entry.ranges for entry in entries):
            entries = tuple(entry.at(range) for entry in entries)
        if range == "full":
            return replace(self, entries=entries, rates={}, routed={})
        return replace(self, entries=entries)

    # -- queries, by fvcore's names ------------------------------------------------------------------------------

    def by_module(self, phase: Query = "forward") -> dict[str, int]:
        """Module path → FLOPs of the module and all it contains; the whole model is ``""``."""
        found = dict.fromkeys(self.modules, 0)
        own: Counter[str] = Counter()
        for entry in self.entries:
            own[entry.path] += self._of(entry, phase)
        for inner, flops in own.items():
            for path in _outwards(inner):
                found[path] = found.get(path, 0) + flops
        return found

    def by_operator(self, phase: Query = "forward") -> Counter[str]:
        """Operator → FLOPs, the most expensive first; the optimizer and gradient fan-in by name, where they cost."""
        found: Counter[str] = Counter()
        for entry in self.entries:
            flops = self._of(entry, phase)
            if flops or entry.kind == "call":
                found[entry.operator] += flops
        return Counter(dict(found.most_common()))

    def by_module_and_operator(self, phase: Query = "forward") -> dict[str, Counter[str]]:
        """Module path → operator → FLOPs."""
        found: dict[str, Counter[str]] = {path: Counter() for path in self.modules}
        own: dict[str, Counter[str]] = {}
        for entry in self.entries:
            flops = self._of(entry, phase)
            if flops or entry.kind == "call":
                own.setdefault(entry.path, Counter())[entry.operator] += flops
        for inner, counts in own.items():
            for path in _outwards(inner):
                counter = found.setdefault(path, Counter())
                for operator, flops in counts.items():
                    counter[operator] += flops
        return found

    def by_component(self, phase: Query = "forward") -> dict[str, int]:
        """Component → FLOPs; they sum to the total. See ``graphflops.core.components``."""
        component = components(self.modules)
        flops: Counter[str] = Counter()
        worked = set()
        for entry in self.entries:
            name = component[_nearest(entry.path, component)]
            flops[name] += self._of(entry, phase)
            if entry.work or name != REST:
                worked.add(name)
        return {name: flops[name] for name in dict.fromkeys(component.values()) if name in worked}

    def by_dtype(self, phase: Query = "forward") -> dict[str, Work]:
        """Dtype → the work that is computed in it, by class: FLOPs would leave out that of integers."""
        found: dict[str, Work] = {}
        for entry in self.entries:
            if work := _work((entry,), phase):
                found[entry.dtype] = found.get(entry.dtype, ZERO) + work
        return found

    def unsupported_ops(self) -> Counter[str]:
        """Target → how many Ops of it no rule speaks for; ``unknown`` has them one by one."""
        return Counter(each.target for each in self.unknown)

    def uncalled_modules(self) -> set[str]:
        """Paths of the modules that did not run; containers that only hold others do not count as such."""
        around: set[str] = set()
        for inner in self.called:
            for path in _outwards(inner):
                if path in around:
                    break  # and so is all that it is in
                around.add(path)
        return {path for path in self.modules if path not in around}

    @property
    def coverage(self) -> Coverage:
        """How much of the graph the totals cover: by Ops, by output elements and by bytes."""
        unknown = {each.op: each for each in self.unknown}
        calls: dict[str, Entry] = {}
        worked: set[str] = set()
        for entry in self.entries:
            if entry.kind == "call" and entry.op not in unknown:
                calls[entry.op] = entry
                if entry.at("full").work:
                    worked.add(entry.op)
        counted = [entry for op, entry in calls.items() if op in worked]
        zero = [entry for op, entry in calls.items() if op not in worked]
        kinds = (counted, zero, unknown.values())
        return Coverage(
            counted=len(counted),
            zero=len(zero),
            unknown=len(unknown),
            elements=Shares(*(sum(each.elements for each in kind) for kind in kinds)),
            nbytes=Shares(*(sum(each.nbytes for each in kind) for kind in kinds)),
        )

    def under(self, convention: str | Path | Convention) -> Self:
        """The same work under another convention; under a closed formula, the formula's terms.

        Raises:
            UsageError: there is no such convention, the model does not show the sizes that a formula speaks of, or
                this report has only the terms of another formula.
        """
        chosen = convention_named(convention)
        if chosen.formula == self.convention.formula:
            return replace(self, convention=chosen)
        if self.convention.formula:
            raise UsageError(
                f"a report under {self.convention.name} has only its terms: ask the report that it came of"
            )
        from graphflops.report.conventions.closed_forms import terms

        return replace(
            self, convention=chosen, entries=terms(chosen.formula, self.entries, self.parameters), unknown=()
        )

    def select(self, what: str) -> tuple[Entry, ...]:
        """The entries of a module path (and all below it), of a component, of one Op, or of all Ops of an operator.

        Raises:
            UsageError: there is none of these.
        """
        if not isinstance(what, str):
            raise UsageError(f"a module path, component or op is given by its name, not as {format_value(what)}")
        if what in self.modules:
            below = f"{what}."
            return tuple(each for each in self.entries if not what or each.path == what or each.path.startswith(below))
        component = components(self.modules)
        found = tuple(
            each
            for each in self.entries
            if what in (each.op, each.path, each.part, each.operator, component[_nearest(each.path, component)])
        )
        if not found:
            from difflib import get_close_matches

            named = {*self.modules, *component.values(), *(each.operator for each in self.entries)}
            near = get_close_matches(what, named, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else 'give a path as in by_module(), "" for all'
            raise UsageError(f"{self.model} has no module, component or op {what!r}; {hint}")
        return found

    def _of(self, entry: Entry, phase: Query) -> int:
        return self.convention.of(entry, phases_of(phase), self.modules.get(entry.path, ""))


def is_of_training(report: ReportData) -> bool | None:
    """Whether a report is of a training step, and not of a forward pass alone; None if nothing in it is trained."""
    if report.optimizer_name is not None or _work(report.entries, "backward") or _work(report.entries, "recompute"):
        return True
    return False if report.trainable else None


def _work(entries: Iterable[Entry], phase: Query) -> Work:
    phases = phases_of(phase)
    works = (times * entry.work[each] for entry, times in counted(entries) for each in phases if each in entry.work)
    return sum(works, ZERO)


def phases_of(query: Query) -> tuple[Phase, ...]:
    """The phases that a question is about.

    Raises:
        UsageError: there is no such question.
    """
    if not isinstance(query, str) or query not in _PHASES_OF:
        raise UsageError(f"there is no phase {format_value(query)}; there are: {', '.join(_PHASES_OF)}")
    return _PHASES_OF[query]


def _int(size: object) -> int:
    return int(size)  # type: ignore[call-overload, no-any-return]


def _outwards(path: str) -> Iterator[str]:
    """A path and those of the modules that it is in, the model last."""
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path


def _nearest(path: str, known: Mapping[str, str]) -> str:
    while path not in known:
        path = path.rpartition(".")[0]
    return path
