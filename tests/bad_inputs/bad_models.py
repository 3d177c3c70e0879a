"""Models, factories and rules that misbehave: each name says how."""

import os
import signal
import sys
from typing import Any

import torch
from torch import Tensor, nn


def factory_exits() -> None:
    sys.exit(0)


def factory_exits_with_a_word() -> None:
    raise SystemExit("bye")


def factory_ends_a_generator() -> None:
    raise GeneratorExit


def factory_is_interrupted() -> None:
    raise KeyboardInterrupt


def factory_interrupts_itself() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def factory_is_quiet() -> None:
    raise ValueError


def factory_recurses() -> Any:
    return factory_recurses()


def factory_runs_out_of_memory() -> None:
    raise MemoryError


def factory_needs(width: int) -> nn.Module:
    return nn.Linear(width, width)


def makes_nothing() -> None:
    return None


def makes_a_class() -> type:
    return nn.Linear


def makes_a_tensor() -> Tensor:
    return torch.ones(3)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def factory_raises_without_words() -> None:
    raise Mute


def factory_talks_at_length() -> None:
    raise ValueError("blah " * 5000)


def factory_paints() -> None:
    raise ValueError("\x1b[31mred\x1b[0m \x1b]0;title\x07 [bold]not markup[/nope] \u202egnihton \x00 \udc80 \x9b2J")


class Simple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x)


class ForwardExits(Simple):
    def forward(self, x: Tensor) -> Any:
        sys.exit(0)


class ForwardSaysBye(Simple):
    def forward(self, x: Tensor) -> Any:
        raise SystemExit("bye")


class ForwardEndsAGenerator(Simple):
    def forward(self, x: Tensor) -> Any:
        raise GeneratorExit


class ForwardIsInterrupted(Simple):
    def forward(self, x: Tensor) -> Any:
        raise KeyboardInterrupt


class ForwardRaisesWithoutWords(Simple):
    def forward(self, x: Tensor) -> Any:
        raise Mute


class ForwardTalksAtLength(Simple):
    def forward(self, x: Tensor) -> Any:
        raise ValueError("blah " * 5000)


class ForwardRecurses(Simple):
    def forward(self, x: Tensor) -> Any:
        return self.forward(x)


class ForwardIsAProperty(Simple):
    @property
    def forward(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no forward today")


class ForwardPropertyExits(Simple):
    @property
    def forward(self) -> Any:  # type: ignore[override]
        sys.exit(0)


class ForwardIsANumber(Simple):
    forward = 7  # type: ignore[assignment]


class HasNoForward(nn.Module):
    pass


class InitIsNotCalled(nn.Module):
    def __init__(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return x


class ChildIsNotWhole(Simple):
    def __init__(self) -> None:
        super().__init__()
        self._modules["child"] = InitIsNotCalled()


class AttributesRaise(Simple):
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class AttributesExit(Simple):
    def __getattr__(self, name: str) -> Any:
        sys.exit(0)


class Branches(Simple):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x) if x.sum() > 0 else x


class Painted(nn.Module):
    """Its modules have names that would command a terminal."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "[/nope]", "[bold]b", "\u202egnihton", "\udc80", "a\nb"):
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Any:
        for module in self.children():
            x = module(x)
        return x


Painted.__name__ = Painted.__qualname__ = "[red]Pain\x1b[31mted[/nope]"


class FrozenBranches(Painted):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) if x.sum() > 0 else x


def of_size(N: int) -> Any:
    return Simple(), (torch.ones(N, 4),)


def of_size_exits(N: int) -> Any:
    sys.exit(0)


def __getattr__(name: str) -> Any:
    if name == "lazy":
        raise RuntimeError("not installed")
    if name == "lazy_exit":
        sys.exit(0)
    raise AttributeError(name)
