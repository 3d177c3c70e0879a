"""Between price and attribute: the update of each parameter, by a rule, or by the operators that the step itself runs.

A rule ``optimizer.NAME`` wins. An optimizer without one makes two steps on fake tensors, with one parameter of each
shape: the first makes its state and is not counted, the second is the one that is counted, late in training
(``OPTIMIZER_STEPS_DONE``). Operators are seen one by one: ``foreach``, ``fused`` and ``capturable`` are off in the copy
that runs.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from graphflops.analysis.attribution import Update, Updates
from graphflops.analysis.costing import apply_rules
from graphflops.analysis.expansion import expand_ops
from graphflops.capture.attempts import trace
from graphflops.capture.handlers import call_handler
from graphflops.capture.python_numbers import OPTIMIZER_STEPS_DONE
from graphflops.capture.training_steps import needs_closure, update_one_by_one
from graphflops.core.costs import ZERO
from graphflops.core.entries import Unknown
from graphflops.core.errors import CaptureError, UsageError
from graphflops.core.messages import format_error, format_value
from graphflops.graph.build import build
from graphflops.graph.op import Op
from graphflops.graph.op_graph import OpGraph
from graphflops.rules.book import RuleBook
from graphflops.rules.formulas import formula
from graphflops.rules.rule import Rule

OptimizerLike: TypeAlias = "str | torch.optim.Optimizer | Callable[..., Any] | Sequence[Any]"
"""a name, an optimizer, a class or another callable that makes one of parameters; or several of these"""


@dataclass(frozen=True)
class ChosenOptimizer:
    """One way to update parameters: by a rule, by a new optimizer of a kind, or by an optimizer that there is."""

    name: str
    rule: Rule | None = None
    make: Callable[..., Any] | None = None
    held: Any = None

    @functools.cached_property
    def groups(self) -> Mapping[int, int]:
        """id of a parameter that the optimizer holds → the number of its group."""
        groups = enumerate(self.held.param_groups) if self.held is not None else ()
        return {id(parameter): number for number, group in groups for parameter in group["params"]}

    def takes(self, parameter: torch.Tensor) -> bool:
        """Whether this is how a parameter is updated, as far as that is known before it is tried."""
        return self.held is None or id(parameter) in self.groups


# -- which optimizers ----------------------------------------------------------------------------------------------


def chosen_optimizers(book: RuleBook, given: OptimizerLike | None) -> tuple[ChosenOptimizer, ...]:
    """What ``optimizer=`` stands for; each parameter is updated by the first one that takes it.

    Raises:
        UsageError: it is no optimizer, or the name of none; the message lists those that are.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        names = given.split(",") if "," in given else [given]
        return tuple(_by_name(book, name.strip()) for name in names)
    if isinstance(given, (list, tuple)):
        return tuple(each for one in given for each in chosen_optimizers(book, one))
    if _is_optimizer(given):
        return (ChosenOptimizer(type(given).__name__, _user_rule(book, type(given)), held=given),)
    return (_by_maker(book, given),)


def _by_name(book: RuleBook, name: str) -> ChosenOptimizer:
    for spelling in (name, name.lower()):
        if (rule := book.rules.get(f"optimizer.{spelling}")) is not None:
            return ChosenOptimizer(spelling, rule)
    if (kind := _of_torch().get(name.lower())) is not None:
        return _by_maker(book, kind)
    if ("." in name or ":" in name) and (kind := _imported(name)) is not None:
        return _by_maker(book, kind)
    rules = sorted(str(key).removeprefix("optimizer.") for key, _ in book if str(key).startswith("optimizer."))
    of_torch = sorted(kind.__name__ for kind in _of_torch().values())
    raise UsageError(
        f"there is no optimizer {format_value(name)}; there are: {', '.join(rules)}, by their rules; "
        f"of torch.optim, counted by their own step: {', '.join(of_torch)}"
        "\nGive one of a package as PACKAGE.CLASS, as its class or as an optimizer that you made; or a rule of yours "
        'for it: @rule("optimizer.NAME")'
    )


def _by_maker(book: RuleBook, make: Any) -> ChosenOptimizer:
    kind = make.func if isinstance(make, functools.partial) else make
    if not (callable(kind) and (not inspect.isclass(kind) or callable(getattr(kind, "step", None)))):
        raise UsageError(
            f"{format_value(make)} makes no optimizer: give a class such as torch.optim.RMSprop, or its name"
        )
    if inspect.isclass(kind):
        _refuse_closure(kind)
    rule = _user_rule(book, kind)
    if rule is None and kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        with _as_it_was(kind):
            (group,) = make([torch.zeros(1)]).param_groups
        rule = _shipped_rule(book, kind, group)
    name = (
        rule.targets[0] if rule is not None and book.is_shipped(rule) else getattr(kind, "__name__", format_value(kind))
    )
    return ChosenOptimizer(str(name).removeprefix("optimizer."), rule, make)


