"""Rule and @rule: the cost of one kind of call, as a function of its arguments' shapes and dtypes."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from graphflops.core.costs import Cost
from graphflops.core.errors import NotSupported, RuleError, RuleLoadError
from graphflops.core.messages import USER_EXCEPTIONS, format_error
from graphflops.core.retired import renamed_arguments
from graphflops.core.sizes import Spec
from graphflops.rules.exactness import Inexact, exact_cost, exact_count, symbols_in
from graphflops.rules.targets import Target, invalid_target, short_repr

Outputs: TypeAlias = Callable[..., "Spec | tuple[Spec, ...]"]

Example: TypeAlias = "Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | str"


_COLLECTED: ContextVar[list[Rule] | None] = ContextVar("rules made while a file loads", default=None)


@contextmanager
def collect_rules() -> Iterator[list[Rule]]:
    """Collect every rule that is made in this context, also one that a later rule of the same name replaces."""
    rules: list[Rule] = []
    token = _COLLECTED.set(rules)
    try:
        yield rules
    finally:
        _COLLECTED.reset(token)


@dataclass(frozen=True)
class Rule:
    """A FLOP formula and its targets. Made by ``@rule``; calling it calls the formula."""

    name: str
    targets: tuple[Target, ...]
    cost: Callable[..., Cost]
    file: str
    line: int
    about: str
    outputs: Outputs | None = None
    adapted_from: str = ""
    """the counter that the formula was written for, if an adapter made the rule"""
    example: Example | None = None
    """returns the arguments of a call for ``rules check``; a function, or its name ``module:function``"""

    def __post_init__(self) -> None:
        if (rules := _COLLECTED.get()) is not None:
            rules.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        """The formula itself, called with Specs and sizes."""
        return self.cost(*args, **kwargs)

    @cached_property
    def source(self) -> str:
        """``file:line`` of the formula, as ``source_of`` writes it."""
        return source_of(self.file, self.line)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature of the formula, with its annotations evaluated where they can be."""
        return _signature(self.cost)

    def requested_names(self) -> tuple[str, ...]:
        """The names of the formula's arguments."""
        return tuple(self.signature.parameters)

    def evaluate(self, arguments: Mapping[str, Any]) -> Cost:
        """The cost of a call with these operands, parameters and attributes, by name.

        Raises:
            RuleError: an argument without default is missing; the formula raises, does not return a Cost, or returns
                counts that are not whole numbers ≥ 0 or formulas in the symbols of the call's sizes.
        """
        cost: Cost = self._call(self.cost, self.signature, arguments, Cost)
        try:
            return exact_cost(cost, symbols_in(arguments))
        except Inexact as error:
            raise RuleError(f"{self.source}: rule {self.name} returned {error}") from None

    def output_specs(self, arguments: Mapping[str, Any]) -> tuple[Spec, ...]:
        """The outputs of such a call, by ``outputs=``, for a call that is not traced.

        Raises:
            RuleError: as in ``evaluate``.
        """
        assert self.outputs is not None
        result = self._call(self.outputs, inspect.signature(self.outputs), arguments, (Spec, tuple))
        specs = result if isinstance(result, tuple) else (result,)
        for spec in specs:
            if problem := _invalid_output(spec, symbols_in(arguments)):
                raise RuleError(f"{self.source}: outputs of rule {self.name}: {problem}")
        return specs

    def _call(
        self, function: Callable[..., Any], signature: inspect.Signature, arguments: Mapping[str, Any], kind: Any
    ) -> Any:
        parameters = signature.parameters
        missing = [
            name
            for name, parameter in parameters.items()
            if name not in arguments and parameter.default is parameter.empty
        ]
        if missing:
            raise RuleError(
                f"{self.source}: rule {self.name} has {listed('argument', missing)}, which the call does not provide; "
                f"available: {', '.join(sorted(arguments)) or 'none'}"
            )
        try:
            result = function(**{name: arguments[name] for name in parameters if name in arguments})
        except NotSupported:
            raise
        except Inexact as error:
            raise RuleError(f"{self.source}: rule {self.name} returned {error}") from None
        except USER_EXCEPTIONS as error:
            raise RuleError(f"{self.source}: rule {self.name} raised {format_error(error)}") from error
        if not isinstance(result, kind):
            expected = "a Cost" if kind is Cost else "a Spec or a tuple of them"
            raise RuleError(
                f"{self.source}: rule {self.name} returned {type(result).__name__}; a rule returns {expected}"
            )
        return result


def listed(noun: str, names: Collection[str]) -> str:
    """A noun and names in quotes: ``argument 'a'``, ``arguments 'a', 'b'``."""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _invalid_output(spec: Any, symbols: Collection[Any]) -> str:
    """The problem with a Spec that describes an output; empty if it is valid."""
    if not isinstance(spec, Spec):
        return f"{type(spec).__name__} where a Spec is expected"
    try:
        for axis, size in enumerate(spec.shape):
            exact_count(size, f"size {axis}", symbols)
    except Inexact as error:
        return str(error)
    except TypeError:
        return f"shape {spec.shape!r}, which is not a tuple of sizes"
    torch = sys.modules.get("torch")
    if torch and not isinstance(getattr(torch, str(spec.dtype), None), torch.dtype):
        return f"dtype {spec.dtype!r}, which PyTorch does not have"
    return ""


def source_of(file: str, line: int) -> str:
    """``file:line``, with the last two parts of the file's path; ``rules/…`` for a shipped rule."""
    path = Path(file)
    is_in_wheel = path.parent == Path(__file__).with_name("shipped")
    return f"{'/'.join(('rules', path.name) if is_in_wheel else path.parts[-2:])}:{line}"


