"""Attribution: the cost of each Op as entries, split into phases, under module paths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from graphflops.analysis.costing import OpCosts, call_arguments, error_context
from graphflops.core.costs import ZERO, Cost, Work, covers
from graphflops.core.entries import PHASES, Entries, Entry, Formula, Phase, PhaseWork, Range, Unknown, lazy
from graphflops.core.renaming import Renaming
from graphflops.core.sizes import Spec
from graphflops.graph.op import Op
from graphflops.graph.op_graph import OpGraph
from graphflops.report.conventions import Convention
from graphflops.rules.formulas import formula
from graphflops.rules.memo import RuleCache, is_cacheable
from graphflops.rules.rule import Rule


@dataclass(frozen=True)
class Update:
    """The update of one parameter: the rule that says what it costs, or how that was counted."""

    rule: Rule
    work: Work
    formula: Formula
    missing: tuple[str, ...] = ()
    """operators in it that no rule names"""
    assumed: tuple[str, ...] = ()
    """what was taken as given in it"""


@dataclass(frozen=True)
class Updates:
    """The updates of a model's parameters: one rule for all, or what was counted for each."""

    rule: Rule | None = None
    by_parameter: Mapping[str, Update] = field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def attribute(
    graph: OpGraph,
    costs: OpCosts,
    updates: Updates,
    options: Mapping[str, Any] | None = None,
    *,
    is_builtin: Callable[[Rule], bool] = lambda rule: False,
) -> Entries:
    """Return the entries of a graph; they sum to the total, phase by phase.

    The formula of a rule that ``is_builtin`` is written when it is read, and that of another one now: the rule may work
    on numbers alone, which is an error.
    """

    def formula_of(rule: Rule, arguments: Mapping[str, Any]) -> Formula:
        if not is_builtin(rule) or not is_cacheable(rule, arguments):
            return formula(rule, arguments)
        requested = {name: arguments[name] for name in rule.requested_names() if name in arguments}
        return lazy(lambda: formula(rule, requested))

    modules, optimizer = graph.trace.modules, updates.rule
    made: dict[str, tuple[Entry, ...]] = {}
    formulas = RuleCache(formula_of)
    by_rule = RuleCache(lambda rule, offered: (rule.evaluate(offered).forward, formula_of(rule, offered)))
    reached = {*graph.trace.reached, *(region for op in graph.ops() if op.needs_grad for region in op.reaches)}
    for op in graph.ops():
        entries: list[Entry] = []
        if op.name in costs.costs:
            rule, cost = costs.costs[op.name]
            again = _Again.of(op, reached, costs.recomputed.get(op.name, {}))
            with error_context(op):
                why = formulas.get(rule, call_arguments(op, options))
                split = _split(op, rule, cost, options)
            entries += _entries(op, rule, cost, again, why, modules, split)
        entries += _fan_in(op)
        if op.kind == "parameter" and op.fan_in and optimizer is not None:
            entries.append(_update(op, optimizer, *by_rule.get(optimizer, {"param": op.out})))
        made[op.name] = tuple(entries)
    counted = [
        _update(op, update.rule, update.work, update.formula)
        for op in (graph.every_op() if updates.by_parameter else ())
        if op.kind == "parameter" and (update := updates.by_parameter.get(op.name)) is not None
    ]
    groups: dict[tuple[str, ...], tuple[Entry, ...]] = {}
    parts: list[tuple[Renaming | None, tuple[Entry, ...]]] = []
    for renaming, names in graph.placements():
        if names not in groups:
            groups[names] = tuple(entry for name in names for entry in made[name])
        parts.append((renaming, groups[names]))
    return Entries([*parts, *([(None, tuple(counted))] if counted else [])])


def flops_by_op(
    entries: Iterable[Entry], convention: Convention, modules: Mapping[str, str]
) -> dict[str, dict[Phase, int]]:
    """Return the FLOPs of each Op in each phase in which it has any; of one that is free, an empty dict."""
    flops: dict[str, dict[Phase, int]] = {}
    for entry in entries:
        phases = flops.setdefault(entry.op, {})
        for phase in PHASES:
            if number := convention.of(entry, (phase,), modules.get(entry.path, "")):
                phases[phase] = phases.get(phase, 0) + number
    return flops


@dataclass(frozen=True)
class _Again:
    """How often an Op runs again as a whole, and the work of what else of it does."""

    times: int
    some: Work

    @classmethod
    def of(cls, op: Op, reached: Collection[Hashable], some: Mapping[Hashable, Work]) -> _Again:
        """In the checkpointed regions that gradients reach; of some of them, only a part of it runs again."""
        regions = [each for each in op.runs_again if each in reached]
        parts = [some[each] for each in regions if each in some]
        return cls(len(regions) - len(parts), sum(parts, ZERO))


Split: TypeAlias = "tuple[Work, Work]"
"""of a call in the backward pass of a step, what is done for activations, and what more for weights"""


def _split(op: Op, rule: Rule, cost: Cost, options: Mapping[str, Any] | None) -> Split | None:
    """What a call does for each kind of gradients, if it makes both."""
    mask = op.arguments.get("output_mask")
    if op.phase != "dgrad" or not op.weight_results or mask is None or "output_mask" not in rule.requested_names():
        return None
    rest = tuple(asked and i not in op.weight_results for i, asked in enumerate(mask))
    first = rule.evaluate({**call_arguments(op, options), "output_mask": rest}).forward
    more = [whole - part for whole, part in zip(cost.forward.counts(), first.counts(), strict=True)]
    return (first, Work(*more)) if min(more) >= 0 else None


