"""Mamba with the vocabulary of ResNet-BK: a selective state-space model, a baseline that is linear in N."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops.models.checks import require_size


class SelectiveScan(torch.autograd.Function):
    """h_t = exp(Δ_t·A)·h_{t−1} + Δ_t·x_t·B_t and y_t = C_t·h_t + D·x_t, from h_0 = 0.

    x and Δ are (batch, length, width), A is (width, state), B and C are (batch, length, state), D is (width,). The
    states are saved for the backward pass, which computes only the gradients that are needed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        """y, in the shape of x."""
        decay = torch.exp(delta[..., None] * A)
        added = (delta * x)[..., None] * B[:, :, None]
        h = torch.zeros_like(added[:, 0])
        states = [h]
        for t in range(x.shape[1]):
            h = decay[:, t] * h + added[:, t]
            states.append(h)
        stacked = torch.stack(states, 1)
        ctx.save_for_backward(x, delta, A, B, C, D, decay, stacked)
        return (stacked[:, 1:] * C[:, :, None]).sum(-1) + D * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the six operands, None for those that need none."""
        (g,) = grads
        x, delta, A, B, C, D, decay, states = ctx.saved_tensors
        needs_x, needs_delta, needs_A, needs_B, needs_C, needs_D = ctx.needs_input_grad
        dx = ddelta = dA = dB = dC = dD = None
        if needs_x or needs_delta or needs_A or needs_B:
            read = g[..., None] * C[:, :, None]
            later = [read[:, -1]]
            for t in reversed(range(x.shape[1] - 1)):
                later.append(read[:, t] + decay[:, t + 1] * later[-1])
            dh = torch.stack(later[::-1], 1)
        if needs_x or needs_delta:
            dscaled = (dh * B[:, :, None]).sum(-1)  # of Δ·x
        if needs_delta or needs_A:
            dlog = dh * states[:, :-1] * decay  # of Δ·A
        if needs_x:
            dx = dscaled * delta + D * g
        if needs_delta:
            ddelta = dscaled * x + (dlog * A).sum(-1)
        if needs_A:
            dA = (dlog * delta[..., None]).sum((0, 1))
        if needs_B:
            dB = (dh * (delta * x)[..., None]).sum(2)
        if needs_C:
            dC = (g[..., None] * states[:, 1:]).sum(2)
        if needs_D:
            dD = (g * x).sum((0, 1))
        return dx, ddelta, dA, dB, dC, dD


def selective_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """y (batch, length, width) of `SelectiveScan`."""
    y: Tensor = SelectiveScan.apply(x, delta, A, B, C, D)  # type: ignore[no-untyped-call]
    return y


class MambaMixer(nn.Module):
    """out(scan(silu(conv(u)))·silu(z)) with (u, z) = in(x): a causal convolution, then a scan whose Δ, B and C are read
    off its input.

    Args:
        d_model: D.
        d_state: S, state size per channel.
        d_conv: kernel size of the convolution.
        expand: the inner width is expand·D.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, rank = expand * d_model, math.ceil(d_model / 16)
        self.sizes = (rank, d_state, d_state)
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        step, B, C = self.x_proj(u).split(self.sizes, dim=-1)
        delta = F.softplus(self.dt_proj(step))
        y = selective_scan(u, delta, -self.A_log.exp(), B, C, self.D)
        out: Tensor = self.out_proj(y * F.silu(z))
        return out


class MambaBlock(nn.Module):
    """x + mixer(norm(x)), with an RMS norm."""

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(d_model)
        self.mixer = MambaMixer(d_model, d_state, d_conv, expand)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D) to the same shape."""
        y: Tensor = x + self.mixer(self.norm(x))
        return y


class MambaLM(nn.Module):
    """Tokens (B, N) to the logits (B, N, V): embedding, blocks, an RMS norm and a linear head. Any N.

    Args:
        vocab_size: V.
        d_model: D.
        n_layers: number of blocks.
        n_seq: unused; accepted for compatibility with the other models.
        d_state: S, state size per channel.
        d_conv: kernel size of the causal convolution.
        expand: the inner width is expand·D.

    Raises:
        ValueError: an argument has the wrong type or is out of range.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 30000,
        d_model: int = 64,
        n_layers: int = 4,
        n_seq: int = 128,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layers": n_layers, "n_seq": n_seq}
        for name, size in {**sizes, "d_state": d_state, "d_conv": d_conv, "expand": expand}.items():
            require_size(name, size)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.blocks = nn.ModuleList(MambaBlock(d_model, d_state, d_conv, expand) for _ in range(n_layers))
        self.final_norm = nn.RMSNorm(d_model)
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits (B, N, V) of integer tokens (B, N)."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.lm_head(self.final_norm(x))
        return logits
