"""law: from a factory of models to the law of what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, TypeAlias

from graphflops.analysis.scaling.fitting import find
from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.measurement import Quantity, observe
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.ranges import Multiples, as_ranges
from graphflops.analysis.scaling.sample_points import Points, written
from graphflops.core.errors import GraphflopsError, UsageError
from graphflops.core.messages import EXIT_EXCEPTIONS, format_error, location_of
from graphflops.report.report import Report


def law(factory: Callable[..., Any], sizes: Mapping[str, int | Multiples], **options: Any) -> Law:
    """What a model costs at any sizes: exact polynomials, found from a few traces and held to others.

    Which sizes a number depends on and in which powers is found out, not assumed; what strides and windows leave of a
    size, ⌊(N + a)/s⌋, is among it. Then the whole law is compared with the model at fresh random points, near and far,
    that had no part in finding it; it is returned only if every number is right at each of them.

    Args:
        factory: ``factory(**sizes)`` returns ``(model, args)`` or ``(model, args, kwargs)``, as for ``analyze``. It is
            called with the meta device as the default, so that large models take no memory; if the model cannot be had
            there, without. Sizes at which it raises are left out, and ``law.refused`` has them.
        sizes: the sizes by name, each a number, its base value, or ``multiples(64)`` where something has to divide it.
        options: those of ``analyze``: ``optimizer``, ``training``, ``rules``, ``convention``, ``attention``, …

    Raises:
        LawError: a number follows no law that was found; the error says which, at which sizes, and where one holds.
        UsageError: an argument is wrong.
        CaptureError: the model cannot be traced at the base sizes.
    """
    from graphflops.analysis.pipeline import analyze

    ranges = as_ranges(sizes)
    known = [name for name, each in signature(analyze).parameters.items() if each.kind is each.KEYWORD_ONLY]
    if wrong := [name for name in options if name not in known]:
        raise UsageError(f"law has no option {wrong[0]!r}; it has those of analyze: {', '.join(known)}")
    if not callable(factory):
        raise UsageError(f"factory must be a function of the sizes, not a {type(factory).__name__}")
    report, base = _reporter(factory, {name: each.at for name, each in ranges.items()}, options)
    seen = {tuple(each.at for each in ranges.values()): observe(base)}
    points = Points(ranges, lambda **at: observe(report(at)), seen, lambda **at: _parts(factory, at))
    found = find(points)
    return Law(
        model=base.model,
        sizes=ranges,
        terms=_together(found.laws, points.table().quantities),
        convention=base.convention,
        traces=len(points.seen),
        checked=tuple(points.named(point) for point in found.checked),
        refused=tuple(f"{written(points.named(point))} {reason}" for point, reason in points.refused.items()),
        unknown=tuple(base.unsupported_ops()),
    )


def _together(laws: Mapping[Quantity, Polynomial], order: Iterable[Quantity]) -> dict[Quantity, Polynomial]:
    """The calls of one operator in a module as one term."""
    members: dict[Quantity, list[Polynomial]] = {}
    for each in order:
        if each in laws:
            members.setdefault(each._replace(nth=0), []).append(laws[each])
    return {each: Polynomial.sum((1, law) for law in those) for each, those in members.items()}


Reporter: TypeAlias = Callable[[Mapping[str, int]], Report]


def _reporter(
    factory: Callable[..., Any], base: Mapping[str, int], options: Mapping[str, Any]
) -> tuple[Reporter, Report]:
    """What makes a report at some sizes, on the meta device if the model can be had there; and that of the base."""
    import torch

    from graphflops.analysis.pipeline import analyze

    def on_meta(sizes: Mapping[str, int]) -> Report:
        with torch.device("meta"):
            model, args, kwargs = _made(factory, sizes)
        return analyze(model, args, kwargs, **options)

    def as_it_is(sizes: Mapping[str, int]) -> Report:
        model, args, kwargs = _made(factory, sizes)
        return analyze(model, args, kwargs, **options)

    try:
        return on_meta, on_meta(base)
    except Exception:
        pass  # some models need values while they are built
    try:
        return as_it_is, as_it_is(base)
    except GraphflopsError:
        raise
    except Exception as error:
        raise UsageError(
            f"the factory raised {format_error(error)} at {written(base)}, "
            f"{location_of(error)}; it is called with the sizes by "
            "name, and returns (model, args) or (model, args, kwargs)"
        ) from error


def _made(factory: Callable[..., Any], sizes: Mapping[str, int]) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    try:
        made = factory(**sizes)
    except EXIT_EXCEPTIONS as error:
        raise UsageError(
            f"the factory raised {format_error(error)} at {written(sizes)}\n    {location_of(error)}"
        ) from error
    match made:
        case (model, tuple() | list() as args):
            return model, tuple(args), {}
        case (model, tuple() | list() as args, Mapping() as kwargs):
            return model, tuple(args), kwargs
    raise UsageError(
        f"the factory returned {_kind(made)}: it must return (model, args) or (model, args, kwargs), with args a tuple"
    )


def _parts(factory: Callable[..., Any], sizes: Mapping[str, int]) -> int:
    """How many modules a model has; it is only built, and on the meta device."""
    import torch

    with torch.device("meta"):
        model, _, _ = _made(factory, sizes)
    return sum(1 for _ in model.modules())


def _kind(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(each).__name__ for each in made)})"
    return type(made).__name__
