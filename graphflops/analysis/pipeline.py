"""analyze: the six stages, composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from graphflops.analysis.arguments import checked_inputs, checked_model, checked_options, checked_patterns, in_words
from graphflops.analysis.attribution import attribute
from graphflops.analysis.costing import apply_rules, at_every_place
from graphflops.analysis.expansion import expand_ops
from graphflops.analysis.optimizers import OptimizerLike, chosen_optimizers, optimizer_name, updates_of
from graphflops.analysis.rates.application import apply_rates
from graphflops.analysis.rates.patterns import RateLike, resolve_rates, unused_rates
from graphflops.capture import trace
from graphflops.capture.isolation import run_isolated
from graphflops.core.entries import missing_rules
from graphflops.core.errors import CaptureError, MissingRules, UsageError
from graphflops.core.messages import format_value
from graphflops.graph.build import build
from graphflops.graph.passes import run_passes
from graphflops.report.conventions import STANDARD, Convention, convention_named
from graphflops.report.report import Report
from graphflops.rules.loading import RuleSource, rulebook
from graphflops.rules.unmatched import unmatched


@in_words
def analyze(
    model: Callable[..., Any],
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
    """What one step of a model costs: traced on fake tensors, priced by rules, nothing executed, nothing changed.

    Args:
        model: a module, or any function of tensors; one that runs ``backward()`` and optimizers by itself is a step,
            which is split by what runs.
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
    checked_model(model)
    args, kwargs = checked_inputs(args, kwargs)
    checked_options(
        optimizer=optimizer,
        training=training,
        rules=rules,
        convention=convention,
        strict=strict,
        rates=rates,
        fold=fold,
    )
    patterns = checked_patterns(expand)
    return run_isolated(
        lambda: _analyzed(
            model, args, kwargs, optimizer, training, rules, convention, attention, strict, patterns, rates, fold
        )
    )


def _analyzed(
    model: Callable[..., Any],
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
    if attention not in ("flash", "math"):
        raise UsageError(f"attention must be 'flash' or 'math', not {format_value(attention)}")
    optimizers = chosen_optimizers(book, optimizer) if training else ()
    options = {"attention": attention}

    whole = () if isinstance(expand, bool) else tuple(each for each in expand if each != "*")
    traced = trace(model, args, kwargs, book, grad=training, fold=fold, whole=whole)
    untrained = (traced.untrained,) if traced.untrained else ()
    if strict and untrained:
        raise CaptureError(traced.untrained)
    graph = run_passes(build(traced, invocations=bool(expand)))
    costs = apply_rules(graph, book, options, strict=strict)
    costs, not_expanded = expand_ops(graph, costs, expand, book, options)
    updates = updates_of(graph, traced, optimizers, book, options)
    unknown = (*at_every_place(graph, costs.unknown), *updates.unknown)
    if strict and unknown:
        raise MissingRules(missing_rules(unknown), unknown)
    ledger = attribute(
        graph,
        costs,
        traced.modules,
        updates.rule,
        options,
        updates=updates.by_parameter,
        reached=traced.reached,
        is_proved=book.is_shipped,
    )
    given = resolve_rates(rates or {}, traced.modules, traced.called, ledger, traced.attributes)
    entries = apply_rates(ledger, traced.modules, given, traced.routed)
    return Report(
        model=traced.name,
        inputs={name: str(spec) for name, spec in traced.inputs.items()},
        parameters=traced.parameters,
        trainable=traced.trainable,
        optimizer_name=(" + ".join(traced.stepped) or None) if traced.is_step else optimizer_name(optimizers),
        convention=STANDARD,
        modules=traced.modules,
        called=traced.called,
        entries=entries,
        unknown=unknown,
        warnings=(
            *(*book.warnings, *unmatched(book), *untrained, *traced.warnings, *not_expanded, *updates.notes),
            *unused_rates(given, entries),
        ),
        capture=traced.capture,
        assumed=(*traced.assumed, *updates.assumed),
        rates={**given.modules, **given.operators},
        routed=traced.routed,
    ).under(chosen)
