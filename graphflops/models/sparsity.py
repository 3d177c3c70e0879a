"""Learned sparsity: a predictor chooses the sites at which the resolvent is computed, an interpolator fills in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_share


def sites_kept(n: int, share: float) -> int:
    """How many of n sites a share is, one at least.

    >>> sites_kept(128, 0.5), sites_kept(3, 0.1)
    (64, 1)
    """
    return max(1, round(share * n))


class SparseCore(nn.Module):
    """A core on the line of the M = share·N sites that matter most, and its features spread over all N.

    The chosen sites keep their order, and are neighbours on the shorter line: its resolvent has M entries instead of N.
    Each is weighted by the predictor's sigmoid, which so learns what mattered.

    Args:
        core_of: what makes a core for a line of so many sites.
        n_seq: N.
        share: in (0, 1].
        channels: the width of the predictor.
        kernel: how many sites predictor and interpolator look at, an odd number.
    """

    def __init__(
        self,
        core_of: Callable[[int], nn.Module],
        n_seq: int,
        share: float = 0.5,
        *,
        channels: int = 16,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        require_share("share", share)
        self.share = share
        self.importance = nn.Sequential(
            nn.Conv1d(1, channels, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(channels, 1, kernel, padding=kernel // 2),
        )
        self.core = core_of(sites_kept(n_seq, share))
        self.interpolator = nn.Conv1d(2, 2, kernel, padding=kernel // 2)

    def forward(self, v: Tensor) -> Tensor:
        """The features (B, N, 2) of a potential v (B, N), in the dtype of the interpolator."""
        v = v.to(self.interpolator.weight.dtype)
        importance = self.importance(v.unsqueeze(1)).squeeze(1)
        chosen = importance.topk(sites_kept(v.shape[-1], self.share), dim=-1).indices.sort(dim=-1).values
        features = self.core(v.gather(-1, chosen)).to(v.dtype)
        weighted = importance.gather(-1, chosen).sigmoid().unsqueeze(-1) * features
        places = chosen.unsqueeze(-1).expand_as(weighted)
        spread = torch.zeros(*v.shape, 2, dtype=v.dtype, device=v.device).scatter(1, places, weighted)
        filled: Tensor = self.interpolator(spread.transpose(1, 2))
        return filled.transpose(1, 2)
