"""Routing by capacity: places in the queues of experts, counted from masks and ranks, and asked for the largest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from real_run import analyzed_macs, real_macs, report_of
from torch import Tensor, nn

EXPERTS, CAPACITY = 4, 24


class ByCapacity(nn.Module):
    """Each expert has so many places; the second choice is dropped at random."""

    def __init__(self, *, drop: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(8, EXPERTS)
        self.weights = nn.Parameter(torch.zeros(EXPERTS, 8, 8))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x).softmax(-1)
        weight, index = scores.max(-1)
        mask = F.one_hot(index, EXPERTS).float()
        if self.drop:
            mask *= (torch.zeros_like(weight).uniform_(0, 1) < weight / 0.2).float()[:, None]
        places = F.pad(mask, (0, 0, 1, 0)).cumsum(0)[:-1] * mask
        mask *= (places < CAPACITY).float()
        place = places.sum(-1).long()
        one_hot = F.one_hot(place, max(place.max() + 1, CAPACITY))[..., :CAPACITY]
        sent = (mask * weight[:, None])[..., None] * one_hot[:, None, :]
        inner = torch.einsum("nec,nd->ecd", sent, x)
        return torch.einsum("nec,ecd->nd", sent, torch.bmm(inner, self.weights))


def test_places_in_queues_are_counted_with_even_ranks_and_whole_masks() -> None:
    x = torch.zeros(32, 8)
    for drop in (False, True):
        model = ByCapacity(drop=drop)
        assert analyzed_macs(model, x) == real_macs(model, x)
        assert any("data-dependent branch" in assumption for assumption in report_of(model, x).assumptions)
