"""Pruning: experts that see few tokens are taken out, and the gate shrinks with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_share
from graphflops.models.moe import SparseMoE


@torch.no_grad()
def expert_shares(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, tuple[float, ...]]:
    """Path of each mixture of a model → the share of the visits that each of its experts has on real batches.

    Args:
        model: any that holds mixtures; it runs as it is, in ``eval`` or in training.
        batches: its inputs, one after the other.

    Raises:
        ValueError: there is no batch.
    """
    visits = {path: torch.zeros(each.num_experts) for path, each in _mixtures(model).items()}

    def counts(path: str, moe: SparseMoE):  # type: ignore[no-untyped-def]
        def hook(gate: nn.Module, args: object, logits: Tensor) -> None:
            chosen = logits.topk(moe.top_k, dim=-1).indices
            visits[path] += torch.bincount(chosen.flatten(), minlength=moe.num_experts).cpu()

        return hook

    hooks = [each.gate.register_forward_hook(counts(path, each)) for path, each in _mixtures(model).items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(each.sum() for each in visits.values()):
        raise ValueError("batches must hold at least one batch, got none")
    return {path: tuple((each / each.sum()).tolist()) for path, each in visits.items()}


@torch.no_grad()
def prune(model: nn.Module, shares: dict[str, tuple[float, ...]], threshold: float) -> dict[str, int]:
    """Take out, in place, every expert whose share is below the threshold; those that see most stay, top_k at least.

    Args:
        model: the one that the shares are of.
        shares: as `expert_shares` gives them.
        threshold: in (0, 1].

    Returns:
        Path of each mixture → how many experts it has now.

    Raises:
        ValueError: the threshold is out of range, or the shares are of another model.
    """
    require_share("threshold", threshold)
    mixtures = _mixtures(model)
    if {path: each.num_experts for path, each in mixtures.items()} != {path: len(of) for path, of in shares.items()}:
        raise ValueError(f"shares must be those of this model's mixtures, {', '.join(mixtures)}; measure them anew")
    for path, moe in mixtures.items():
        of = shares[path]
        by_share = sorted(range(len(of)), key=lambda expert: -of[expert])
        keep = [expert for i, expert in enumerate(by_share) if i < moe.top_k or of[expert] >= threshold]
        _keep(moe, sorted(keep))
    return {path: each.num_experts for path, each in mixtures.items()}


def _keep(moe: SparseMoE, kept: Sequence[int]) -> None:
    """Shrink gate and experts to those of the given indices."""
    rows = list(kept)
    gate = moe.gate
    assert isinstance(gate, nn.Linear)
    gate.weight = nn.Parameter(gate.weight[rows].clone(), gate.weight.requires_grad)
    gate.bias = nn.Parameter(gate.bias[rows].clone(), gate.bias.requires_grad)
    gate.out_features = moe.num_experts = len(rows)
    for expert in sorted(set(range(len(moe.experts))) - set(rows), reverse=True):
        del moe.experts[expert]


def _mixtures(model: nn.Module) -> dict[str, SparseMoE]:
    return {path: each for path, each in model.named_modules() if isinstance(each, SparseMoE)}
