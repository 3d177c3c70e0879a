"""The result of ``load``, the sizes that a user may choose, and messages that all libraries share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch

from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error, location_of

DEFAULT_BATCH = 1
DEFAULT_SEQ = 128
"""tokens of a sequence, or as many as the model has positions for"""


class _Call(NamedTuple):
    model: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Loaded(_Call):
    """A model with example inputs: ``analyze(*loaded)``.

    ``about`` says what was chosen where the name leaves a choice; ``made_up`` are the inputs that nobody gave, by name.
    """

    about: tuple[str, ...]
    made_up: Mapping[str, Any]

    def __new__(
        cls,
        model: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        about: tuple[str, ...] = (),
        made_up: Mapping[str, Any] | None = None,
    ) -> Loaded:
        """A call of a model; of made-up inputs without others."""
        made_up = made_up or {}
        loaded = super().__new__(cls, model, args, dict(kwargs or {}) if args or kwargs else dict(made_up))
        loaded.about, loaded.made_up = about, made_up
        return loaded

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was chosen, and on the inputs that were made up."""
        return (*self.about, *((describe(self.made_up),) if self.made_up else ()))


class Sizes(NamedTuple):
    """Sizes of the inputs, where a user chose them."""

    batch: int | None = None
    seq: int | None = None
    image: tuple[int, int] | None = None

    @property
    def rows(self) -> int:
        """The leading size of every input."""
        return self.batch or DEFAULT_BATCH

    def tokens(self, limit: Any = None) -> int:
        """The length of a sequence; by default at most the number of positions that the model has."""
        if self.seq is not None:
            return self.seq
        return min(DEFAULT_SEQ, limit) if isinstance(limit, int) and limit > 0 else DEFAULT_SEQ


def ids(*shape: int) -> torch.Tensor:
    """Token ids without data."""
    return torch.empty(shape, dtype=torch.int64, device="meta")


def floats(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of floats without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def describe(inputs: Mapping[str, Any]) -> str:
    """A line on inputs that were made up.

    >>> describe({"tokens": ids(1, 128), "pad": True})
    'made up: tokens int64[1, 128], pad True'
    """
    return "made up: " + ", ".join(f"{name} {_format(value)}" for name, value in inputs.items())


def _format(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_format, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_format(item)}' for key, item in value.items())}}}"
    return repr(value)


def require(package: str, extra: str, target: str) -> Any:
    """Import a package that a target needs.

    Raises:
        UsageError: it is not installed, or its import fails.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package.partition(".")[0]:
            raise UsageError(
                f'{target} needs {error.name}, which is not installed: pip install "graphflops[{extra}]"'
            ) from None
        raise UsageError(f"{target}: importing {package} failed: {error}\n    {location_of(error)}") from error
    except USER_EXCEPTIONS as error:
        raise UsageError(f"{target}: importing {package} failed: {format_error(error)}") from error


def build(factory: Callable[[], Any], target: str) -> Any:
    """The model that a factory returns on the meta device, or on the CPU if it reads values of weights.

    Raises:
        UsageError: the factory raises.
    """
    try:
        with suppress(Exception), torch.device("meta"):
            return factory()
        return factory()
    except USER_EXCEPTIONS as error:
        location = location_of(error)
        if isinstance(error, TypeError) and location.startswith(__file__):
            raise UsageError(
                f"{target} cannot be called with these arguments: {format_error(error)}. Give literals, as in Net(64)"
            ) from error
        raise UsageError(f"{target} raised {format_error(error)}\n    {location}") from error
