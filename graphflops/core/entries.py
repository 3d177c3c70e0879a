"""The ledger: what each Op costs in each phase, and what no rule speaks for. Plain records, without torch."""

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
"""the name of the rule of such a call, whose work is that of the Ops that it runs"""
BY_ITS_OWN_CODE = "no rule names it, so it is counted by its own forward and backward"
"""how a report says so of an autograd.Function, or an operator written in Python"""
PHASES: tuple[Phase, ...] = get_args(Phase)
Range: TypeAlias = Literal["full", "least", "most"]


class Amount(NamedTuple):
    """The work of an Op in each phase, and what of it is not computed to be thrown away, where that is less."""

    work: Mapping[Phase, Work]
    useful: Mapping[Phase, Work] = {}


@dataclass(frozen=True, slots=True)
class Formula:
    """A cost in symbols, as text: ``macs = out₀·out₁·weight₁``, and the sizes that the symbols stand for."""

    forward: str
    grads: Mapping[str, str]
    sizes: Mapping[str, int]
    parts: Mapping[str, Formula] = field(default_factory=dict)
    span: str = ""
    """the longest chain of operations that wait for each other, if the rule says it"""
    backward_span: str = ""


class Deferred:
    """A Formula that is written when somebody reads it."""

    def __init__(self, write: Callable[[], Formula]) -> None:
        self._write: Callable[[], Formula] | None = write
        self._written: Formula | None = None

    def written(self) -> Formula:
        """The Formula itself."""
        if self._written is None:
            assert self._write is not None
            self._written, self._write = self._write(), None
        return self._written

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.written(), name)

    def __eq__(self, other: object) -> bool:
        return self.written() == (other.written() if isinstance(other, Deferred) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.written())

    def __reduce__(self) -> Any:
        return replace, (self.written(),)


def deferred(write: Callable[[], Formula]) -> Formula:
    """A Formula that is written when somebody reads it: most are read by nobody."""
    made: Any = Deferred(write)
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: what one Op, or one named part of it, costs in each phase, and why."""

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
    """output elements of the call; 0 for what is no call"""
    nbytes: int = 0
    operands: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """name → shape, of every tensor that the call reads"""
    outputs: tuple[tuple[int, ...], ...] = ()
    """the shapes of its results"""
    flags: tuple[str, ...] = ()
    """the options of the call that are set, such as ``is_causal`` and ``training``"""
    useful: Mapping[Phase, Work] = field(default_factory=dict)
    """the work without what is computed to be thrown away, where that is less; empty where it is the same"""
    dtype: str = ""
    """what it is computed in: the dtype of its result, or of what it reads if the result is not floating-point"""

    rate: str = ""
    """how often it runs in a step, where data decides: ``31/50``, or ``3/10 – 4/5``"""
    ranges: Mapping[Range, Amount] = field(default_factory=dict)
    """where data decides: what it would cost if it always ran, and at the least and the most, where they differ"""

    def at(self, range: Range) -> Entry:
        """The same at another rate: as if it always ran, or at the least or the most that data can make of it."""
        if range not in self.ranges:
            return self
        amount = self.ranges[range]
        return replace(self, work=amount.work, useful=amount.useful, rate="", ranges={})

    @property
    def operator(self) -> str:
        """The short name: ``add`` of ``aten.add_.Tensor``, ``SparseMoE`` of ``graphflops.models.moe.SparseMoE``."""
        parts = self.target.split(".")
        return parts[1].removesuffix("_") if parts[0] == "aten" and len(parts) > 1 else parts[-1]


class Ledger(Sequence[Entry]):
    """All entries in order, those of equal blocks kept once.

    It is read as a tuple is. ``counted`` goes through it by what is different in it, which takes less time.
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
        return isinstance(other, (tuple, Ledger)) and self._entries == tuple(other)

    def __hash__(self) -> int:
        return hash(self._entries)

    def __repr__(self) -> str:
        return repr(self._entries)

    def counted(self) -> Iterator[tuple[Entry, int]]:
        """Entries that are different but for names, each with how often it is there."""
        times = Counter(id(entries) for _, entries in self.parts)
        for entries in {id(entries): entries for _, entries in self.parts}.values():
            for entry in entries:
                yield entry, times[id(entries)]

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


def counted(entries: Iterable[Entry]) -> Iterable[tuple[Entry, int]]:
    """Entries, each with how often it is there."""
    return entries.counted() if isinstance(entries, Ledger) else ((entry, 1) for entry in entries)


@dataclass(frozen=True, slots=True)
class Unknown:
    """An Op, or a gradient of it, that no rule speaks for. It is in the report, and never a number."""

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
        """Whether it has a floating-point result; what has none counts positions and truths, and weighs little."""
        return any("float" in each or each.startswith("complex") for each in self.outputs)


def missing_rules(unknown: Sequence[Unknown]) -> str:
    """One message for all misses: once each with a count, the largest outputs first, apart from what weighs little."""
    groups: dict[tuple[str, str], list[Unknown]] = {}
    for each in unknown:
        groups.setdefault((each.target, each.why), []).append(each)
    by_size = sorted(groups.values(), key=lambda members: -sum(each.elements for each in members))
    heavy = [members for members in by_size if members[0].is_floating]
    light = [members for members in by_size if not members[0].is_floating]
    lines = [f"no rule for {len(groups)} kind{'s' if len(groups) > 1 else ''} of call in this model", ""]
    for members in heavy:
        first = members[0]
        lines += [
            f"    {len(members)}×  {first.target}",
            f"        {first.why}; {sum(each.elements for each in members):,} output elements",
            f"        first at {first.owner or 'the model itself'}: {_arrow(first)}",
            f"        {first.line}",
        ]
    if light:
        lines += ["    and of little weight, having no floating-point result:"]
        lines += [f"    {len(each)}×  {each[0].target}, first at {each[0].line}" for each in light]
    lines += ["", "A cost left out makes the totals too small. Write a rule in a file of your own:", ""]
    lines += [f"    {line}" for line in rule_stub((heavy or light)[0][0].target).splitlines()]
    lines += ["", "then analyse with --rules my_rules.py, or rules=['my_rules.py'] in Python."]
    return "\n".join(lines)


def _arrow(unknown: Unknown) -> str:
    return f"{', '.join(unknown.inputs)} -> {', '.join(unknown.outputs)}"
