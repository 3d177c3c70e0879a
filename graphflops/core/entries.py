"""Cost entries: the work of each op in each phase, and the ops that have no FLOP rule. Plain records, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, overload

from graphflops.core.costs import Work
from graphflops.core.renaming import Renaming
from graphflops.core.rule_stub import rule_stub

Phase: TypeAlias = Literal["forward", "dgrad", "wgrad", "recompute", "optimizer"]
EntryKind: TypeAlias = Literal["call", "fan-in", "update"]
OWN_CODE = "own code"
"""the rule of an entry that is counted by the ops that its own Python code runs"""
BY_ITS_OWN_CODE = "no rule names it, so it is counted by its own forward and backward"
"""the capture note on an ``autograd.Function``, or on an operator written in Python, without a rule"""
PHASES: tuple[Phase, ...] = get_args(Phase)
Range: TypeAlias = Literal["full", "lower", "upper"]


class PhaseWork(NamedTuple):
    """The work of an op by phase, and without the masked half of causal attention where that is less."""

    work: Mapping[Phase, Work]
    useful: Mapping[Phase, Work] = {}


@dataclass(frozen=True, slots=True)
class Formula:
    """A cost as text, ``macs = out₀·out₁·weight₁``, and the sizes of its symbols."""

    forward: str
    grads: Mapping[str, str]
    sizes: Mapping[str, int]
    parts: Mapping[str, Formula] = field(default_factory=dict)
    span: str = ""
    """length of the critical path, if the rule gives it"""
    backward_span: str = ""


class LazyFormula:
    """A Formula that is built when it is first read."""

    def __init__(self, build: Callable[[], Formula]) -> None:
        self._build: Callable[[], Formula] | None = build
        self._value: Formula | None = None

    @property
    def value(self) -> Formula:
        """The Formula."""
        if self._value is None:
            assert self._build is not None
            self._value, self._build = self._build(), None
        return self._value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.value, name)

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, LazyFormula) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.value)

    def __reduce__(self) -> Any:
        return replace, (self.value,)


def lazy(build: Callable[[], Formula]) -> Formula:
    """A Formula that is built when it is first read; most never are."""
    formula: Any = LazyFormula(build)
    return formula  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Entry:
    """The cost of one op, or of one named part of it: its work in each phase, and its rule."""

    kind: EntryKind
    path: str
    op: str
    target: str
    part: str
    line: str
    work: Mapping[Phase, Work]
    rule: str
    about: str
    formula: Formula
    elements: int = 0
    """output elements of a call; 0 for other kinds"""
    nbytes: int = 0
    operands: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """name → shape, of each input tensor of the call"""
    outputs: tuple[tuple[int, ...], ...] = ()
    """the shapes of its outputs"""
    flags: tuple[str, ...] = ()
    """the options of the call that are set, such as ``is_causal`` and ``training``"""
    useful: Mapping[Phase, Work] = field(default_factory=dict)
    """the work without the masked half of causal attention; empty where it is the same"""
    dtype: str = ""
    """the dtype of the computation: that of the output, or of an input if the output is not floating-point"""
    rate: str = ""
    """how often it runs in a step, if that depends on data: ``31/50``, or ``3/10 – 4/5``"""
    ranges: Mapping[Range, PhaseWork] = field(default_factory=dict)
    """if that depends on data: the work at full rate, at the lower and at the upper bound, where they differ"""

    def at(self, range: Range) -> Entry:
        """The entry at full rate, at the lower or at the upper bound."""
        if range not in self.ranges:
            return self
        work, useful = self.ranges[range]
        return replace(self, work=work, useful=useful, rate="", ranges={})

    @property
    def operator(self) -> str:
        """The short name: ``add`` of ``aten.add_.Tensor``, ``SparseMoE`` of ``graphflops.models.moe.SparseMoE``."""
        parts = self.target.split(".")
        return parts[1].removesuffix("_") if parts[0] == "aten" and len(parts) > 1 else parts[-1]


class Entries(Sequence[Entry]):
    """All entries in order, read as a tuple; those of identical blocks are stored once.

    ``distinct`` iterates over the stored ones, which takes less time.
    """

    def __init__(self, parts: Iterable[tuple[Renaming | None, tuple[Entry, ...]]]) -> None:
        self.parts = tuple(parts)
        self._all: tuple[Entry, ...] | None = None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return sum(len(entries) for _, entries in self.parts)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, Entries)) and self._entries == tuple(other)

    def __hash__(self) -> int:
        return hash(self._entries)

    def __repr__(self) -> str:
        return repr(self._entries)

    def distinct(self) -> Iterator[tuple[Entry, int]]:
        """Entries that differ in more than names, each with its number of occurrences."""
        counts = Counter(id(entries) for _, entries in self.parts)
        for entries in {id(entries): entries for _, entries in self.parts}.values():
            for entry in entries:
                yield entry, counts[id(entries)]

    @property
    def _entries(self) -> tuple[Entry, ...]:
        if self._all is None:
            self._all = tuple(
                entry if renaming is None else renamed_entry(entry, renaming)
                for renaming, entries in self.parts
                for entry in entries
            )
        return self._all


def renamed_entry(entry: Entry, renaming: Renaming) -> Entry:
    """The entry of the same call in another block."""
    op = renaming.op(entry.op)
    formula = entry.formula
    if entry.kind == "fan-in":
        formula = replace(formula, grads={renaming.op(name): text for name, text in formula.grads.items()})
    return replace(entry, path=renaming.path(entry.path), op=op, formula=formula)


def distinct_entries(entries: Iterable[Entry]) -> Iterable[tuple[Entry, int]]:
    """Entries, each with its number of occurrences."""
    return entries.distinct() if isinstance(entries, Entries) else ((entry, 1) for entry in entries)


@dataclass(frozen=True, slots=True)
class Unknown:
    """An op, or a gradient of it, without a FLOP rule; it is reported, and in no number."""

    op: str
    target: str
    owner: str
    line: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    why: str
    elements: int = 0
    nbytes: int = 0

    @property
    def is_floating(self) -> bool:
        """Whether an output is floating-point or complex; other ops do index and boolean work only."""
        return any("float" in output or output.startswith("complex") for output in self.outputs)


def missing_rules(unknown: Sequence[Unknown]) -> str:
    """One message for all unsupported ops: each target once, with a count, the largest outputs first."""
    groups: dict[tuple[str, str], list[Unknown]] = {}
    for op in unknown:
        groups.setdefault((op.target, op.why), []).append(op)
    by_size = sorted(groups.values(), key=lambda ops: -sum(op.elements for op in ops))
    floating = [ops for ops in by_size if ops[0].is_floating]
    integer = [ops for ops in by_size if not ops[0].is_floating]
    lines = [f"no rule for {len(groups)} kind{'s' if len(groups) > 1 else ''} of call in this model", ""]
    for ops in floating:
        first = ops[0]
        lines += [
            f"    {len(ops)}×  {first.target}",
            f"        {first.why}; {sum(op.elements for op in ops):,} output elements",
            f"        first at {first.owner or 'the model itself'}: {_signature(first)}",
            *([f"        {first.line}"] if first.line else []),
        ]
    if integer:
        lines += ["    also unsupported (integer/bool results only):"]
        lines += [
            f"    {len(ops)}×  {ops[0].target}, first at {ops[0].line or ops[0].owner or 'the model itself'}"
            for ops in integer
        ]
    lines += ["", "Without these ops the totals are too small. Add a rule in a file of your own:", ""]
    lines += [f"    {line}" for line in rule_stub((floating or integer)[0][0].target).splitlines()]
    lines += ["", "then analyse with --rules my_rules.py, or rules=['my_rules.py'] in Python."]
    return "\n".join(lines)


def _signature(unknown: Unknown) -> str:
    return f"{', '.join(unknown.inputs)} -> {', '.join(unknown.outputs)}"
