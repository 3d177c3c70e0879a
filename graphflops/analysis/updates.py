"""The cost of each parameter's update: by the rule of its optimizer, or by the operators that ``step()`` runs.

An optimizer without a rule makes two steps on fake tensors, with one parameter of each shape. The first step creates
its state and is not counted. The second is counted, as one late in training (``OPTIMIZER_STEPS_DONE``). ``foreach``,
``fused`` and ``capturable`` are off in the copy that runs, so that every operator is recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from graphflops.analysis.costing import apply_rules
from graphflops.analysis.expansion import expand_ops
from graphflops.analysis.optimizers import ChosenOptimizer, names_of, shipped_rule, step_restored
from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.entries import Formula, Unknown
from graphflops.core.errors import CaptureError, UsageError
from graphflops.core.messages import first_of, format_error
from graphflops.graph.build import build
from graphflops.graph.op import Op
from graphflops.graph.op_graph import OpGraph
from graphflops.rules.book import RuleBook
from graphflops.rules.formulas import formula
from graphflops.rules.rule import Rule
from graphflops.tracing.attempts import trace
from graphflops.tracing.recording.training_steps import disable_multi_tensor_updates
from graphflops.tracing.session.handlers import call_handler
from graphflops.tracing.values.python_numbers import OPTIMIZER_STEPS_DONE


@dataclass(frozen=True)
class Update:
    """The cost of the update of one parameter."""

    rule: Rule
    """the rule, or a description of how the update was counted"""
    work: Work
    formula: Formula
    missing: tuple[str, ...] = ()
    """operators of the update without a rule"""
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Updates:
    """The updates of a model's parameters: by one rule for all, or by parameter."""

    rule: Rule | None = None
    by_parameter: Mapping[str, Update] = field(default_factory=dict)
    unknown: tuple[Unknown, ...] = ()
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def applied(self) -> tuple[Rule, ...]:
        """The rules that the updates are counted by."""
        rules = [update.rule for update in self.by_parameter.values()]
        return tuple(rules) if self.rule is None else (self.rule, *rules)


def updates_of(
    graph: OpGraph, optimizers: Sequence[ChosenOptimizer], book: RuleBook, options: Mapping[str, Any]
) -> Updates:
    """Return the updates of all parameters that have a gradient.

    Raises:
        UsageError: the optimizers have none of these parameters.
        CaptureError: the step of an optimizer does not run on fake tensors.
    """
    if not optimizers:
        return Updates()
    if len(optimizers) == 1 and optimizers[0].rule is not None and optimizers[0].optimizer is None:
        return Updates(optimizers[0].rule)
    trained = [op for op in graph.every_op() if op.kind == "parameter" and op.fan_in]
    tensors = {op.name: graph.trace.parameter_tensors[op.call] for op in trained}
    if trained and not any(chosen.has_parameter(tensor) for chosen in optimizers for tensor in tensors.values()):
        raise UsageError(
            f"{names_of(optimizers)} has none of this model's parameters: pass an optimizer of this model, or its class"
        )
    counter = _UpdateCounter(book, options)
    updates: dict[str, Update] = {}
    unknown: list[Unknown] = []
    skipped: list[str] = []
    for op in trained:
        parameter, refusal = tensors[op.name], None
        for chosen in optimizers:
            if not chosen.has_parameter(parameter):
                continue
            update = counter.update(chosen, op, parameter)
            if isinstance(update, Update):
                updates[op.name] = update
                unknown += [_unknown(op, chosen.name, f"no rule for {name}, which it runs") for name in update.missing]
                break
            refusal = _unknown(op, chosen.name, update)
        else:
            if refusal is None:
                skipped.append(op.name)
            else:
                unknown.append(refusal)
    warnings = [f"not updated, since not in {names_of(optimizers)}: {first_of(skipped, 5)}"] if skipped else []
    assumptions = dict.fromkeys(assumption for update in updates.values() for assumption in update.assumptions)
    return Updates(None, updates, tuple(unknown), tuple(warnings), tuple(assumptions))


