"""Which modules a pattern of rates means, and which number a rate is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, TypeAlias

from graphflops.analysis.rates.shorthand import Layers, layers
from graphflops.core.components import components
from graphflops.core.entries import Entry
from graphflops.core.errors import UsageError
from graphflops.core.expressions import evaluated
from graphflops.core.messages import try_getattr
from graphflops.core.rate import Rate, exactly

RateLike: TypeAlias = "Rate | Layers | int | float | Fraction | str | tuple[Any, ...]"
"""A number, an expression, bounds, an average depth, or a Rate."""

Attributes: TypeAlias = Callable[[str], Mapping[str, Any]]
"""Module path → the numbers among its attributes."""

AVERAGE_DEPTH = "avg_layers_executed="


@dataclass(frozen=True)
class Rates:
    """Rates as they were found: of modules, by path, and of operators, by the targets of their calls."""

    modules: Mapping[str, Rate]
    operators: Mapping[str, Rate]
    averaged: frozenset[str] = frozenset()
    """paths of the modules of which an average depth was said, so that a rate of 0 does not mean that they never run"""


def found_rates(
    rates: Mapping[str, RateLike],
    modules: Mapping[str, str],
    called: Collection[str],
    entries: Sequence[Entry],
    model: Any,
) -> Rates:
    """What the patterns mean in a model.

    A pattern is looked for among module paths, then among components, then among targets of calls and operators.
    ``blocks.3.*`` is the module ``blocks.3`` with all in it; of a list of modules, which does no work itself, each
    member. Of two patterns that mean the same module, that with more letters speaks, and of two with as many the
    later. Names in expressions are attributes of ``model``'s modules.

    Raises:
        UsageError: a pattern matches nothing, or a rate is none.
    """
    if not isinstance(rates, Mapping) or not all(isinstance(pattern, str) for pattern in rates):
        raise UsageError(f"rates must be a dict from patterns to rates, as {{'blocks.3.*': 0.62}}, not {rates!r}")
    if not rates:
        return Rates({}, {})
    working = {*called, *(each.path for each in entries if each.kind == "call")}
    inside = _Members(modules, working)
    operators = {each.target: each.operator for each in entries if each.kind == "call"}
    attributes = numbers_of(model)
    paths: dict[str, tuple[int, Rate]] = {}
    averaged: set[str] = set()
    targets: dict[str, tuple[int, Rate]] = {}
    for pattern, rate in rates.items():
        letters = sum(each not in "*?[]" for each in pattern)
        matched = _modules(pattern, modules)
        if matched:
            for outer in matched:
                members = list(inside.of(outer))
                for index, path in enumerate(members):
                    said = _rate(pattern, rate, path, attributes, index, len(members))
                    if letters >= paths.get(path, (0, said))[0]:
                        paths[path] = letters, said
                        (averaged.add if _is_average(rate) else averaged.discard)(path)
        else:
            matched = [
                target
                for target, name in operators.items()
                if fnmatchcase(target, pattern) or fnmatchcase(name, pattern)
            ]
            if not matched:
                raise UsageError(_nothing(pattern, modules, (*operators, *operators.values())))
            for each in matched:
                said = _rate(pattern, rate, "", attributes, 0, 1)
                if letters >= targets.get(each, (0, said))[0]:
                    targets[each] = letters, said
    return Rates(
        {path: rate for path, (_, rate) in paths.items()},
        {target: rate for target, (_, rate) in targets.items()},
        frozenset(averaged),
    )


def _modules(pattern: str, modules: Mapping[str, str]) -> list[str]:
    """The outermost modules that a pattern matches, as paths; ``*.`` before them may be nothing."""
    name = pattern.removesuffix(".*") or pattern
    matched = {each for each in modules if fnmatchcase(each, name) or (each and fnmatchcase(f".{each}", name))}
    if not matched:
        component = components(modules)
        matched = {each for each in modules if each and fnmatchcase(component[each], name)}
    return [each for each in modules if each in matched and not any(outer in matched for outer in around(each))]


class _Members:
    """What is in the modules of a model, and in which of them something works."""

    def __init__(self, modules: Mapping[str, str], working: Collection[str]) -> None:
        self._working = working
        self._around_work = {outer for path in working for outer in around(path)} - {""}
        self._inside: dict[str, list[str]] = {}
        for path in filter(None, modules):
            self._inside.setdefault(path.rpartition(".")[0], []).append(path)

    def of(self, path: str) -> Iterator[str]:
        """The module itself, or what a list of modules holds, whether each of these ran or not."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            if path in self._working or path not in self._around_work:
                yield path
            else:
                waiting += reversed(self._inside.get(path, ()))


