"""What the zoo's families are made of: entries, and how their models are built without memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, TypeVar

import torch

Made = TypeVar("Made")


class Case(NamedTuple):
    """A model and what it is called with."""

    model: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Entry:
    """One row of the table. ``refused`` says why a model cannot be held to the witness; it is then not built.

    ``published`` is what the model's authors print: its forward's multiply-adds / 10⁹, to three decimals.
    """

    family: str
    name: str
    build: Callable[[], Case] = field(compare=False)
    refused: str = ""
    published: float | None = None
    package: str = ""
    """Whose model it is, where a family has models of many; its version is in the row."""

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
"""Family → the packages that it needs; each is a module of ``families``, with ``entries()``."""


def entries(families: Iterable[str] = FAMILIES) -> list[Entry]:
    """The entries of the families whose packages are installed."""
    return [each for family in families if not missing(family) for each in _module(family).entries()]


def missing(family: str) -> list[str]:
    """The packages of a family that are not installed."""
    return [each for each in FAMILIES[family] if not installed(each)]


def _module(family: str) -> Any:
    import shim  # noqa: F401  # torchvision's operators have to be there before it is imported

    return import_module(f"families.{family}")


def installed(package: str) -> str:
    """The version of a package, or nothing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def on_meta(make: Callable[[], Made]) -> Made:
    """What is made, without memory; on the CPU if its constructor computes with tensors, as RegNet's widths are."""
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
    """An input of whole numbers: tokens, positions, classes."""
    return torch.zeros(shape, dtype=torch.long, device="meta")
