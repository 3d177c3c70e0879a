"""capture and analyze: the stages, composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from graphflops.analysis.arguments import check_inputs, check_model, check_options, expand_patterns, report_model_errors
from graphflops.analysis.attribution import Updates, attribute, flops_by_op
from graphflops.analysis.costing import apply_rules, expand_repeats
from graphflops.analysis.expansion import expand_ops
from graphflops.analysis.optimizers import OptimizerLike, chosen_optimizers, optimizer_name, updates_of
from graphflops.analysis.rates.application import apply_rates
from graphflops.analysis.rates.patterns import RateLike, resolve_rates, unused_rates
from graphflops.capture.attempts import trace
from graphflops.capture.isolation import run_isolated
from graphflops.core.entries import missing_rules
from graphflops.core.errors import CaptureError, MissingRules, UsageError
from graphflops.core.messages import format_value
from graphflops.graph.build import build
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.passes import PASSES, Pass, run_passes
from graphflops.graph.runnable import runnable
from graphflops.report.conventions import STANDARD, Convention, convention_named
from graphflops.report.parts import Costs, ModelInfo, Notes
from graphflops.report.report import Report
from graphflops.rules.book import RuleBook
from graphflops.rules.loading import RuleSource, rulebook
from graphflops.rules.unmatched import unmatched


@report_model_errors
def analyze(
    model: Callable[..., Any] | OpGraph,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    optimizer: OptimizerLike | None = "adamw",
    training: bool = True,
    rules: Iterable[RuleSource] | None = None,
    convention: str | Path | Convention = "standard",
    attention: Literal["flash", "math"] = "flash",
    strict: bool = False,
    expand: bool | Iterable[str] = False,
    rates: Mapping[str, RateLike] | None = None,
    fold: bool = True,
) -> Report:
    """Count the FLOPs of one step of a model: forward, backward and optimizer. Nothing is executed or changed.

    Args:
        model: a module, or any function of tensors; one that runs ``backward()`` and optimizers by itself is a step,
            which is split by what runs. Or a graph that ``capture`` returned, without inputs.
        args: the positional inputs, as for ``torch.export.export``; tensors may be real, meta or fake.
        kwargs: the keyword inputs.
        optimizer: ``"adamw"``, ``"adam"``, ``"sgd"``, ``"sgd_momentum"``, or a rule's ``optimizer.NAME``; one of
            ``torch.optim`` by its name, a class, or an optimizer, counted by its own step where there is no rule;
            several, of which each parameter is updated by the first that takes it; or None.
        training: count backward and the optimizer as well as forward.
        rules: rules of your own, that win over the shipped ones: paths of files or folders, modules, single rules.
        convention: how work is turned into one number of FLOPs.
        attention: whose backward attention has: ``"flash"`` recomputes the scores, ``"math"`` keeps them.
        strict: refuse a model with an Op that no rule names, one that returns nothing to be trained on although it has
            parameters that require grad, and rules that do not load, instead of reporting them.
        expand: count the single operations of Ops instead of asking their rules: patterns of targets, such as
            ``"aten.softmax*"`` or ``"my.module.*"``, or True for all. An ``autograd.Function`` that a pattern names
            is counted so as one Op. The report says which Ops were.
        rates: how often modules run in a step, where data decides: a pattern of module paths, such as
            ``"blocks.3.*"``, to a number, an expression in attributes (``"top_k/num_experts"``), bounds, or what
            ``graphflops.rates`` has.
        fold: look at blocks of equal structure once. The report is the same without, and takes longer.

    Raises:
        CaptureError: the model could not be traced on these inputs; or, strict, nothing that it returns requires grad.
        MissingRules: strict, and some Op has no rule.
        RuleError: a rule is wrong, or does not load.
        UsageError: an argument is not one of those above.
    """
    if not isinstance(model, OpGraph):
        check_model(model)
    args, kwargs = check_inputs(args, kwargs)
    check_options(
        optimizer=optimizer,
        training=training,
        rules=rules,
        convention=convention,
        strict=strict,
        rates=rates,
        fold=fold,
    )
    patterns = expand_patterns(expand)
    return run_isolated(
        lambda: _analyzed(
            model, args, kwargs, optimizer, training, rules, convention, attention, strict, patterns, rates, fold
        )
    )


@report_model_errors
def capture(
    model: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = True,
    rules: Iterable[RuleSource] | None = None,
    convention: str | Path | Convention = "standard",
    attention: Literal["flash", "math"] = "flash",
    passes: Iterable[Pass] = (),
) -> OpGraph:
    """Return the graph of the operators that a model calls, after the passes; nothing is executed.

    It is a ``networkx.DiGraph``. A node has the attribute ``op``, an ``Op``, and ``flops``, its FLOPs by phase, unless
    it has no rule; an edge has ``reads``, the tensors that its one end makes and the other reads. ``analyze`` takes
    such a graph in the place of the model.

    Args:
        model: a module or a function, as for ``analyze``.
        args: the positional inputs.
        kwargs: the keyword inputs.
        training: follow gradients too.
        rules: rules of your own: a composite operator or a module that a rule names is one node.
        convention: how work becomes FLOPs, as for ``analyze``.
        attention: the backward of attention, as for ``analyze``.
        passes: passes of your own, that run after the others: each takes the graph and returns it.

    Raises:
        CaptureError: the model could not be traced on these inputs.
        RuleError: a rule is wrong, or does not load.
        UsageError: an argument is not one of those above.
    """
    check_model(model)
    args, kwargs = check_inputs(args, kwargs)
    check_options(training=training, rules=rules, convention=convention)
    _check_attention(attention)
    options, chosen, own = {"attention": attention}, convention_named(convention), tuple(passes)

    def with_costs(graph: OpGraph, book: RuleBook) -> OpGraph:
        entries = attribute(graph, apply_rules(graph, book, options), Updates(), options, is_builtin=book.is_shipped)
        for name, flops in flops_by_op(entries, chosen, graph.trace.modules).items():
            graph.nodes[name]["flops"] = flops
        return graph

    def captured() -> OpGraph:
        book = rulebook(rules)
        traced = trace(model, args, kwargs, book, grad=training)
        graph = build(traced)
        graph.graph["graph_module"] = runnable(traced, model)
        return run_passes(graph, (*PASSES, lambda graph: with_costs(graph, book), *own))

    return run_isolated(captured)


def _check_graph(args: tuple[Any, ...], kwargs: Mapping[str, Any], expand: bool | Iterable[str]) -> None:
    if args or kwargs:
        raise UsageError("a captured graph has its inputs already: give none")
    if expand:
        raise UsageError("the Ops of a captured graph cannot be expanded: analyze the model itself")


def _check_attention(attention: str) -> None:
    if attention not in ("flash", "math"):
        raise UsageError(f"attention must be 'flash' or 'math', not {format_value(attention)}")


def _analyzed(
    model: Callable[..., Any] | OpGraph,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    optimizer: OptimizerLike | None,
    training: bool,
    rules: Iterable[RuleSource] | None,
    convention: str | Path | Convention,
    attention: str,
    strict: bool,
    expand: bool | Iterable[str],
    rates: Mapping[str, RateLike] | None,
    fold: bool,
) -> Report:
    chosen = convention_named(convention)
    book = rulebook(rules, strict=strict)
    _check_attention(attention)
    optimizers = chosen_optimizers(book, optimizer) if training else ()
    options = {"attention": attention}

    if isinstance(model, OpGraph):
        graph = model
        _check_graph(args, kwargs, expand)
    else:
        opaque = () if isinstance(expand, bool) else tuple(pattern for pattern in expand if pattern != "*")
        traced = trace(model, args, kwargs, book, grad=training, fold=fold, opaque=opaque)
        graph = run_passes(build(traced, invocations=bool(expand)))
    facts = graph.trace
    untrained = (facts.untrained,) if facts.untrained else ()
    if strict and untrained:
        raise CaptureError(facts.untrained)
    costs = apply_rules(graph, book, options, strict=strict)
    costs, not_expanded = expand_ops(graph, costs, expand, book, options)
    updates = updates_of(graph, optimizers, book, options)
    unknown = (*expand_repeats(graph, costs.unknown), *updates.unknown)
    if strict and unknown:
        raise MissingRules(missing_rules(unknown), unknown)
    ledger = attribute(graph, costs, updates, options, is_builtin=book.is_shipped)
    resolved = resolve_rates(rates or {}, facts.modules, facts.called, ledger, facts.attributes)
    entries = apply_rates(ledger, facts.modules, resolved, facts.routed)
    info = ModelInfo(
        name=facts.name,
        inputs={name: str(spec) for name, spec in facts.inputs.items()},
        parameters=facts.parameters,
        trainable=facts.trainable,
        modules=facts.modules,
        called=facts.called,
        optimizer=(" + ".join(facts.stepped) or None) if facts.is_step else optimizer_name(optimizers),
    )
    warnings = (*book.warnings, *unmatched(book), *untrained, *facts.warnings, *not_expanded, *updates.notes)
    notes = Notes(
        warnings=(*warnings, *unused_rates(resolved, entries)),
        capture=facts.capture,
        assumptions=(*facts.assumed, *updates.assumed),
    )
    counted = Costs(entries, unknown, {**resolved.modules, **resolved.operators}, facts.routed)
    return Report(info, counted, STANDARD, notes).with_convention(chosen)
