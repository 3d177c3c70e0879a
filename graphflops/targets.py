"""What the command line names: a factory as PACKAGE.MODULE:FACTORY, inputs as NAME=2x3x224x224:f32."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphflops import models
from graphflops.errors import UsageError
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

DEFAULT_BATCH = 32
_SHORT = {"f16": "float16", "f32": "float32", "f64": "float64", "bf16": "bfloat16", "i32": "int32", "i64": "int64"}
_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*|scalar)(?::(?P<dtype>\w+))?")


@dataclass(frozen=True)
class Input:
    """An input tensor as the command line describes it; without a name it is positional."""

    name: str | None
    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def parse(cls, text: str) -> Input:
        """``tokens=32x128:int64``, ``2x3x224x224``, ``scale=scalar:f32``.

        Raises:
            UsageError: the text is none of these; the message says what is wrong with it.
        """
        match = _INPUT.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"cannot read the input {text!r}: write NAME=SIZExSIZE:DTYPE, for example tokens=32x128:int64"
            )
        dtype_name = match["dtype"] or "float32"
        dtype = getattr(torch, _SHORT.get(dtype_name, dtype_name), None)
        if not isinstance(dtype, torch.dtype):
            raise UsageError(f"there is no dtype {dtype_name!r} (in {text!r}); use float32, int64, bool, bf16, …")
        shape = () if match["shape"] == "scalar" else tuple(map(int, match["shape"].split("x")))
        return cls(match["name"], shape, dtype)

    def with_batch(self, batch: int) -> Input:
        """The same with another leading size."""
        return replace(self, shape=(batch, *self.shape[1:])) if self.shape else self

    def tensor(self) -> torch.Tensor:
        """A tensor without data."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def load(target: str) -> Any:
    """What ``PACKAGE.MODULE:NAME`` names.

    Raises:
        UsageError: there is no such module or name, or importing it fails.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise UsageError(f"cannot read the target {target!r}: write PACKAGE.MODULE:FACTORY, for example my.models:tiny")
    made: Any = _import(module_name, target)
    for name in path.split("."):
        if not hasattr(made, name):
            near = get_close_matches(name, dir(made), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{target}: {module_name} has no {path!r}{hint}")
        made = getattr(made, name)
    return made


def load_model(target: str) -> nn.Module:
    """The model that ``PACKAGE.MODULE:FACTORY`` makes: a function, a class to be called without arguments, a module.

    It is built on the meta device, without memory for weights; only a factory that cannot do that is given the CPU.

    Raises:
        UsageError: no such module or name, the factory raises, or what it makes is not a torch.nn.Module.
    """
    made = load(target)
    model = made if isinstance(made, nn.Module) else _call(made, target)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{target} made a {type(model).__name__}, not a torch.nn.Module")
    return model


def model_and_inputs(
    target: str | None,
    inputs: Iterable[str] | None,
    *,
    batch: int | None = None,
    seq: int | None = None,
    config: str | None = None,
) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model that a command is about, ResNet-BK if it names none, with its positional and keyword inputs.

    Raises:
        UsageError: the target, an input or the configuration is wrong, or they do not go together.
    """
    given = [Input.parse(each) for text in inputs or () for each in text.replace(",", " ").split()]
    model: nn.Module
    if target is None:
        model = home = home_model(config, seq)
        given = given or [Input.parse(f"tokens={DEFAULT_BATCH}x{home.n_seq}:int64")]
    else:
        if config is not None or seq is not None:
            raise UsageError("--config and --seq are ResNet-BK's; give the sizes of your model's inputs with --input")
        model = load_model(target)
    if batch is not None:
        given = [each.with_batch(batch) for each in given]
    return model, *bind(model, given)


def rates(texts: Iterable[str] | None) -> dict[str, str]:
    """``blocks.3.*=0.62`` as pattern and rate.

    Raises:
        UsageError: there is no pattern, or no rate.
    """
    found = {}
    for text in texts or ():
        pattern, _, rate = map(str.strip, text.partition("="))
        if not (pattern and rate):
            raise UsageError(f"cannot read the rate {text!r}: write PATTERN=RATE, for example 'blocks.3.*=0.62'")
        found[pattern] = rate
    return found


def bind(model: nn.Module, inputs: Iterable[Input]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword inputs for a model's forward.

    Raises:
        UsageError: forward has no argument of a given name, or needs one that is not given.
    """
    inputs = list(inputs)
    args = tuple(each.tensor() for each in inputs if each.name is None)
    kwargs = {each.name: each.tensor() for each in inputs if each.name is not None}
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        asked = ", ".join(map(str, signature.parameters.values())) or "no arguments"
        raise UsageError(
            f"these inputs do not fit {type(model).__name__}.forward: {error}; it takes ({asked}). "
            "Give each as --input NAME=SIZExSIZE:DTYPE"
        ) from error
    return args, kwargs


def home_model(config: str | None, seq: int | None) -> ConfigurableResNetBK:
    """ResNet-BK from ``CONFIG``, without memory for weights.

    Raises:
        UsageError: as ``home_config``.
    """
    with torch.device("meta"):
        return ConfigurableResNetBK(home_config(config, seq))


def home_config(config: str | None, seq: int | None) -> ResNetBKConfig:
    """What ``CONFIG`` says: a preset, fields, or both: ``BASELINE_CONFIG,d_model=128,n_layers=8``.

    Raises:
        UsageError: no such preset or field, or a value that is not allowed.
    """
    chosen = ResNetBKConfig()
    changes: dict[str, Any] = {} if seq is None else {"n_seq": seq}
    for part in filter(None, re.split(r"[,\s]+", config or "")):
        name, equals, text = part.partition("=")
        if equals:
            changes[name] = _field_value(name, text)
        else:
            chosen = _preset(name)
    try:
        return replace(chosen, **changes)
    except ValueError as error:
        raise UsageError(f"the configuration is not possible: {error}") from error


def _preset(name: str) -> ResNetBKConfig:
    known = [each for each in dir(models) if each.endswith("_CONFIG")]
    if name not in known:
        raise UsageError(f"there is no preset {name!r}; there are: {', '.join(known)}. A field is written NAME=VALUE")
    preset: ResNetBKConfig = getattr(models, name)
    return preset


def _field_value(name: str, text: str) -> object:
    kinds = {field.name: getattr(field.type, "__name__", str(field.type)) for field in fields(ResNetBKConfig)}
    if name not in kinds:
        raise UsageError(f"ResNetBKConfig has no field {name!r}; it has: {', '.join(kinds)}")
    truth = {"true": True, "1": True, "false": False, "0": False}
    try:
        if kinds[name] == "bool":
            return truth[text.lower()]
        return int(text) if kinds[name] == "int" else float(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name} is a {kinds[name]}, not {text!r}") from None


def _import(module_name: str, target: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(f"{target}: there is no module {module_name!r} here or among the installed") from error
        raise UsageError(f"{target}: importing {module_name} failed, {_where(error)}: {error}") from error
    except Exception as error:
        raise UsageError(
            f"{target}: importing {module_name} failed, {_where(error)}: {type(error).__name__}: {error}"
        ) from error


def _call(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise UsageError(f"{target} is a {type(factory).__name__}, neither a model nor a function that makes one")
    try:
        with torch.device("meta"):
            return factory()
    except Exception:
        pass  # some factories need values while they build
    try:
        return factory()
    except Exception as error:
        raise UsageError(f"{target} raised {type(error).__name__}: {error}\n    {_where(error)}") from error


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}: {last.line}"