def _is_optimizer(given: Any) -> bool:
    if inspect.isclass(given) or not hasattr(given, "param_groups") or not callable(getattr(given, "step", None)):
        return False
    _refuse_closure(type(given))
    return True


def _refuse_closure(kind: type) -> None:
    """What a step costs that calls its closure depends on how often it does.

    Raises:
        UsageError: the step of this optimizer does.
    """
    if needs_closure(kind):
        raise UsageError(
            f"{kind.__name__} calls a closure, forward and backward, as often as it needs: its update has no cost of "
            "its own.\nAnalyse a function that runs the whole step, with optimizer.step(closure) in it; or write a "
            f'rule for one update: @rule("optimizer.{kind.__name__}")'
        )


def _of_torch() -> dict[str, Any]:
    """The optimizers of torch by their names in small letters."""
    kinds = vars(torch.optim).values()
    return {
        kind.__name__.lower(): kind
        for kind in kinds
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }


def _imported(name: str) -> Any:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"optimizer {format_value(name)}: {format_error(error)}") from error
    return getattr(found, attribute, None)


def _user_rule(book: RuleBook, kind: Any) -> Rule | None:
    """A rule of the user's for a class, under its name."""
    name = getattr(kind, "__name__", "")
    for spelling in (name, name.lower()):
        rule = book.rules.get(f"optimizer.{spelling}")
        if rule is not None and not book.is_shipped(rule):
            return rule
    return None


def _shipped_rule(book: RuleBook, kind: Any, group: Mapping[str, Any]) -> Rule | None:
    """The shipped rule for a group of parameters, if it is of these settings."""
    plain = not any(group.get(name) for name in ("amsgrad", "maximize", "nesterov"))
    name = {torch.optim.AdamW: "adamw", torch.optim.Adam: "adam", torch.optim.SGD: "sgd"}.get(kind, "")
    if not name or not plain:
        return None
    if name != "adamw" and (group.get("weight_decay") or group.get("decoupled_weight_decay")):
        return None
    return book.rules.get(f"optimizer.{'sgd_momentum' if group.get('momentum') else name}")


# -- what they cost ------------------------------------------------------------------------------------------------


def updates_of(
    graph: OpGraph, chosen: Sequence[ChosenOptimizer], book: RuleBook, options: Mapping[str, Any]
) -> Updates:
    """The updates of all parameters that have a gradient.

    Raises:
        UsageError: optimizers were given that hold none of them.
        CaptureError: the step of one does not run on fake tensors.
    """
    if not chosen:
        return Updates()
    if len(chosen) == 1 and chosen[0].rule is not None and chosen[0].held is None:
        return Updates(chosen[0].rule)
    trained = [op for op in graph.every_op() if op.kind == "parameter" and op.fan_in]
    tensors = {op.name: graph.trace.held[op.call] for op in trained}
    if trained and not any(each.takes(tensor) for each in chosen for tensor in tensors.values()):
        raise UsageError(
            f"{_names(chosen)} holds none of this model's parameters: give the optimizer of this model, or its class, "
            "of which one is made for it"
        )
    counted = _Counted(book, options)
    updates: dict[str, Update] = {}
    unknown: list[Unknown] = []
    left: list[str] = []
    for op in trained:
        takers = [each for each in chosen if each.takes(tensors[op.name])]
        if not takers:
            left.append(op.name)
            continue
        for each in takers:
            found = counted.update(each, op, tensors[op.name])
            if isinstance(found, Update):
                updates[op.name] = found
                unknown += [_unknown(op, each.name, f"no rule names {name}, which it runs") for name in found.missing]
                break
        else:
            unknown.append(_unknown(op, each.name, str(found)))
    notes = [f"not updated, as {_names(chosen)} does not hold them: {_few(left)}"] if left else []
    assumed = dict.fromkeys(each for update in updates.values() for each in update.assumed)
    return Updates(by_parameter=updates, unknown=tuple(unknown), notes=tuple(notes), assumed=tuple(assumed))