def _entries(
    op: Op,
    rule: Rule,
    cost: Cost,
    again: _Again,
    why: Formula,
    modules: Collection[str],
    split: Split | None = None,
) -> Iterator[Entry]:
    """A composite cost has an entry for each of its parts; a part named after a submodule stands under its path."""
    for i, (name, part) in enumerate((cost.parts or {"": cost}).items()):
        again = again if i == 0 else replace(again, some=ZERO)
        path = f"{op.module_path}.{name}".lstrip(".")
        yield Entry(
            kind="call",
            path=path if name and path in modules else op.module_path,
            op=op.name,
            target=op.target,
            part=name,
            line=op.line,
            work=_phases(op, part, again, split),
            rule=f"{rule.name} ({rule.source})",
            about=rule.about,
            formula=_of_part(why, name) if name else why,
            elements=op.elements,
            nbytes=op.nbytes,
            operands={each.name: _shape(each.spec) for each in op.operands},
            outputs=tuple(map(_shape, op.outputs)),
            useful=_phases(op, part.useful, again) if part.useful else {},
            flags=tuple(name for name, value in op.arguments.items() if value is True),
            rate="by its rule" if part.full else "",
            ranges=_ranges(op, part, again),
            dtype=part.dtype or _dtype(op),
        )


def _ranges(op: Op, cost: Cost, again: _Again) -> dict[Range, PhaseWork]:
    """What else it would cost, where its rule says that data decides."""
    others: dict[Range, Cost | None] = {"full": cost.full, "lower": cost.lower, "upper": cost.upper}
    return {
        name: PhaseWork(_phases(op, other, again), _phases(op, other.useful, again) if other.useful else {})
        for name, other in others.items()
        if other is not None
    }


def _of_part(why: Formula, name: str) -> Formula:
    return lazy(lambda: why.parts.get(name, why))


def _phases(op: Op, cost: Cost, again: _Again, split: Split | None = None) -> dict[Phase, Work]:
    """Forward as it is, and as often again as checkpointing says so; of the gradients those that autograd computes.

    What a backward hook runs is work of the backward pass. In a program that is a step, what ran in another phase than
    forward is work of that one.
    """
    if op.hook is not None:
        return _nonzero({op.hook.phase: cost.forward})
    dgrad = wgrad = ZERO
    for key, work in cost.grads.items():
        covered = [each for each in op.operands if covers(key, each.name)]
        if not any(each.name in op.needs_grad for each in covered):
            continue
        if all(each.is_weight for each in covered):
            wgrad += work
        else:
            dgrad += work
    recompute = (cost.recompute if op.needs_grad else ZERO) + again.some
    if again.times:
        recompute += cost.forward * again.times
    if op.goes_back:
        gradients: dict[Phase, Work] = {"dgrad": dgrad, "wgrad": wgrad, "recompute": cost.recompute}
        return _nonzero(gradients if op.phase else {"forward": sum(gradients.values(), ZERO)})
    ran, of_weights = split or (_added_up(cost.forward) if op.only_accumulates else cost.forward, ZERO)
    phases: dict[Phase, Work] = {
        "forward": ZERO,
        "dgrad": dgrad,
        "wgrad": wgrad + of_weights,
        "recompute": recompute,
    }
    own: Phase = "forward" if op.phase == "" or op.phase == "backward" else op.phase
    phases[own] = phases.get(own, ZERO) + ran
    return _nonzero(phases)


def _added_up(work: Work) -> Work:
    """The work of a call that only adds up gradients."""
    return replace(work, elementwise=0, accumulate=work.elementwise + work.accumulate)


def _fan_in(op: Op) -> Iterator[Entry]:
    """Gradients that meet at a result are added: one addition an element for each beyond the first."""
    extra = sum((count - 1) * op.result(index).numel for index, count in op.fan_in.items())
    if extra == 0:
        return
    phase: Phase = "wgrad" if op.kind == "parameter" else "dgrad"
    meeting = " + ".join(f"({count} − 1)·{op.result(index).numel}" for index, count in op.fan_in.items() if count > 1)
    yield Entry(
        kind="fan-in",
        path=op.module_path,
        op=op.name,
        target="gradient fan-in",
        part="",
        line=op.line,
        work={phase: Work(accumulate=extra)},
        rule="gradient fan-in (graphflops/analysis/attribution.py)",
        about="Gradients that meet at one tensor are added: one addition an element for each beyond the first.",
        formula=Formula("0", {op.name: f"accumulate = {meeting}"}, {}),
        dtype=_dtype(op),
    )


def _update(op: Op, optimizer: Rule, work: Work, why: Formula) -> Entry:
    return Entry(
        kind="update",
        path=op.module_path,
        op=op.call,
        target=str(optimizer.targets[0]),
        part="",
        line="",
        work=_nonzero({"optimizer": work}),
        rule=f"{optimizer.name} ({optimizer.source})",
        about=optimizer.about,
        formula=why,
        dtype=_dtype(op),
    )


def _dtype(op: Op) -> str:
    """What an Op is computed in: the first floating-point dtype of its results, or else of what it reads."""
    specs = [*op.outputs, *(each.spec for each in op.operands)]
    return next((each.dtype for each in specs if each.is_floating), specs[0].dtype if specs else "")


def _shape(spec: Spec) -> tuple[int, ...]:
    return tuple(int(size) for size in spec.shape)


def _nonzero(work: Mapping[Phase, Work]) -> dict[Phase, Work]:
    return {phase: each for phase, each in work.items() if each}
