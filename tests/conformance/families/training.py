"""Training variants of models: frozen parts, adapters, checkpoints, gradients of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import Case, Entry, floats, on_meta


class Block(nn.Module):
    """Attention and a feed-forward network, each with a residual."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            projection.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Trunk(nn.Module):
    """Blocks and a head; each block may be checkpointed, and the trunk may be run without gradients."""

    def __init__(self, *, checkpointed: bool = False, reentrant: bool = False, watched: bool = True) -> None:
        super().__init__()
        self.checkpointed, self.reentrant, self.watched = checkpointed, reentrant, watched
        self.stem = nn.Linear(12, 32)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(self.watched and torch.is_grad_enabled()):
            x = self.stem(x)
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=self.reentrant) if self.checkpointed else block(x)
        return self.head(x)


class LoRA(nn.Module):
    """y = W·x + B·(A·x), of which only A and B are trained."""

    def __init__(self, frozen: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.a = nn.Linear(frozen.in_features, rank, bias=False)
        self.b = nn.Linear(rank, frozen.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(x) + self.b(self.a(x))


class Detached(nn.Module):
    """Two branches, of which one is not trained through."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(12, 16), nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.one(x) + self.two(x).detach())


class Shared(nn.Module):
    """One layer called three times, and once more by its transposed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = nn.Linear(12, 16, bias=False), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for _ in range(3):
            x = torch.tanh(self.inner(x))
        return x @ self.embed.weight


def frozen(model: nn.Module, *, but: str = "") -> nn.Module:
    model.requires_grad_(False)
    if but:
        model.get_submodule(but).requires_grad_(True)
    return model


def with_adapters(model: nn.Module, *names: str) -> nn.Module:
    """Every Linear of one of these names, with an adapter; the rest is frozen."""
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in names:
            setattr(model.get_submodule(parent), name, LoRA(module))
    return model


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, groups=4, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 13 * 13, 10),
    )


def entries() -> Iterator[Entry]:
    sequence, image = floats(2, 9, 12), floats(2, 3, 32, 32)
    inputs_with_grad = {x: floats(*x.shape).requires_grad_() for x in (sequence, image)}
    variants: dict[str, tuple[Callable[[], nn.Module], Any]] = {
        "blocks": (Trunk, sequence),
        "blocks, input gradient": (Trunk, inputs_with_grad[sequence]),
        "frozen trunk": (lambda: frozen(Trunk(), but="head"), sequence),
        "frozen trunk, input gradient": (lambda: frozen(Trunk(), but="head"), inputs_with_grad[sequence]),
        "frozen but one block": (lambda: frozen(Trunk(), but="blocks.1"), sequence),
        "frozen whole": (lambda: frozen(Trunk()), sequence),
        "frozen whole, input gradient": (lambda: frozen(Trunk()), inputs_with_grad[sequence]),
        "trunk under no_grad": (lambda: Trunk(watched=False), sequence),
        "LoRA on qkv": (lambda: with_adapters(Trunk(), "qkv"), sequence),
        "LoRA on every Linear of the blocks": (lambda: with_adapters(Trunk(), "qkv", "out", "up", "down"), sequence),
        "LoRA on the last Linear": (lambda: with_adapters(Trunk(), "head"), sequence),
        "checkpointed blocks": (lambda: Trunk(checkpointed=True), sequence),
        "checkpointed blocks, reentrant": (
            lambda: Trunk(checkpointed=True, reentrant=True),
            inputs_with_grad[sequence],
        ),
        "checkpointed blocks, frozen but one": (lambda: frozen(Trunk(checkpointed=True), but="blocks.1"), sequence),
        "checkpointed blocks, LoRA": (lambda: with_adapters(Trunk(checkpointed=True), "qkv"), sequence),
        "detached branch": (Detached, sequence),
        "shared layer, tied weight": (Shared, sequence),
        "convolutions": (network, image),
        "convolutions, input gradient": (network, inputs_with_grad[image]),
        "convolutions, frozen trunk": (lambda: frozen(network(), but="5"), image),
        "convolutions, frozen head": (lambda: frozen(network(), but="0"), image),
    }
    for name, (make, x) in variants.items():
        yield Entry("training", name, lambda make=make, x=x: Case(on_meta(make), (x,)))
