"""Attribution: the cost of each Op as entries of phases and module paths."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphflops.analysis.costing import OpCosts, call_arguments, error_context
from graphflops.analysis.updates import Update, Updates
from graphflops.core.costs import ZERO, Cost, Work, covers
from graphflops.core.entries import PHASES, Entries, Entry, Formula, Phase, PhaseWork, lazy
from graphflops.core.renaming import Renaming
from graphflops.core.sizes import Spec
from graphflops.graph.op import Op
from graphflops.graph.op_graph import OpGraph
from graphflops.report.conventions import Convention
from graphflops.rules.formulas import formula
from graphflops.rules.memo import RuleCache, is_cacheable
from graphflops.rules.rule import Rule


def attribute(
    graph: OpGraph,
    costs: OpCosts,
    updates: Updates,
    options: Mapping[str, Any] | None = None,
    *,
    is_builtin: Callable[[Rule], bool] = lambda rule: False,
) -> Entries:
    """Return the entries of a graph; they sum to the total, phase by phase.

    The formula of a rule that ``is_builtin`` is built when it is read. That of any other rule is built now, since the
    rule may fail on symbols, which is an error.
    """

    def formula_of(rule: Rule, arguments: Mapping[str, Any]) -> Formula:
        if not is_builtin(rule) or not is_cacheable(rule, arguments):
            return formula(rule, arguments)
        requested = {name: arguments[name] for name in rule.requested_names() if name in arguments}
        return lazy(lambda: formula(rule, requested))

    def update_by_rule(rule: Rule, arguments: Mapping[str, Any]) -> Update:
        return Update(rule, rule.evaluate(arguments).forward, formula_of(rule, arguments))

    modules = graph.trace.modules
    entries: dict[str, tuple[Entry, ...]] = {}
    formulas, rule_updates = RuleCache(formula_of), RuleCache(update_by_rule)
    recomputed = {
        *graph.trace.recomputed_regions,
        *(region for op in graph.ops() if op.needs_grad for region in op.recomputes),
    }
    for op in graph.ops():
        op_entries: list[Entry] = []
        if op.name in costs.costs:
            rule, cost = costs.costs[op.name]
            recompute = _Recompute.of(op, recomputed, costs.recomputed.get(op.name, {}))
            with error_context(op):
                op_formula = formulas.get(rule, call_arguments(op, options))
                split = _split(op, rule, cost, options)
            op_entries += _call_entries(op, rule, cost, recompute, op_formula, modules, split)
        op_entries += _fan_in_entry(op)
        if op.kind == "parameter" and op.fan_in and updates.rule is not None:
            op_entries.append(_update_entry(op, rule_updates.get(updates.rule, {"param": op.out})))
        entries[op.name] = tuple(op_entries)
    groups: dict[tuple[str, ...], tuple[Entry, ...]] = {}
    parts: list[tuple[Renaming | None, tuple[Entry, ...]]] = []
    for renaming, names in graph.placements():
        if names not in groups:
            groups[names] = tuple(entry for name in names for entry in entries[name])
        parts.append((renaming, groups[names]))
    if updates.by_parameter:
        parameters = (op for op in graph.every_op() if op.kind == "parameter" and op.name in updates.by_parameter)
        parts.append((None, tuple(_update_entry(op, updates.by_parameter[op.name]) for op in parameters)))
    return Entries(parts)


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
class _Recompute:
    """Recomputation of an Op in checkpointed regions."""

    times: int
    """the number of regions that run the whole Op again"""
    partial: Work
    """the work in regions that save some of its results, and so run a part of it again"""

    @classmethod
    def of(cls, op: Op, recomputed: Collection[Hashable], partial: Mapping[Hashable, Work]) -> _Recompute:
        """Return the recomputation in those regions that are ``recomputed``."""
        regions = [region for region in op.recomputed_in if region in recomputed]
        works = [partial[region] for region in regions if region in partial]
        return cls(len(regions) - len(works), sum(works, ZERO))


Split: TypeAlias = "tuple[Work, Work]"
"""of a call that computes gradients of activations and of weights: the work for the former, and the rest"""


def _split(op: Op, rule: Rule, cost: Cost, options: Mapping[str, Any] | None) -> Split | None:
    """Return the Split of a call in the backward pass of a step; None if it computes gradients of one kind."""
    mask = op.arguments.get("output_mask")
    if op.phase != "dgrad" or not op.weight_grads or mask is None or "output_mask" not in rule.requested_names():
        return None
    activations = tuple(is_needed and i not in op.weight_grads for i, is_needed in enumerate(mask))
    dgrad = rule.evaluate({**call_arguments(op, options), "output_mask": activations}).forward
    counts = [total - part for total, part in zip(cost.forward.counts(), dgrad.counts(), strict=True)]
    return (dgrad, Work(*counts)) if min(counts) >= 0 else None


def _call_entries(
    op: Op,
    rule: Rule,
    cost: Cost,
    recompute: _Recompute,
    formula: Formula,
    modules: Collection[str],
    split: Split | None = None,
) -> Iterator[Entry]:
    """Yield the entry of a call, or one for each part of a composite cost.

    A part with the name of a submodule has the submodule's path.
    """
    for i, (name, part) in enumerate((cost.parts or {"": cost}).items()):
        recompute = recompute if i == 0 else replace(recompute, partial=ZERO)
        path = f"{op.module_path}.{name}".lstrip(".")
        yield Entry(
            kind="call",
            path=path if name and path in modules else op.module_path,
            op=op.name,
            target=op.target,
            part=name,
            line=op.line,
            work=_phases(op, part, recompute, split),
            rule=f"{rule.name} ({rule.source})",
            about=rule.about,
            formula=_formula_of_part(formula, name) if name else formula,
            elements=op.elements,
            nbytes=op.nbytes,
            operands={operand.name: _shape(operand.spec) for operand in op.operands},
            outputs=tuple(map(_shape, op.outputs)),
            useful=_useful(op, part, recompute),
            flags=tuple(name for name, value in op.arguments.items() if value is True),
            rate="by its rule" if part.full else "",
            ranges=_ranges(op, part, recompute),
            dtype=part.dtype or _dtype(op),
        )


def _ranges(op: Op, cost: Cost, recompute: _Recompute) -> dict[Any, PhaseWork]:
    """Return the work at full rate and at the bounds, where the rule has a rate."""
    return {
        name: PhaseWork(_phases(op, variant, recompute), _useful(op, variant, recompute))
        for name, variant in cost.variants().items()
        if name != "useful"
    }


def _useful(op: Op, cost: Cost, recompute: _Recompute) -> dict[Phase, Work]:
    return _phases(op, cost.useful, recompute) if cost.useful else {}


def _formula_of_part(formula: Formula, name: str) -> Formula:
    return lazy(lambda: formula.parts.get(name, formula))


def _phases(op: Op, cost: Cost, recompute: _Recompute, split: Split | None = None) -> dict[Phase, Work]:
    """Return the work of a call in each phase: forward, the gradients that autograd computes, and recomputation.

    The work of a call in a backward hook is backward work. In a program that is a step, the work of a call is in the
    phase in which it ran.
    """
    if op.hook is not None:
        return _nonzero({op.hook.phase: cost.forward})
    dgrad = wgrad = ZERO
    for key, work in cost.grads.items():
        operands = [operand for operand in op.operands if covers(key, operand.name)]
        if not any(operand.name in op.needs_grad for operand in operands):
            continue
        if all(operand.is_weight for operand in operands):
            wgrad += work
        else:
            dgrad += work
    if op.is_rule_backward:
        gradients: dict[Phase, Work] = {"dgrad": dgrad, "wgrad": wgrad, "recompute": cost.recompute}
        return _nonzero(gradients if op.phase else {"forward": sum(gradients.values(), ZERO)})
    recompute_work = (cost.recompute if op.needs_grad else ZERO) + recompute.partial
    if recompute.times:
        recompute_work += cost.forward * recompute.times
    work, weight_work = split or (_as_accumulate(cost.forward) if op.only_accumulates else cost.forward, ZERO)
    phases: dict[Phase, Work] = {
        "forward": ZERO,
        "dgrad": dgrad,
        "wgrad": wgrad + weight_work,
        "recompute": recompute_work,
        "optimizer": ZERO,
    }
    phase: Phase = "forward" if op.phase == "" or op.phase == "backward" else op.phase
    phases[phase] += work
    return _nonzero(phases)


def _as_accumulate(work: Work) -> Work:
    """Return the work of a call that only adds gradients, with its additions as ``accumulate``."""
    return replace(work, elementwise=0, accumulate=work.elementwise + work.accumulate)


def _fan_in_entry(op: Op) -> Iterator[Entry]:
    """Yield the entry for the sums of gradients at the results of an Op, if a result has several gradients."""
    additions = sum((count - 1) * op.result(index).numel for index, count in op.fan_in.items())
    if additions == 0:
        return
    phase: Phase = "wgrad" if op.kind == "parameter" else "dgrad"
    terms = " + ".join(f"({count} − 1)·{op.result(index).numel}" for index, count in op.fan_in.items() if count > 1)
    yield Entry(
        kind="fan-in",
        path=op.module_path,
        op=op.name,
        target="gradient fan-in",
        part="",
        line=op.line,
        work={phase: Work(accumulate=additions)},
        rule="gradient fan-in (graphflops/analysis/attribution.py)",
        about="Gradients of one tensor are summed: for each gradient beyond the first, one addition an element.",
        formula=Formula("0", {op.name: f"accumulate = {terms}"}, {}),
        dtype=_dtype(op),
    )


def _update_entry(op: Op, update: Update) -> Entry:
    rule = update.rule
    return Entry(
        kind="update",
        path=op.module_path,
        op=op.call,
        target=str(rule.targets[0]),
        part="",
        line="",
        work=_nonzero({"optimizer": update.work}),
        rule=f"{rule.name} ({rule.source})",
        about=rule.about,
        formula=update.formula,
        dtype=_dtype(op),
    )


def _dtype(op: Op) -> str:
    """Return the dtype of the computation: the first floating-point dtype of the results, or else of the operands."""
    specs = [*op.outputs, *(operand.spec for operand in op.operands)]
    return next((spec.dtype for spec in specs if spec.is_floating), specs[0].dtype if specs else "")


def _shape(spec: Spec) -> tuple[int, ...]:
    return tuple(int(size) for size in spec.shape)


def _nonzero(phases: Mapping[Phase, Work]) -> dict[Phase, Work]:
    return {phase: work for phase, work in phases.items() if work}