def rule(*targets: Target, outputs: Outputs | None = None, example: Example | None = None) -> RuleDecorator:
    """Make a rule of a formula. The decorator registers nothing: a RuleBook collects rules.

    A target is a module class, an autograd.Function, a function or an operator, or its qualified name. A name of a
    class may be a pattern: ``"*.BKCoreFunction"`` matches every class whose qualified name does. A rule that names the
    class itself takes precedence over a pattern.

    The formula's arguments are requests by name: operands, parameters and attributes of the module, and ``out``, the
    Spec of the output. ``outputs`` returns the Specs of the outputs from the same names, so that a call that cannot be
    traced is not run.

    ``example`` returns ``(args, kwargs)`` of a small call, of other sizes each time if you like, that ``graphflops
    rules check`` runs and counts. For a module class the first argument is the module itself. It may be given by name,
    ``"package.module:function"``.

    Raises:
        RuleLoadError: a target is not valid, such as a number or an empty name.
    """
    for target in targets:
        if problem := invalid_target(target):
            raise RuleLoadError(problem)
    if outputs is not None and not callable(outputs):
        raise RuleLoadError(f"outputs= is {outputs!r}; expected a function")
    if example is not None and not callable(example) and not isinstance(example, str):
        raise RuleLoadError(f"example= is {example!r}; expected a function or its name")
    return RuleDecorator(targets, outputs, example)


class RuleDecorator:
    """``@rule(…)`` before it is applied. One that is never applied is a mistake: ``@rule`` without brackets."""

    def __init__(self, targets: tuple[Target, ...], outputs: Outputs | None, example: Example | None) -> None:
        self.targets, self.outputs, self.example = targets, outputs, example
        self.is_used = False

    def __call__(self, formula: Callable[..., Cost]) -> Rule:
        """The rule of a formula.

        Raises:
            RuleLoadError: it is not a function, or there is no target.
        """
        if not isinstance(formula, FunctionType):
            raise RuleLoadError(f"@rule decorates a function, not {short_repr(formula)}")
        if not self.targets:
            raise RuleLoadError(
                f"rule {formula.__name__} has no target: write @rule(torch.nn.Linear), or the target that you mean"
            )
        self.is_used = True
        code, about = formula.__code__, _about(formula)
        cost = _with_current_arguments(formula)
        source = code.co_filename, code.co_firstlineno
        return Rule(formula.__name__, self.targets, cost, *source, about, self.outputs, example=self.example)

    @property
    def problem(self) -> str:
        """The mistake in a decorator that was not applied, with file and line where known; empty if it was applied."""
        if self.is_used:
            return ""
        functions = [target for target in self.targets if isinstance(target, FunctionType)]
        if len(functions) != 1 or len(self.targets) != 1:
            return f"@rule({', '.join(map(short_repr, self.targets))}) decorates no function: put it above one"
        code = functions[0].__code__
        return (
            f"{code.co_filename}:{code.co_firstlineno}: @rule without brackets makes no rule of "
            f"{functions[0].__name__}: write @rule(TARGET, …) above it"
        )


_RENAMED_ARGUMENTS = {"flowing": "grad_outputs"}


def _with_current_arguments(formula: Callable[..., Cost]) -> Callable[..., Cost]:
    """A formula whose arguments have the names of this version; an older name warns."""
    signature = _signature(formula)
    old_names = [name for name in signature.parameters if name in _RENAMED_ARGUMENTS]
    for name in old_names:
        message = f"rule {formula.__name__}: the argument {name} is called {_RENAMED_ARGUMENTS[name]} now"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
    if not old_names:
        return formula

    @functools.wraps(formula)
    def renamed(*args: Any, **kwargs: Any) -> Cost:
        for name in old_names:
            if _RENAMED_ARGUMENTS[name] in kwargs:
                kwargs[name] = kwargs.pop(_RENAMED_ARGUMENTS[name])
        return formula(*args, **kwargs)

    parameters = [
        parameter.replace(name=_RENAMED_ARGUMENTS.get(name, name)) for name, parameter in signature.parameters.items()
    ]
    renamed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return renamed


def _signature(formula: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(formula, eval_str=True)
    except NameError:
        return inspect.signature(formula)


def check_decorators(values: Iterable[Any]) -> None:
    """Check that every ``@rule(…)`` among some values was applied to a function.

    Raises:
        RuleLoadError: one was not; the message names file and line.
    """
    for value in values:
        if issubclass(type(value), RuleDecorator) and value.problem:
            raise RuleLoadError(value.problem)


def template(name: str, about: str, targets: tuple[Target, ...], formula: Callable[..., Cost]) -> Rule:
    """A rule made by a template of ``templates.py``. Its source is the line that calls the template."""
    frame = sys._getframe(2)
    if frame.f_globals.get("__name__") == renamed_arguments.__module__:
        frame = sys._getframe(3)  # the template is decorated
    return Rule(name, targets, formula, frame.f_code.co_filename, frame.f_lineno, about)


def _about(formula: Callable[..., Cost]) -> str:
    """The docstring of a formula, without its examples."""
    return inspect.cleandoc(formula.__doc__ or "").partition(">>>")[0].strip()


def rules_of(module: ModuleType) -> Iterator[Rule]:
    """The rules defined in a module, in the order of its lines, without those it imports."""
    rules = (value for value in vars(module).values() if issubclass(type(value), Rule))  # isinstance asks placeholders
    own = {id(rule): rule for rule in rules if rule.file == module.__file__}
    return iter(sorted(own.values(), key=lambda rule: rule.line))
