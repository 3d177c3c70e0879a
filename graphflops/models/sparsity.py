"""Learned sparsity: a predictor selects the sites of the resolvent, and an interpolator fills the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_share


def selected_sites(n: int, share: float) -> int:
    """The number of selected sites: a share of n, at least 1.

    >>> selected_sites(128, 0.5), selected_sites(3, 0.1)
    (64, 1)
    """
    return max(1, round(share * n))


class SparseCore(nn.Module):
    """A core on the M = share·N most important sites, whose features are interpolated to all N.

    The selected sites keep their order and are neighbours on a shorter line of M sites. Each feature is weighted by
     the sigmoid of its importance, through which the predictor is trained.

    Args:
        make_core: function from a number of sites to a core.
        n_seq: N.
        share: in (0, 1].
        channels: width of the predictor.
        kernel: kernel size of predictor and interpolator, odd.
    """

    def __init__(
        self,
        make_core: Callable[[int], nn.Module],
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
        self.core = make_core(selected_sites(n_seq, share))
        self.interpolator = nn.Conv1d(2, 2, kernel, padding=kernel // 2)

    def forward(self, v: Tensor) -> Tensor:
        """The features (B, N, 2) of a potential v (B, N), in the dtype of the interpolator."""
        v = v.to(self.interpolator.weight.dtype)
        importance = self.importance(v.unsqueeze(1)).squeeze(1)
        chosen = importance.topk(selected_sites(v.shape[-1], self.share), dim=-1).indices.sort(dim=-1).values
        features = self.core(v.gather(-1, chosen)).to(v.dtype)
        weighted = importance.gather(-1, chosen).sigmoid().unsqueeze(-1) * features
        indices = chosen.unsqueeze(-1).expand_as(weighted)
        scattered = torch.zeros(*v.shape, 2, dtype=v.dtype, device=v.device).scatter(1, indices, weighted)
        interpolated: Tensor = self.interpolator(scattered.transpose(1, 2))
        return interpolated.transpose(1, 2)
