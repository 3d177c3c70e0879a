"""Placeholders of modules that are not imported yet, which raise whatever is asked of them, and are passed by."""

import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze


class OfAttributes:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"an optional package is missing, and so is {name}")


class OfEverything:
    def __getattribute__(self, name: str) -> Any:
        raise ImportError(f"no {name}")


class OfAModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class OfClasses(type):
    def __getattr__(cls, name: str) -> Any:
        raise OSError(name)


class Later(metaclass=OfClasses):
    pass


class Unfriendly:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __len__(self) -> int:
        raise RuntimeError("of no length")


attributes, any_name, module, unfriendly = OfAttributes(), OfEverything(), OfAModule("later"), Unfriendly()


class Layer(nn.Module):
    def __init__(self, *objects: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.held = list(objects)

    @property
    def device(self) -> Any:
        raise StopIteration

    def forward(self, x: Tensor) -> Any:
        if x.dim() > 5:
            return attributes.x, any_name.x, module.x, Later.x, unfriendly
        return self.layer(x)


@pytest.mark.parametrize("objects", [(), (attributes, module, Later), (any_name, unfriendly)])
def test_objects_that_raise_on_access_are_skipped(objects: tuple[Any, ...]) -> None:
    report = analyze(nn.Sequential(Layer(*objects), Layer(*objects)), (torch.ones(2, 4),))
    assert report.work("forward").macs == 2 * 2 * 4 * 4
    assert not report.unsupported_ops()