class _UpdateCounter:
    """Counts the updates of one analysis, equal ones once."""

    def __init__(self, book: RuleBook, options: Mapping[str, Any]) -> None:
        self.book = book
        self.options = options
        self._updates: dict[Hashable, Update | str] = {}

    def update(self, chosen: ChosenOptimizer, op: Op, parameter: torch.Tensor) -> Update | str:
        """Return the update of a parameter, or the reason why the optimizer does not accept it."""
        group = chosen.groups.get(id(parameter))
        key = (chosen, group, parameter.shape, parameter.stride(), parameter.dtype, op.out)
        if key not in self._updates:
            rule = chosen.rule
            if rule is None and group is not None:
                rule = shipped_rule(self.book, chosen.cls, chosen.optimizer.param_groups[group])
            self._updates[key] = self._by_step(chosen, parameter) if rule is None else self._by_rule(rule, op)
        return self._updates[key]

    def _by_rule(self, rule: Rule, op: Op) -> Update:
        arguments = {"param": op.out}
        return Update(rule, rule.evaluate(arguments).forward, formula(rule, arguments))

    def _by_step(self, chosen: ChosenOptimizer, parameter: torch.Tensor) -> Update | str:
        outcome = _Outcome()
        try:
            with step_restored(chosen.cls):
                traced = trace(_two_steps(chosen, parameter, outcome), (), {}, self.book, grad=False)
        except CaptureError as error:
            if outcome.refusal:
                return f"{chosen.name} does not accept it: {outcome.refusal}"
            reason = str(error) if error.__cause__ is None else format_error(error.__cause__)
            raise CaptureError(
                f"the step of {chosen.name} cannot be counted on a parameter of shape {tuple(parameter.shape)}: "
                f'{reason}\nAdd a rule for it: @rule("optimizer.{chosen.name}")'
            ) from error
        graph = build(traced, invocations=True)
        costs = apply_rules(graph, self.book, self.options)
        if costs.unknown:
            without_rule = {missing.target for missing in costs.unknown}
            costs, _ = expand_ops(graph, costs, without_rule, self.book, self.options)
        work = sum((cost.forward for _, cost in costs.costs.values()), ZERO)
        rule = _counting_rule(chosen, [rule.name for rule, _ in costs.costs.values()], work)
        missing = tuple(dict.fromkeys(op.target for op in costs.unknown))
        return Update(rule, work, formula(rule, {}), missing, traced.assumptions)


class _Outcome:
    """Set by the program that is traced: the error with which an optimizer refused the parameter."""

    _graphflops_shares_it = True  # the trace runs on copies of everything else
    refusal = ""


def _two_steps(chosen: ChosenOptimizer, parameter: torch.Tensor, outcome: _Outcome) -> Callable[[], None]:
    """Return a program of two optimizer steps, the second of which is recorded."""
    factory, existing = chosen.factory, chosen.optimizer

    def run() -> None:
        tracer: Any = call_handler()
        with tracer.paused():
            optimizer = existing
            if factory is not None:
                try:
                    optimizer = factory([parameter])
                except Exception as error:
                    outcome.refusal = format_error(error)
                    raise
            disable_multi_tensor_updates(optimizer)
            for group in optimizer.param_groups:
                for member in group["params"]:
                    member.grad = None
            parameter.grad = torch.empty_like(parameter)
            with tracer.updating(optimizer):
                optimizer.step()
            _set_steps_done(optimizer)
        optimizer.step()

    return run


def _set_steps_done(optimizer: Any) -> None:
    """Set the step counts that are Python numbers to a late step; those that are tensors get it when they are read."""
    for state in (*optimizer.state.values(), *optimizer.param_groups):
        if isinstance(state, dict) and isinstance(count := state.get("step"), (int, float)):
            state["step"] = type(count)(OPTIMIZER_STEPS_DONE)


def _counting_rule(chosen: ChosenOptimizer, rule_names: Iterable[str], work: Work) -> Rule:
    """Return a rule whose description says that the update was counted, for reports."""
    try:
        file, line = inspect.getsourcefile(chosen.cls) or "", inspect.getsourcelines(chosen.cls)[1]
    except (TypeError, OSError):
        file, line = "", 0
    names = ", ".join(dict.fromkeys(rule_names))
    about = f"Counted: the operators that its step runs on a parameter of this shape, by their rules: {names}."
    return Rule(f"{chosen.name}.step", (f"optimizer.{chosen.name}",), lambda: Cost(work), file, line, about)


def _unknown(op: Op, name: str, reason: str) -> Unknown:
    specs = tuple(map(str, op.outputs))
    return Unknown(op.name, f"optimizer.{name}", op.module_path, "", specs, specs, reason, op.elements, op.nbytes)