class _Counted:
    """The updates of one analysis, each counted once."""

    def __init__(self, book: RuleBook, options: Mapping[str, Any]) -> None:
        self.book = book
        self.options = options
        self._known: dict[Any, Update | str] = {}

    def update(self, chosen: ChosenOptimizer, op: Op, parameter: torch.Tensor) -> Update | str:
        """The update of a parameter; or why this optimizer does not take it."""
        group = chosen.groups.get(id(parameter))
        key = (chosen, group, parameter.shape, parameter.stride(), parameter.dtype, op.out)
        if key not in self._known:
            rule = chosen.rule
            if rule is None and chosen.held is not None and group is not None:
                rule = _shipped_rule(self.book, type(chosen.held), chosen.held.param_groups[group])
            self._known[key] = self._by_rule(rule, op) if rule is not None else self._by_step(chosen, parameter)
        return self._known[key]

    def _by_rule(self, rule: Rule, op: Op) -> Update:
        offered = {"param": op.out}
        return Update(rule, rule.evaluate(offered).forward, formula(rule, offered))

    def _by_step(self, chosen: ChosenOptimizer, parameter: torch.Tensor) -> Update | str:
        outcome = _Outcome()
        kind = type(chosen.held) if chosen.held is not None else chosen.make
        try:
            with _as_it_was(kind):
                traced = trace(_step(chosen, parameter, outcome), (), {}, self.book, grad=False)
        except CaptureError as error:
            if outcome.refused:
                return f"{chosen.name} does not take it: {outcome.refused}"
            why = str(error) if error.__cause__ is None else format_error(error.__cause__)
            raise CaptureError(
                f"the update of {chosen.name} cannot be counted by its own step, on a parameter of shape "
                f'{tuple(parameter.shape)}: {why}\nWrite a rule for it: @rule("optimizer.{chosen.name}")'
            ) from error
        graph = build(traced, invocations=True)
        costs = apply_rules(graph, self.book, self.options)
        if costs.unknown:
            costs, _ = expand_ops(graph, costs, {each.target for each in costs.unknown}, self.book, self.options)
        work = sum((cost.forward for _, cost in costs.costs.values()), ZERO)
        rule = _counting_rule(chosen, kind, [rule.name for rule, _ in costs.costs.values()], work)
        missing = tuple(dict.fromkeys(each.target for each in costs.unknown))
        return Update(rule, work, formula(rule, {}), missing, traced.assumed)


class _Outcome:
    """Why an optimizer refused a parameter, said by the step that runs to whoever has it run."""

    _graphflops_shares_it = True  # it is no part of the program: its copy would tell nobody
    refused = ""


def _step(chosen: ChosenOptimizer, parameter: torch.Tensor, outcome: _Outcome) -> Callable[[], None]:
    """A program that makes two steps, the second of which is written down."""
    make, held = chosen.make, chosen.held

    def update() -> None:
        tracer: Any = call_handler()
        with tracer.paused():
            optimizer = held
            if make is not None:
                try:
                    optimizer = make([parameter])
                except Exception as error:
                    outcome.refused = format_error(error)
                    raise
            update_one_by_one(optimizer)
            for group in optimizer.param_groups:
                for each in group["params"]:
                    each.grad = None
            parameter.grad = torch.empty_like(parameter)
            with tracer.updating(optimizer):
                optimizer.step()
            _make_steady(optimizer)
        optimizer.step()

    return update


def _make_steady(optimizer: Any) -> None:
    """Have an optimizer that counts its own steps believe that there were many; one that asks a tensor is told so."""
    for state in (*optimizer.state.values(), *optimizer.param_groups):
        if isinstance(state, dict) and isinstance(count := state.get("step"), (int, float)):
            state["step"] = type(count)(OPTIMIZER_STEPS_DONE)


@contextmanager
def _as_it_was(kind: Any) -> Iterator[None]:
    """A class whose ``step`` PyTorch replaces when the first optimizer of it is made has its own one afterwards."""
    kind = kind.func if isinstance(kind, functools.partial) else kind
    own = vars(kind).get("step") if inspect.isclass(kind) else None
    try:
        yield
    finally:
        if inspect.isclass(kind) and vars(kind).get("step") is not own:
            type.__delattr__(kind, "step") if own is None else type.__setattr__(kind, "step", own)


def _counting_rule(chosen: ChosenOptimizer, kind: Any, operators: Iterable[str], work: Any) -> Rule:
    """How the number was found, as a rule that a report can name."""
    from graphflops.core.costs import Cost

    kind = kind.func if isinstance(kind, functools.partial) else kind
    try:
        file, line = inspect.getsourcefile(kind) or "", inspect.getsourcelines(kind)[1]
    except (TypeError, OSError):
        file, line = "", 0
    ran = ", ".join(dict.fromkeys(operators))
    about = f"Counted: the operators that its own step runs on a parameter of this shape, by their rules: {ran}."
    return Rule(f"{chosen.name}.step", (f"optimizer.{chosen.name}",), lambda: Cost(work), file, line, about)


def _unknown(op: Op, name: str, why: str) -> Unknown:
    spec = tuple(map(str, op.outputs))
    return Unknown(op.name, f"optimizer.{name}", op.module_path, "", spec, spec, why, op.elements, op.nbytes)


def optimizer_name(chosen: Sequence[ChosenOptimizer]) -> str | None:
    """What a report calls the optimizers."""
    return _names(chosen) if chosen else None


def _names(chosen: Iterable[ChosenOptimizer]) -> str:
    return " + ".join(dict.fromkeys(each.name for each in chosen))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
