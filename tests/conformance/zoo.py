"""Entries of the conformance families, and how their models are built without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, TypeVar

import torch

T = TypeVar("T")


class Case(NamedTuple):
    """A model and its inputs."""

    model: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Entry:
    """One row of the table. ``refused`` is a reason not to build the model: the reference counter does not apply.

    ``published`` is the number of the model's authors: multiply-adds of the forward / 10⁹, to three decimals.
    """

    family: str
    name: str
    build: Callable[[], Case] = field(compare=False)
    refused: str = ""
    published: float | None = None
    package: str = ""
    """the package of the model, if a family covers several; the row has its version"""

    @property
    def key(self) -> str:
        return f"{self.family}/{self.name}"


FAMILIES: Mapping[str, tuple[str, ...]] = {
    "layers": (),
    "training": (),
    "programs": (),
    "torchvision": ("torchvision",),
    "torchvision_ops": ("torchvision",),
    "causal_lm": ("transformers",),
    "experts": ("transformers",),
    "transformers": ("transformers",),
    "timm": ("timm", "torchvision"),
    "repositories": ("timm", "torchvision"),
    "wild": ("einops", "transformers", "timm", "torchvision"),
}
"""family → the packages it needs; each is a module of ``families``, with ``entries()``."""


def entries(families: Iterable[str] = FAMILIES) -> list[Entry]:
    """The entries of the families whose packages are installed."""
    return [entry for family in families if not missing(family) for entry in _module(family).entries()]


def missing(family: str) -> list[str]:
    """The packages of a family that are not installed."""
    return [package for package in FAMILIES[family] if not installed(package)]


def _module(family: str) -> Any:
    import shim  # noqa: F401  # torchvision's operators have to be there before it is imported

    return import_module(f"families.{family}")


def installed(package: str) -> str:
    """The version of a package, or an empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def on_meta(make: Callable[[], T]) -> T:
    """The result of ``make`` on meta; on the CPU if a constructor computes with tensors, as RegNet's does."""
    try:
        with torch.device("meta"):
            return make()
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
        return make()


def floats(*shape: int) -> torch.Tensor:
    """A float input."""
    return torch.empty(shape, device="meta")


def ids(*shape: int) -> torch.Tensor:
    """An input of integers: tokens, positions, classes."""
    return torch.zeros(shape, dtype=torch.long, device="meta")
