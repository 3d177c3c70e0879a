"""So many analyses in one process; what they said, and what they left behind, as JSON.

``python program.py TIMES SEED``: half of the analyses are of classes that are made anew each time, and SEED says in
which order the models come.
"""

from __future__ import annotations

import gc
import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphflops import analyze
from graphflops.report.json_format import dumps

WARM_UP = 20
"""analyses after which what is imported and looked up once is there"""


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 16), nn.Linear(16, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.calls = nn.Sequential(*(Block() for _ in range(3))), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return checkpoint(self.blocks, x, use_reentrant=False).softmax(-1)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        chosen, out = self.router(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = chosen == number
            out[rows] = expert(x[rows])
        return out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(x, x, x)[0]


def penalty(x: Tensor, weight: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad((x @ weight).tanh().sum(), x, create_graph=True)
    return slope.square().sum()


def anew(cls: type[nn.Module]) -> type[nn.Module]:
    """A class that is like another one and bears its name, as a cell of a notebook makes one that is run again."""
    return type(cls.__name__, (cls,), {"__module__": cls.__module__, "forward": lambda self, x: cls.forward(self, x)})


def x(*shape: int, grad: bool = False) -> Tensor:
    return torch.zeros(shape, requires_grad=grad)


MODELS: dict[str, Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]] = {
    "stack": lambda: (Stack(), (x(2, 8),), {}),
    "stack of new classes": lambda: (anew(Stack)(), (x(2, 8),), {}),
    "experts": lambda: (Experts(), (x(6, 8),), {}),
    "new experts": lambda: (anew(Experts)(), (x(6, 8),), {"expand": ["aten.linear"]}),
    "attention": lambda: (Attention(), (x(2, 3, 8),), {"convention": "fvcore"}),
    "new attention": lambda: (anew(Attention)(), (x(2, 3, 8),), {"fold": False}),
    "penalty": lambda: (penalty, (x(3, 4, grad=True), x(4, 5, grad=True)), {}),
    "new block": lambda: (anew(Block)(), (x(2, 8),), {"training": False}),
}


def resident() -> int:
    """Bytes of memory that the process has now; 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def left() -> tuple[int, int]:
    for _ in range(3):
        gc.collect()
    return len(gc.get_objects()), resident()


def main(times: int, seed: int) -> dict[str, Any]:
    names = [name for _ in range(-(-times // len(MODELS))) for name in MODELS][:times]
    random.Random(seed).shuffle(names)
    message: dict[str, set[str]] = {name: set() for name in MODELS}
    before = 0, 0
    for number, name in enumerate([*MODELS, *[*MODELS][: WARM_UP - len(MODELS)], *names]):
        model, args, options = MODELS[name]()
        report = analyze(model, args, **options)
        message[name].add(hashlib.sha256((dumps(report) + str(report)).encode()).hexdigest())
        del model, args, report
        if number + 1 == WARM_UP:
            before = left()
    after = left()
    return {
        "said": {name: sorted(value) for name, value in message.items()},
        "objects": after[0] - before[0],
        "bytes": after[1] - before[1],
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
