"""The optimizers that ``optimizer=`` names: by a rule, a class, or an optimizer that exists.

A rule ``optimizer.NAME`` takes precedence. See ``updates`` for the cost.
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

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_error, format_value
from graphflops.rules.book import RuleBook
from graphflops.rules.rule import Rule
from graphflops.tracing.recording.training_steps import needs_closure

OptimizerLike: TypeAlias = "str | torch.optim.Optimizer | Callable[..., Any] | Sequence[Any]"
"""a name, an optimizer, a class or another callable that takes parameters; or several of these"""


@dataclass(frozen=True)
class ChosenOptimizer:
    """A way to update parameters: by a rule, by a new optimizer of a factory, or by an existing optimizer."""

    name: str
    rule: Rule | None = None
    factory: Callable[..., Any] | None = None
    optimizer: Any = None

    @functools.cached_property
    def groups(self) -> Mapping[int, int]:
        """id of a parameter of the existing optimizer → the index of its parameter group."""
        groups = enumerate(self.optimizer.param_groups) if self.optimizer is not None else ()
        return {id(parameter): index for index, group in groups for parameter in group["params"]}

    @property
    def cls(self) -> Any:
        """The class of the optimizer, or the function that returns it."""
        return unwrap_partial(self.factory) if self.optimizer is None else type(self.optimizer)

    def has_parameter(self, parameter: torch.Tensor) -> bool:
        """Return whether a parameter is in the existing optimizer; a new one may have any."""
        return self.optimizer is None or id(parameter) in self.groups


def choose_optimizers(book: RuleBook, optimizer: OptimizerLike | None) -> tuple[ChosenOptimizer, ...]:
    """Return the optimizers that ``optimizer=`` names; each parameter is updated by the first that accepts it.

    Raises:
        UsageError: there is no such optimizer; the message lists the known names.
    """
    if optimizer is None:
        return ()
    if isinstance(optimizer, str):
        return tuple(_by_name(book, name.strip()) for name in optimizer.split(","))
    if isinstance(optimizer, (list, tuple)):
        return tuple(chosen for item in optimizer for chosen in choose_optimizers(book, item))
    if _is_optimizer(optimizer):
        cls = type(optimizer)
        return (ChosenOptimizer(cls.__name__, _user_rule(book, cls), optimizer=optimizer),)
    return (_by_factory(book, optimizer),)


def names_of(chosen: Iterable[ChosenOptimizer]) -> str:
    """Return the names of optimizers as one text: ``Muon + adamw``."""
    return " + ".join(dict.fromkeys(optimizer.name for optimizer in chosen))


def shipped_rule(book: RuleBook, cls: Any, group: Mapping[str, Any]) -> Rule | None:
    """Return the shipped rule of an optimizer class, if it is for the settings of this parameter group."""
    if any(group.get(name) for name in ("amsgrad", "maximize", "nesterov")):
        return None
    name = {torch.optim.AdamW: "adamw", torch.optim.Adam: "adam", torch.optim.SGD: "sgd"}.get(cls)
    if name is None or (name != "adamw" and (group.get("weight_decay") or group.get("decoupled_weight_decay"))):
        return None
    return book.rules.get(f"optimizer.{'sgd_momentum' if group.get('momentum') else name}")


@contextmanager
def step_restored(cls: Any) -> Iterator[None]:
    """Restore ``cls.step`` afterwards: PyTorch replaces it when the first optimizer of a class is made."""
    step = vars(cls).get("step") if inspect.isclass(cls) else None
    try:
        yield
    finally:
        if inspect.isclass(cls) and vars(cls).get("step") is not step:
            type.__delattr__(cls, "step") if step is None else type.__setattr__(cls, "step", step)


def unwrap_partial(factory: Any) -> Any:
    """Return the function of a ``functools.partial``, and anything else unchanged."""
    return factory.func if isinstance(factory, functools.partial) else factory


def _by_name(book: RuleBook, name: str) -> ChosenOptimizer:
    for rule_name in (name, name.lower()):
        if (rule := book.rules.get(f"optimizer.{rule_name}")) is not None:
            return ChosenOptimizer(rule_name, rule)
    torch_optimizers = _torch_optimizers()
    cls = torch_optimizers.get(name.lower())
    if cls is None and ("." in name or ":" in name):
        cls = _imported(name)
    if cls is not None:
        return _by_factory(book, cls)
    rules = sorted(str(target).removeprefix("optimizer.") for target, _ in book if str(target).startswith("optimizer."))
    raise UsageError(
        f"there is no optimizer {format_value(name)}; there are: {', '.join(rules)}, with rules; of torch.optim, "
        f"counted by their step: {', '.join(sorted(cls.__name__ for cls in torch_optimizers.values()))}"
        "\nPass an optimizer of a package as PACKAGE.CLASS, its class, or an instance; or add a rule: "
        '@rule("optimizer.NAME")'
    )


def _by_factory(book: RuleBook, factory: Any) -> ChosenOptimizer:
    cls = unwrap_partial(factory)
    if not (callable(cls) and (not inspect.isclass(cls) or callable(getattr(cls, "step", None)))):
        raise UsageError(
            f"{format_value(factory)} is not an optimizer: pass a class, as torch.optim.RMSprop, or its name"
        )
    if inspect.isclass(cls):
        _check_closure(cls)
    rule = _user_rule(book, cls)
    if rule is None and cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        with step_restored(cls):
            (group,) = factory([torch.zeros(1)]).param_groups
        rule = shipped_rule(book, cls, group)
    name = (
        rule.targets[0] if rule is not None and book.is_shipped(rule) else getattr(cls, "__name__", format_value(cls))
    )
    return ChosenOptimizer(str(name).removeprefix("optimizer."), rule, factory)


def _is_optimizer(value: Any) -> bool:
    """Return whether a value is an optimizer, not a class; raise if its step needs a closure."""
    if inspect.isclass(value) or not hasattr(value, "param_groups") or not callable(getattr(value, "step", None)):
        return False
    _check_closure(type(value))
    return True


def _check_closure(cls: type) -> None:
    """Raise if the step of an optimizer needs a closure: the number of its calls depends on data.

    Raises:
        UsageError: it does.
    """
    if needs_closure(cls):
        raise UsageError(
            f"{cls.__name__} calls a closure, forward and backward, a number of times that depends on data: the cost "
            "of its update alone is not defined.\nAnalyze a function that runs the whole step, with "
            f'optimizer.step(closure) in it; or add a rule for one update: @rule("optimizer.{cls.__name__}")'
        )


def _torch_optimizers() -> dict[str, Any]:
    """Return the optimizer classes of ``torch.optim`` by their names in lower case."""
    return {
        cls.__name__.lower(): cls
        for cls in vars(torch.optim).values()
        if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
    }


def _imported(name: str) -> Any:
    module_name, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        module: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"optimizer {format_value(name)}: {format_error(error)}") from error
    return getattr(module, attribute, None)


def _user_rule(book: RuleBook, cls: Any) -> Rule | None:
    """Return the user's own rule for an optimizer class, by the name of the class."""
    name = getattr(cls, "__name__", "")
    for rule_name in (name, name.lower()):
        rule = book.rules.get(f"optimizer.{rule_name}")
        if rule is not None and not book.is_shipped(rule):
            return rule
    return None
