"""Small models with data-dependent work."""

import torch
from torch import Tensor, nn

WIDTH = 8


def expert(width: int = WIDTH) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


class EagerMoE(nn.Module):
    """Experts in a loop, each with the tokens that a boolean mask selects."""

    def __init__(self, num_experts: int = 4, top_k: int = 1) -> None:
        super().__init__()
        self.num_experts, self.top_k = num_experts, top_k
        self.gate = nn.Linear(WIDTH, num_experts, bias=False)
        self.experts = nn.ModuleList(expert() for _ in range(num_experts))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).softmax(-1).topk(self.top_k, -1).indices
        out = torch.zeros_like(x)
        for index, layer in enumerate(self.experts):
            mask = (chosen == index).any(-1)
            if mask.any():
                out[mask] += layer(x[mask])
        return out


class Dense(nn.Module):
    """The gate, and ``top_k`` experts for all tokens."""

    def __init__(self, num_experts: int = 4, top_k: int = 1) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, num_experts, bias=False)
        self.experts = nn.ModuleList(expert() for _ in range(top_k))

    def forward(self, x: Tensor) -> Tensor:
        self.gate(x).softmax(-1)
        out = torch.zeros_like(x)
        for layer in self.experts:
            out = out + layer(x)
        return out


class Masked(nn.Module):
    """A layer for the tokens with a score above a threshold: the data decides how many."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(WIDTH, 1)
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        mask = self.score(x).squeeze(-1) > 0
        if mask.any():
            x = x.clone()
            x[mask] = self.layer(x[mask])
        return x


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x)


class Deep(nn.Module):
    """Blocks between two linear layers, with an early exit before a block if nothing in x is above a bound."""

    def __init__(self, depth: int = 8, bound: float | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.last = nn.Linear(WIDTH, WIDTH)
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            if self.bound is not None and not (x > self.bound).any():
                break
            x = block(x)
        return self.last(x)