def around(path: str) -> Iterator[str]:
    """The paths of the modules that a module is in, the nearest first."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def without_work(rates: Rates, entries: Sequence[Entry]) -> tuple[str, ...]:
    """What to warn of: modules that a rate was given for, and that did not run when the model was traced."""
    if not rates.modules:
        return ()
    ran = {path for each in entries if each.kind == "call" for path in (each.path, *around(each.path))}
    idle = [path for path in rates.modules if path not in ran]
    if not idle:
        return ()
    few = ", ".join(idle[:3]) + (f" and {len(idle) - 3} more" if len(idle) > 3 else "")
    return (
        f"rates were given for modules that did not run on these inputs, so that they count nothing: {few}. "
        "Of experts in a loop, each runs if there are enough tokens for all of them",
    )


def numbers_of(model: Any) -> Attributes:
    """What gives the numbers among a module's attributes, those of its ``config`` under ``config.`` among them."""

    def numbers(path: str) -> dict[str, Any]:
        module = try_getattr(model, "_orig_mod", model)
        for name in filter(None, path.split(".")):
            module = try_getattr(module, name)
        found: dict[str, Any] = {}
        for prefix, owner in (("", module), ("config.", try_getattr(module, "config"))):
            for name, value in {**vars(type(owner)), **try_getattr(owner, "__dict__", {})}.items():
                if isinstance(value, (int, float, Fraction)) and not isinstance(value, bool) and name[:1] != "_":
                    found[prefix + name] = value
        return found

    return numbers


def _is_average(rate: RateLike) -> bool:
    return isinstance(rate, Layers) or (isinstance(rate, str) and rate.strip().startswith(AVERAGE_DEPTH))


def _rate(pattern: str, rate: RateLike, path: str, attributes: Attributes, index: int, count: int) -> Rate:
    try:
        if isinstance(rate, str) and _is_average(rate):
            rate = layers(*_numbers(rate.strip().removeprefix(AVERAGE_DEPTH), path, attributes))
        if isinstance(rate, Layers):
            return rate.of(index, count)
        if isinstance(rate, Rate):
            return rate
        if isinstance(rate, str):
            numbers = _numbers(rate, path, attributes)
        elif isinstance(rate, (tuple, list)):
            numbers = [number for each in rate for number in _numbers(each, path, attributes)]
        else:
            numbers = [exactly(rate)]
        said = Rate(*numbers)
        if said.most > 1:
            raise UsageError(
                f"{said} is more than 1: a rate is of what would run always. "
                f"Of what data repeats, say graphflops.analysis.rates.Rate({float(said.most):g})"
            )
        return said
    except UsageError as error:
        raise UsageError(f"the rate of {pattern!r}: {error}") from error


def _numbers(rate: Any, path: str, attributes: Attributes) -> list[Fraction]:
    if not isinstance(rate, str):
        return [exactly(rate)]
    return [evaluated(each, lambda name: _attribute(name, path, attributes)) for each in rate.split("..")]


def _attribute(name: str, path: str, attributes: Attributes) -> Fraction:
    """A number of the nearest module, from the one concerned outwards, that has it."""
    there: dict[str, str] = {}
    for each in (path, *around(path)):
        has = attributes(each)
        if name in has:
            return exactly(has[name])
        there |= {key: each for key in has if key not in there}
    listed = ", ".join(f"{key} of {owner or 'the model'}" for key, owner in there.items()) or "none"
    near = get_close_matches(name, there, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(
        f"neither {path or 'the model'} nor a module around it has a number {name!r}{hint} There are: {listed}"
    )


def _nothing(pattern: str, modules: Mapping[str, str], operators: Iterable[str]) -> str:
    known = list(dict.fromkeys((*filter(None, modules), *components(modules).values(), *operators)))
    plain = pattern.replace("*", "").strip(".")
    near = list(dict.fromkeys([*get_close_matches(pattern, known, n=3), *get_close_matches(plain, known, n=3)]))[:3]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known[:8])}, …"
    return f"the rate of {pattern!r} is of nothing: no module, component or operator is called so; {hint}"
