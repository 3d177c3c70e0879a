"""Pruning: experts that receive few tokens are removed, and the gate shrinks accordingly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_share
from graphflops.models.moe import SparseMoE


@torch.no_grad()
def expert_shares(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, tuple[float, ...]]:
    """Path of each mixture → the share of tokens that each of its experts receives on real batches.

    Args:
        model: a model with mixtures of experts; its mode is not changed.
        batches: inputs of the model.

    Raises:
        ValueError: there is no batch.
    """
    visits = {path: torch.zeros(moe.num_experts) for path, moe in _mixtures(model).items()}

    def counting_hook(path: str, moe: SparseMoE):  # type: ignore[no-untyped-def]
        def hook(gate: nn.Module, args: object, logits: Tensor) -> None:
            chosen = logits.topk(moe.top_k, dim=-1).indices
            visits[path] += torch.bincount(chosen.flatten(), minlength=moe.num_experts).cpu()

        return hook

    hooks = [moe.gate.register_forward_hook(counting_hook(path, moe)) for path, moe in _mixtures(model).items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(counts.sum() for counts in visits.values()):
        raise ValueError("batches must hold at least one batch, got none")
    return {path: tuple((counts / counts.sum()).tolist()) for path, counts in visits.items()}


@torch.no_grad()
def prune(model: nn.Module, shares: dict[str, tuple[float, ...]], threshold: float) -> dict[str, int]:
    """Remove, in place, every expert with a share below the threshold, but keep the top_k largest.

    Args:
        model: the model.
        shares: the result of `expert_shares` for this model.
        threshold: in (0, 1].

    Returns:
        Path of each mixture → number of remaining experts.

    Raises:
        ValueError: the threshold is out of range, or the shares belong to another model.
    """
    require_share("threshold", threshold)
    mixtures = _mixtures(model)
    experts = {path: moe.num_experts for path, moe in mixtures.items()}
    if experts != {path: len(values) for path, values in shares.items()}:
        raise ValueError(f"shares must be those of this model's mixtures, {', '.join(mixtures)}; measure them again")
    for path, moe in mixtures.items():
        values = shares[path]
        by_share = sorted(range(len(values)), key=values.__getitem__, reverse=True)
        kept = [expert for i, expert in enumerate(by_share) if i < moe.top_k or values[expert] >= threshold]
        _keep(moe, sorted(kept))
    return {path: moe.num_experts for path, moe in mixtures.items()}


def _keep(moe: SparseMoE, kept: Sequence[int]) -> None:
    """Keep only the experts with these indices, in gate and list."""
    rows = list(kept)
    gate = moe.gate
    assert isinstance(gate, nn.Linear)
    gate.weight = nn.Parameter(gate.weight[rows].clone(), gate.weight.requires_grad)
    gate.bias = nn.Parameter(gate.bias[rows].clone(), gate.bias.requires_grad)
    gate.out_features = moe.num_experts = len(rows)
    for expert in sorted(set(range(len(moe.experts))) - set(rows), reverse=True):
        del moe.experts[expert]


def _mixtures(model: nn.Module) -> dict[str, SparseMoE]:
    return {path: module for path, module in model.named_modules() if isinstance(module, SparseMoE)}
