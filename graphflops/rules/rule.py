"""Rule and @rule: the cost of one kind of call, as a function of its tensors' shapes and dtypes."""

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
from graphflops.core.sizes import Spec
from graphflops.rules.exactness import Inexact, count, exact, symbols_in
from graphflops.rules.targets import Target, invalid_target, short_repr

Outputs: TypeAlias = Callable[..., "Spec | tuple[Spec, ...]"]

Example: TypeAlias = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]


_MADE: ContextVar[list[Rule] | None] = ContextVar("rules made while a file loads", default=None)


@contextmanager
def collect_rules() -> Iterator[list[Rule]]:
    """Collect the rules made while this is open: two under one name in a file would leave only the second."""
    made: list[Rule] = []
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)


@dataclass(frozen=True)
class Rule:
    """One formula and the targets it speaks for. Made by ``@rule``; call it like the function it wraps."""

    name: str
    targets: tuple[Target, ...]
    cost: Callable[..., Cost]
    file: str
    line: int
    about: str
    outputs: Outputs | None = None
    adapted_from: str = ""
    """which counter's formula it is, if one was taken in by an adapter"""
    example: Example | None = None
    """makes the arguments of a call that ``rules check`` can hold the rule to"""

    def __post_init__(self) -> None:
        if (made := _MADE.get()) is not None:
            made.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Cost:
        """The formula itself, called with Specs and sizes."""
        return self.cost(*args, **kwargs)

    @cached_property
    def source(self) -> str:
        """``file:line`` of the formula, as ``source_of`` writes it."""
        return source_of(self.file, self.line)

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the rule asks for, annotations evaluated where they can be."""
        return _signature(self.cost)

    def requested_names(self) -> tuple[str, ...]:
        """The names a call must or may offer for this rule to speak."""
        return tuple(self.signature.parameters)

    def evaluate(self, offered: Mapping[str, Any]) -> Cost:
        """The cost of a call that offers these operands, parameters and attributes.

        Raises:
            RuleError: the rule asks for a name that is not offered, raises, does not return a Cost, or counts in
                anything but whole numbers that are not negative, or formulas in the symbols of the call's sizes.
        """
        cost: Cost = self._apply(self.cost, self.signature, offered, Cost)
        try:
            return exact(cost, symbols_in(offered))
        except Inexact as error:
            raise RuleError(f"{self.source}: rule {self.name} gave {error}") from None

    def output_specs(self, offered: Mapping[str, Any]) -> tuple[Spec, ...]:
        """The outputs of such a call, for what is not to be traced.

        Raises:
            RuleError: as in ``evaluate``.
        """
        assert self.outputs is not None
        described = self._apply(self.outputs, inspect.signature(self.outputs), offered, (Spec, tuple))
        outputs = described if isinstance(described, tuple) else (described,)
        for each in outputs:
            if wrong := _wrong_output(each, symbols_in(offered)):
                raise RuleError(f"{self.source}: the outputs of rule {self.name} {wrong}")
        return outputs

    def _apply(
        self, function: Callable[..., Any], signature: inspect.Signature, offered: Mapping[str, Any], kind: Any
    ) -> Any:
        asked = signature.parameters
        missing = [name for name, each in asked.items() if name not in offered and each.default is each.empty]
        if missing:
            raise RuleError(
                f"{self.source}: rule {self.name} asks for {', '.join(missing)}, "
                f"but the call offers {', '.join(sorted(offered)) or 'nothing'}"
            )
        try:
            answer = function(**{name: offered[name] for name in asked if name in offered})
        except NotSupported:
            raise
        except Inexact as error:
            raise RuleError(f"{self.source}: rule {self.name} gave {error}") from None
        except USER_EXCEPTIONS as error:
            raise RuleError(f"{self.source}: rule {self.name} raised {format_error(error)}") from error
        if not isinstance(answer, kind):
            wanted = "a Cost" if kind is Cost else "a Spec or a tuple of them"
            raise RuleError(f"{self.source}: rule {self.name} returned {type(answer).__name__}, not {wanted}")
        return answer


def _wrong_output(described: Any, known: Collection[Any]) -> str:
    """What is wrong with a Spec that describes an output, as the end of a sentence; empty if nothing is."""
    if not isinstance(described, Spec):
        return f"have a {type(described).__name__} among them, not a Spec"
    try:
        for axis, size in enumerate(described.shape):
            count(size, f"size {axis}", known)
    except Inexact as error:
        return f"have {error}"
    except TypeError:
        return f"have the shape {described.shape!r}, which is no tuple of sizes"
    torch = sys.modules.get("torch")
    if torch and not isinstance(getattr(torch, str(described.dtype), None), torch.dtype):
        return f"have the dtype {described.dtype!r}, which PyTorch does not have"
    return ""


def source_of(file: str, line: int) -> str:
    """``file:line``, the file as people name it: the last two parts of its path."""
    if Path(file).parent == Path(__file__).with_name("shipped"):  # in a wheel
        return f"rules/{Path(file).name}:{line}"
    return f"{'/'.join(Path(file).parts[-2:])}:{line}"


def rule(*targets: Target, outputs: Outputs | None = None, example: Example | None = None) -> RuleDecorator:
    """Mark a formula as the rule of its targets. It only marks: a RuleBook collects.

    A target is what is called, or its dotted name; of a class the name may be a pattern, ``"*.BKCoreFunction"``, which
    is that of every class whose dotted name is like it. A rule that names the class itself speaks over a pattern.

    The formula asks, by the names of its arguments, for what it needs: operands, parameters and attributes of the
    module, and ``out``, the Spec of the output. ``outputs`` describes the outputs from the same names, so that a
    call that cannot be traced never has to run.

    ``example`` makes ``(args, kwargs)`` of a call, small, at other sizes each time if it likes, that ``graphflops rules
    check`` runs under its witnesses; for a module class the first argument is the module itself.

    Raises:
        RuleLoadError: a target is none, such as a number or an empty name.
    """
    for target in targets:
        if wrong := invalid_target(target):
            raise RuleLoadError(wrong)
    for name, given in (("outputs", outputs), ("example", example)):
        if given is not None and not callable(given):
            raise RuleLoadError(f"{name}= is a function, not {given!r}")
    return RuleDecorator(targets, outputs, example)


class RuleDecorator:
    """``@rule(…)`` before it has a formula. One that never gets any is ``@rule`` without brackets."""

    def __init__(self, targets: tuple[Target, ...], outputs: Outputs | None, example: Example | None) -> None:
        self.targets, self.outputs, self.example = targets, outputs, example
        self.is_used = False

    def __call__(self, formula: Callable[..., Cost]) -> Rule:
        """The rule that the formula is.

        Raises:
            RuleLoadError: it is no function, or there is no target.
        """
        if not isinstance(formula, FunctionType):
            raise RuleLoadError(f"@rule marks a function, not {short_repr(formula)}")
        if not self.targets:
            raise RuleLoadError(
                f"rule {formula.__name__} has no target: write @rule(torch.nn.Linear), or whatever it is of"
            )
        self.is_used = True
        code, formula = formula.__code__, _with_current_arguments(formula)
        place = code.co_filename, code.co_firstlineno
        about = _about(formula)
        return Rule(formula.__name__, self.targets, formula, *place, about, self.outputs, example=self.example)

    @property
    def problem(self) -> str:
        """What is wrong with one that has no formula, with file and line where it is known; empty if it has one."""
        if self.is_used:
            return ""
        functions = [each for each in self.targets if isinstance(each, FunctionType)]
        if len(functions) != 1 or len(self.targets) != 1:
            return f"@rule({', '.join(map(short_repr, self.targets))}) marks no function: put it above one"
        code = functions[0].__code__
        return (
            f"{code.co_filename}:{code.co_firstlineno}: @rule without brackets makes no rule of "
            f"{functions[0].__name__}: write @rule(TARGET, …) above it"
        )


_RENAMED_ARGUMENTS = {"flowing": "grad_outputs"}


def _with_current_arguments(formula: Callable[..., Cost]) -> Callable[..., Cost]:
    """A formula whose arguments have the names of this version; a name of the last one warns."""
    signature = _signature(formula)
    retired = [name for name in signature.parameters if name in _RENAMED_ARGUMENTS]
    for name in retired:
        message = f"rule {formula.__name__}: the argument {name} is called {_RENAMED_ARGUMENTS[name]} now"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
    if not retired:
        return formula

    @functools.wraps(formula)
    def renamed(*args: Any, **kwargs: Any) -> Cost:
        for name in retired:
            if _RENAMED_ARGUMENTS[name] in kwargs:
                kwargs[name] = kwargs.pop(_RENAMED_ARGUMENTS[name])
        return formula(*args, **kwargs)

    parameters = [each.replace(name=_RENAMED_ARGUMENTS.get(name, name)) for name, each in signature.parameters.items()]
    renamed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return renamed


def _signature(formula: Callable[..., Any]) -> inspect.Signature:
    """The signature of a formula, with its annotations evaluated where they can be."""
    try:
        return inspect.signature(formula, eval_str=True)
    except NameError:
        return inspect.signature(formula)


def check_decorators(values: Iterable[Any]) -> None:
    """``@rule`` without brackets makes no rule, and says nothing by itself.

    Raises:
        RuleLoadError: there is one; the message names file and line.
    """
    for each in values:
        if issubclass(type(each), RuleDecorator) and each.problem:
            raise RuleLoadError(each.problem)


def template(name: str, about: str, targets: tuple[Target, ...], formula: Callable[..., Cost]) -> Rule:
    """A rule that is one line of a table: many operators obey the same law. Its source is that line."""
    frame = sys._getframe(2)
    return Rule(name, targets, formula, frame.f_code.co_filename, frame.f_lineno, about)


def _about(formula: Callable[..., Cost]) -> str:
    """What a formula's docstring says, without its examples."""
    return inspect.cleandoc(formula.__doc__ or "").partition(">>>")[0].strip()


def rules_of(module: ModuleType) -> Iterator[Rule]:
    """The rules defined in a module, in the order of its lines; what it imports from another is not its own."""
    held = (value for value in vars(module).values() if issubclass(type(value), Rule))  # isinstance asks placeholders
    own = {id(each): each for each in held if each.file == module.__file__}
    return iter(sorted(own.values(), key=lambda each: each.line))
