"""Derive the law of a model: from a function of sizes to polynomials for the numbers of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, TypeAlias

from graphflops.analysis.scaling.fitting import fit
from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.quantities import Quantity, quantities_of
from graphflops.analysis.scaling.ranges import SizeRange, checked_sizes
from graphflops.analysis.scaling.sample_points import SamplePoints, format_sizes
from graphflops.core.errors import GraphflopsError, UsageError
from graphflops.core.messages import EXIT_EXCEPTIONS, format_error, location_of
from graphflops.report.report import Report


def law(factory: Callable[..., Any], sizes: Mapping[str, int | SizeRange], **options: Any) -> Law:
    """The cost of a model as exact polynomials in its sizes, fitted to a few traces and validated on others.

    The sizes and powers in each number are derived, not assumed; floors of a size, ⌊(N + a)/s⌋, as strides and windows
    have them, are included. All polynomials are then compared with the model at random points, near and far, to which
    they were not fitted; a law is returned only if each number is equal at each of them.

    Args:
        factory: ``factory(**sizes)`` returns ``(model, args)`` or ``(model, args, kwargs)``, as for ``analyze``: args
            may be a tensor or a shape. The meta device is the default device while it runs, so that large models take
            no memory; without it, if the model cannot be built there. Sizes at which it raises are left out, and listed
            in ``law.rejected``.
        sizes: the sizes by name, each a base value, or ``multiples(64)`` if something must divide it.
        options: those of ``analyze``: ``optimizer``, ``training``, ``rules``, ``convention``, ``attention``, …

    Raises:
        LawError: a number has no exact polynomial; the message names it, the sizes, and the range in which it has one.
        UsageError: an argument is wrong.
        CaptureError: the model cannot be traced at the base sizes.
    """
    from graphflops.analysis.pipeline import analyze

    ranges = checked_sizes(sizes)
    parameters = signature(analyze).parameters.values()
    option_names = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    option_names.remove("input_size")  # the factory makes the inputs
    if unknown := [name for name in options if name not in option_names]:
        raise UsageError(f"law has no option {unknown[0]!r}; it has those of analyze: {', '.join(option_names)}")
    if not callable(factory):
        raise UsageError(f"factory must be a function of the sizes, not a {type(factory).__name__}")
    report_at, base = _reporter(factory, {name: size.base for name, size in ranges.items()}, options)
    points = SamplePoints(
        ranges,
        observe=lambda **values: quantities_of(report_at(values)),
        observations={tuple(size.base for size in ranges.values()): quantities_of(base)},
        count_modules=lambda **values: _count_modules(factory, values),
    )
    fitted = fit(points)
    return Law(
        model=base.model,
        sizes=ranges,
        terms=_sum_calls(fitted.polynomials, points.table().quantities),
        convention=base.convention,
        traces=len(points.observations),
        validated=tuple(points.as_sizes(point) for point in fitted.validated),
        rejected=tuple(f"{format_sizes(points.as_sizes(point))} {reason}" for point, reason in points.rejected.items()),
        unknown=tuple(base.unsupported_ops()),
    )


def _sum_calls(
    polynomials: Mapping[Quantity, Polynomial], quantities: Iterable[Quantity]
) -> dict[Quantity, Polynomial]:
    """The calls of one operator in a module as one term."""
    calls: dict[Quantity, list[Polynomial]] = {}
    for quantity in quantities:
        if quantity in polynomials:
            calls.setdefault(quantity._replace(nth=0), []).append(polynomials[quantity])
    return {quantity: Polynomial.sum((1, polynomial) for polynomial in members) for quantity, members in calls.items()}


Reporter: TypeAlias = Callable[[Mapping[str, int]], Report]


def _reporter(
    factory: Callable[..., Any], base: Mapping[str, int], options: Mapping[str, Any]
) -> tuple[Reporter, Report]:
    """A function from sizes to reports, on the meta device if the model can be built there, and the base report."""
    import torch

    from graphflops.analysis.pipeline import analyze

    def on_meta(sizes: Mapping[str, int]) -> Report:
        with torch.device("meta"):
            model, args, kwargs = _build(factory, sizes)
        return analyze(model, args, kwargs, **options)

    def on_default_device(sizes: Mapping[str, int]) -> Report:
        model, args, kwargs = _build(factory, sizes)
        return analyze(model, args, kwargs, **options)

    try:
        return on_meta, on_meta(base)
    except Exception:
        pass  # some models need values while they are built
    try:
        return on_default_device, on_default_device(base)
    except GraphflopsError:
        raise
    except Exception as error:
        raise UsageError(
            f"the factory raised {format_error(error)} at {format_sizes(base)}, {location_of(error)}; it is called "
            "with the sizes by name, and returns (model, args) or (model, args, kwargs)"
        ) from error


def _build(factory: Callable[..., Any], sizes: Mapping[str, int]) -> tuple[Any, Any, Mapping[str, Any]]:
    try:
        result = factory(**sizes)
    except EXIT_EXCEPTIONS as error:
        raise UsageError(
            f"the factory raised {format_error(error)} at {format_sizes(sizes)}\n    {location_of(error)}"
        ) from error
    match result:
        case (model, args) if callable(model):
            return model, args, {}
        case (model, args, Mapping() as kwargs) if callable(model):
            return model, args, kwargs
    types = f"({', '.join(type(item).__name__ for item in result)})" if isinstance(result, tuple) else ""
    raise UsageError(
        f"the factory returned {types or type(result).__name__}: it must return (model, args) or "
        "(model, args, kwargs), with args as for analyze"
    )


def _count_modules(factory: Callable[..., Any], sizes: Mapping[str, int]) -> int:
    """The number of modules of a model, which is built on the meta device and not traced."""
    import torch

    with torch.device("meta"):
        model, _, _ = _build(factory, sizes)
    return sum(1 for _ in model.modules())
