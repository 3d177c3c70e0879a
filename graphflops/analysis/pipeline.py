"""analyze and capture: the stages of an analysis, composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from graphflops.analysis.arguments import (
    check_options,
    expand_patterns,
    model_and_inputs,
    report_model_errors,
)
from graphflops.analysis.attribution import attribute, flops_by_op
from graphflops.analysis.costing import apply_rules, expand_repeats
from graphflops.analysis.expansion import expand_ops
from graphflops.analysis.inputs import Inputs, InputsLike, Sizes
from graphflops.analysis.optimizers import ChosenOptimizer, OptimizerLike, choose_optimizers, names_of
from graphflops.analysis.rates.application import apply_rates
from graphflops.analysis.rates.patterns import RateLike, resolve_rates, unused_rates
from graphflops.analysis.updates import Updates, updates_of
from graphflops.core.entries import missing_rules
from graphflops.core.errors import CaptureError, MissingRules, UsageError
from graphflops.core.messages import package_version
from graphflops.graph.build import build
from graphflops.graph.critical_path import span_of
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.passes import CAPTURE_PASSES, PASSES, Pass, run_passes
from graphflops.graph.runnable import runnable
from graphflops.report.conventions import STANDARD, Convention, convention_named
from graphflops.report.parts import Costs, ModelInfo, Notes, Versions
from graphflops.report.report import Report
from graphflops.rules.fingerprints import fingerprints
from graphflops.rules.loading import RuleSource, rulebook
from graphflops.rules.unmatched import unmatched
from graphflops.tracing.attempts import trace
from graphflops.tracing.isolation.isolation import run_isolated
from graphflops.tracing.trace import Trace


@report_model_errors
def analyze(
    model: Callable[..., Any] | OpGraph,
    args: InputsLike = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    input_size: Sizes | None = None,
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
    """Count the FLOPs of a training step of a model: forward, backward and optimizer. The model is not executed.

    Args:
        model: a module, or a function of tensors. A function that calls ``backward()`` and ``optimizer.step()`` is
            analyzed as a training step of its own. Or a graph that ``capture`` returned; pass no inputs then.
        args: positional inputs, as for ``torch.export.export``; tensors may be real, meta or fake. Or one tensor, the
            shape of one, a list of shapes, a batch of a DataLoader, or a dict of keyword inputs; arrays of numpy are
            read as tensors.
        kwargs: keyword inputs.
        input_size: instead of ``args``, the shape of the input, a list of shapes, or a dict from names to shapes.
        optimizer: ``"adamw"``, ``"adam"``, ``"sgd"``, ``"sgd_momentum"``, or the name of a rule ``optimizer.NAME``; a
            class of ``torch.optim`` or its name, or an optimizer, which are counted by their own step if they have no
            rule; a list of these, where each parameter is updated by the first that accepts it; or None.
        training: count backward and the optimizer as well as forward.
        rules: additional rules, which take precedence over the shipped ones: paths of files or folders, modules, rules.
        convention: how work becomes FLOPs: a name, a .toml file, or a Convention.
        attention: backward of attention: ``"flash"`` recomputes the scores, ``"math"`` saves them.
        strict: raise if an op has no rule, if a model with trainable parameters returns nothing that requires grad, or
            if rules fail to load, instead of a warning in the report.
        expand: count the scalar operations of these ops, instead of applying their rules: patterns of targets, such as
            ``"aten.softmax*"`` or ``"my.module.*"``, or True for all. An ``autograd.Function`` that matches is one op.
            The entries of expanded ops say so.
        rates: how often modules run in a step, where that depends on data: a pattern of module paths, such as
            ``"blocks.3.*"``, to a number, an expression in the module's attributes (``"top_k/num_experts"``), bounds,
            or a rate of ``graphflops.rates``.
        fold: trace identical blocks once. The report is the same without, and takes longer.

    Raises:
        CaptureError: the model cannot be traced on these inputs; or, if strict, nothing that it returns requires grad.
        MissingRules: strict, and an op has no rule.
        RuleError: a rule is wrong, or fails to load.
        UsageError: an argument has a value that is not accepted.
    """
    check_options(
        optimizer=optimizer,
        training=training,
        rules=rules,
        convention=convention,
        attention=attention,
        strict=strict,
        rates=rates,
        fold=fold,
    )
    patterns = expand_patterns(expand)
    inputs = Inputs()
    if not isinstance(model, OpGraph):
        model, inputs = model_and_inputs(model, args, kwargs, input_size)
    elif not isinstance(args, tuple) or args or kwargs or input_size is not None:
        raise UsageError("a captured graph has its inputs already: pass none")
    elif patterns:
        raise UsageError("the ops of a captured graph cannot be expanded: analyze the model itself")
    elif model.trace.training is not training:
        raise UsageError(f"the graph was captured with training={model.trace.training}: pass the same to analyze")
    options = {"attention": attention}

    def run() -> Report:
        report_convention = convention_named(convention)
        book = rulebook(rules, strict=strict)
        optimizers = choose_optimizers(book, optimizer) if training else ()
        if isinstance(model, OpGraph):
            graph = model
        else:
            opaque = () if isinstance(patterns, bool) else tuple(pattern for pattern in patterns if pattern != "*")
            traced = trace(
                model, inputs.args, inputs.kwargs, book, grad=training, fold=fold, opaque=opaque, attributes=bool(rates)
            )
            traced = replace(traced, assumptions=(*inputs.notes, *traced.assumptions))
            graph = run_passes(build(traced, invocations=bool(patterns)))
        facts = graph.trace
        if strict and facts.no_gradient:
            raise CaptureError(facts.no_gradient)
        costs = apply_rules(graph, book, options, strict=strict)
        costs, not_expanded = expand_ops(graph, costs, patterns, book, options)
        updates = updates_of(graph, optimizers, book, options)
        unknown = (*expand_repeats(graph, costs.unknown), *updates.unknown)
        if strict and unknown:
            raise MissingRules(missing_rules(unknown), unknown)
        entries = attribute(graph, costs, updates, options, is_builtin=book.is_shipped)
        resolved = resolve_rates(rates or {}, facts.modules, facts.called, entries, facts.attributes)
        average = apply_rates(entries, facts.modules, resolved, facts.routed_modules)
        untrained = (facts.no_gradient,) if facts.no_gradient else ()
        warnings = (*book.warnings, *unmatched(book), *untrained, *facts.warnings, *not_expanded, *updates.warnings)
        notes = Notes(
            warnings=(*warnings, *unused_rates(resolved, average)),
            capture=facts.capture_notes,
            assumptions=(*facts.assumptions, *updates.assumptions),
        )
        applied = (*(rule for rule, _ in costs.costs.values()), *updates.applied)
        totals = Costs(
            average,
            unknown,
            {**resolved.modules, **resolved.operators},
            facts.routed_modules,
            Versions(package_version("graphflops"), package_version("torch"), fingerprints(applied)),
        )
        return Report(_model_info(facts, optimizers), totals, STANDARD, notes).with_convention(report_convention)

    return run_isolated(run)


@report_model_errors
def capture(
    model: Callable[..., Any],
    args: InputsLike = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    input_size: Sizes | None = None,
    training: bool = True,
    rules: Iterable[RuleSource] | None = None,
    convention: str | Path | Convention = "standard",
    attention: Literal["flash", "math"] = "flash",
    passes: Iterable[Pass] = (),
) -> OpGraph:
    """Return the graph of the operators that a model calls, after the passes. The model is not executed.

    It is a ``networkx.DiGraph``. A node has the attribute ``op``, an ``Op``, and ``flops``, its FLOPs by phase, unless
    a rule for it, or for one of its gradients, is missing; an edge has ``reads``, the tensors that go from one Op to
    the other. ``analyze`` takes such a graph instead of a model. The ATen operators that a composite call runs are
    recorded too: ``graph.inside(name)``, and ``graph.flattened()`` for the whole graph.

    Args:
        model: a module or a function, as for ``analyze``.
        args: positional inputs, as for ``analyze``.
        kwargs: keyword inputs.
        input_size: the shapes of the inputs, as for ``analyze``.
        training: compute the gradient flow as well.
        rules: additional rules; a composite operator or a module that a rule names is one node.
        convention: how work becomes FLOPs, as for ``analyze``.
        attention: backward of attention, as for ``analyze``.
        passes: passes that run after the others: each takes the graph and returns it.

    Raises:
        CaptureError: the model cannot be traced on these inputs.
        RuleError: a rule is wrong, or fails to load.
        UsageError: an argument has a value that is not accepted.
    """
    model, inputs = model_and_inputs(model, args, kwargs, input_size)
    check_options(training=training, rules=rules, convention=convention, attention=attention)
    options, user_passes = {"attention": attention}, tuple(passes)

    def run() -> OpGraph:
        flops_convention = convention_named(convention)
        book = rulebook(rules)

        def add_flops(graph: OpGraph) -> OpGraph:
            costs = apply_rules(graph, book, options)
            entries = attribute(graph, costs, Updates(), options, is_builtin=book.is_shipped)
            flops_of = flops_by_op(entries, flops_convention, graph.trace.modules)
            for name in flops_of.keys() - {op.op for op in costs.unknown}:
                graph.nodes[name]["flops"] = flops_of[name]
            for name, (_, cost) in costs.costs.items():
                graph.nodes[name]["span"] = span_of(cost)
            return graph

        traced = trace(
            model, inputs.args, inputs.kwargs, book, grad=training, storages=True, attributes=True, insides=True
        )
        traced = replace(traced, assumptions=(*inputs.notes, *traced.assumptions))
        graph = build(traced)
        graph.graph["graph_module"] = runnable(traced, model)
        return run_passes(graph, (*PASSES, add_flops, *CAPTURE_PASSES, *user_passes))

    return run_isolated(run)


def _model_info(trace: Trace, optimizers: Iterable[ChosenOptimizer]) -> ModelInfo:
    names = " + ".join(trace.optimizers) if trace.is_step else names_of(optimizers)
    return ModelInfo(
        name=trace.name,
        inputs={name: str(spec) for name, spec in trace.inputs.items()},
        parameters=trace.parameters,
        trainable=trace.trainable,
        modules=trace.modules,
        called=trace.called,
        optimizer=names or None,
        output_shapes=trace.output_shapes,
    )
