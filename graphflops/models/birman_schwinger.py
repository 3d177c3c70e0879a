"""Birman-Schwinger: the resolvent of a potential from the Birman-Schwinger operator K, in O(N).

On the infinite line, let Δ be the discrete Laplacian (−2, and 1 beside it), V = diag(v) a potential on N sites, and z
off the real axis. With q + 1/q = 2 + z, |q| < 1, and c = 1/(q − 1/q), the free resolvent is

    R_0(z)_{mn} = ((Δ − z)⁻¹)_{mn} = c·q^{|m−n|}

and that of Δ + V is

    G = R_0 − R_0·V^½·(1 + K)⁻¹·|V|^½·R_0,    K(z) = |V|^½·R_0(z)·V^½,    V^½ = sgn(V)·|V|^½.

K is dense but semiseparable: one number per site summarizes all sites to its left, so 1 + K is eliminated site by site.
Let g_n be the diagonal of the resolvent at site n with the potential of the sites to the left of it alone:

    d_n = 1 + v_n·g_n         the pivot of 1 + K, so that det(1 + K) = Π d_n
    g_1 = c,  g_{n+1} = c·(1 − q²) + q²·g_n / d_n

and h_n likewise from the right. Left and right meet, 1/G_nn = 1/g_n + 1/h_n − 1/c + v_n:

    G_nn = g_n·h_n / (g_n + h_n − g_n·h_n·(1/c − v_n))

|q| < 1, so distant sites contribute little, and nothing grows with N. The line is infinite; BK-Core's is finite.
"""

from __future__ import annotations

import cmath

import torch
from torch import Tensor, nn

from graphflops.models.bk_core import keep_features, local_gradient, require_line
from graphflops.models.checks import require_grad_blend, require_positive, require_size


def free_resolvent(z: complex) -> tuple[complex, complex]:
    """q and c of R_0(z)_{mn} = c·q^{|m−n|}, |q| < 1; z is not in [−4, 0], the spectrum of Δ."""
    half = (2 + z) / 2
    root = cmath.sqrt(half * half - 1)
    q = min(half + root, half - root, key=abs)
    return q, 1 / (q - 1 / q)


def sweep(v: Tensor, z: complex) -> tuple[Tensor, Tensor]:
    """g_n, and the pivots d_n = 1 + v_n·g_n of 1 + K, both (…, N) and complex, of potentials v (…, N)."""
    q, c = free_resolvent(z)
    square, constant = q * q, c * (1 - q * q)
    diagonals: list[Tensor] = []
    pivots: list[Tensor] = []
    g = torch.full(v.shape[:-1], c, dtype=torch.complex128, device=v.device)
    for potential in v.unbind(-1):
        if pivots:
            g = square * (g / pivots[-1]) + constant
        diagonals.append(g)
        pivots.append(potential * g + 1)
    return torch.stack(diagonals, -1), torch.stack(pivots, -1)


def perturbed_diagonal(v: Tensor, z: complex) -> Tensor:
    """diag((Δ + diag(v) − z)⁻¹) on the infinite line, (…, N) in complex128, of potentials v (…, N)."""
    v = v.to(torch.float64)
    _, c = free_resolvent(z)
    g, h = sweep(torch.stack((v, v.flip(-1))), z)[0].unbind(0)
    h = h.flip(-1)
    product = g * h
    return product / (g + h - product * (1 / c - v))


@torch.library.custom_op("graphflops::birman_schwinger", mutates_args=())
def birman_schwinger(v: Tensor, epsilon: float, grad_blend: float) -> Tensor:
    """(Re G, Im G) of `perturbed_diagonal` at z = iε, (B, N, 2) in float64; its gradient is that of ``bk_core``."""
    return torch.view_as_real(perturbed_diagonal(v, complex(0, epsilon)))


@birman_schwinger.register_fake
def _features_like(v: Tensor, epsilon: float, grad_blend: float) -> Tensor:
    return v.new_empty((*v.shape, 2), dtype=torch.float64)


birman_schwinger.register_autograd(local_gradient, setup_context=keep_features)


class BirmanSchwingerCore(nn.Module):
    """A potential v on N sites of an infinite line to the features (Re G, Im G), as a replacement of `BKCore`.

    Args:
        n_seq: N, the number of sites.
        epsilon: Im z, > 0; Re z is 0.
        grad_blend: as in `BKCore`.
        allow_shorter: accept fewer than N sites.
    """

    def __init__(
        self, n_seq: int, epsilon: float = 1.0, *, grad_blend: float = 0.5, allow_shorter: bool = False
    ) -> None:
        super().__init__()
        require_size("n_seq", n_seq)
        require_positive("epsilon", epsilon)
        require_grad_blend(grad_blend)
        self.n_seq = n_seq
        self.epsilon = float(epsilon)
        self.grad_blend = grad_blend
        self.allow_shorter = allow_shorter

    def forward(self, v: Tensor) -> Tensor:
        """The features (B, N, 2) in float64 of a real potential v (B, N)."""
        require_line(v, self.n_seq, allow_shorter=self.allow_shorter)
        features: Tensor = birman_schwinger(v, self.epsilon, self.grad_blend)
        return features
