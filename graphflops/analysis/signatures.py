"""The parameters of a model's forward, as far as they tell which inputs it takes."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import fx, nn

from graphflops.core.messages import USER_EXCEPTIONS, try_getattr

Kind: TypeAlias = Literal["tensor", "list", "dict", "value", ""]
"""The kind of a parameter by its annotation; empty if it says nothing. A value is a number, or anything else."""

TENSOR_NAMES = frozenset(
    {
        "x",
        "input",
        "inputs",
        "image",
        "images",
        "img",
        "pixel_values",
        "tokens",
        "ids",
        "idx",
        "input_ids",
        "src",
        "hidden_states",
        "inputs_embeds",
        "features",
        "input_features",
        "input_values",
    }
)
"""usual names of a parameter that is a tensor"""
_LIST = re.compile(
    r"(typing\.|collections\.abc\.)?(Optional\[|Union\[)?(typing\.)?(list|tuple|Sequence)\b", re.IGNORECASE
)
_DICT = re.compile(r"(typing\.|collections\.abc\.)?(dict|Mapping|MutableMapping)\b", re.IGNORECASE)
_TENSOR = re.compile(r"Tensor\b")
_INTEGER = re.compile(r"\b(Long|Int)Tensor\b")
_VALUE = re.compile(r"\b(int|float|bool|str|Size|ndarray|Any|Callable)\b")


@dataclass(frozen=True)
class Parameters:
    """The parameters of a forward, in their order."""

    positional: tuple[inspect.Parameter, ...] = ()
    keywords: tuple[inspect.Parameter, ...] = ()
    is_known: bool = False
    """whether there is a signature"""
    takes_any_number: bool = False
    takes_any_name: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return tuple(parameter.name for parameter in (*self.positional, *self.keywords))

    @property
    def required(self) -> int:
        """Number of positional parameters without a default."""
        return sum(parameter.default is parameter.empty for parameter in self.positional)

    @property
    def max_positional(self) -> float:
        """Largest number of positional inputs."""
        return float("inf") if self.takes_any_number or not self.is_known else len(self.positional)

    def name(self, place: int | str) -> str:
        """The name of a parameter, by its position or name."""
        if isinstance(place, str):
            return place
        return self.positional[place].name if place < len(self.positional) else f"input_{place}"

    def kind(self, place: int | str) -> Kind:
        """The kind of value that a parameter is annotated to take; a default that is a number counts as well."""
        parameter = self._at(place)
        if parameter is None:
            return ""
        text = _annotation(parameter)
        if _LIST.match(text):
            return "list"
        if _DICT.match(text):
            return "dict"
        if _TENSOR.search(text):
            return "tensor"
        return "value" if _VALUE.search(text) or isinstance(parameter.default, (int, float, str)) else ""

    def is_integer(self, place: int | str) -> bool:
        """Whether a parameter is annotated as a tensor of integers."""
        parameter = self._at(place)
        return parameter is not None and _INTEGER.search(_annotation(parameter)) is not None

    def _at(self, place: int | str) -> inspect.Parameter | None:
        if isinstance(place, int):
            return self.positional[place] if place < len(self.positional) else None
        return next((parameter for parameter in (*self.positional, *self.keywords) if parameter.name == place), None)


def parameters_of(model: Any) -> Parameters:
    """The parameters of a module's forward, or of a function; of none that is known if it has no signature."""
    model = _unwrapped(model)
    if isinstance(model, nn.Module) and (model._forward_pre_hooks or not _calls_forward(model)):
        return Parameters()  # forward is called with other inputs
    try:
        signature = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
    except USER_EXCEPTIONS:
        return Parameters()
    of_kind: dict[Any, list[inspect.Parameter]] = {}
    for parameter in signature.parameters.values():
        of_kind.setdefault(parameter.kind, []).append(parameter)
    empty = inspect.Parameter
    any_number, any_name = empty.VAR_POSITIONAL in of_kind, empty.VAR_KEYWORD in of_kind
    positional = (*of_kind.get(empty.POSITIONAL_ONLY, ()), *of_kind.get(empty.POSITIONAL_OR_KEYWORD, ()))
    is_known = not (any_number and any_name and not positional)  # a wrapper's (*args, **kwargs) says nothing
    return Parameters(positional, tuple(of_kind.get(empty.KEYWORD_ONLY, ())), is_known, any_number, any_name)


def _unwrapped(model: Any) -> Any:
    """The module whose forward a compiled or parallel one calls."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := try_getattr(model, "_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def _calls_forward(model: nn.Module) -> bool:
    """Whether a call of a module is one of its forward with the same inputs."""
    return type(model).__call__ is nn.Module.__call__ or isinstance(model, fx.GraphModule)


def _annotation(parameter: inspect.Parameter) -> str:
    if parameter.annotation is parameter.empty:
        return ""
    if isinstance(parameter.annotation, str):
        return parameter.annotation
    return inspect.formatannotation(parameter.annotation)
