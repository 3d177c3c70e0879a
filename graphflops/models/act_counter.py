"""ACTFLOPsCounter and measure_act_flops: FLOPs of adaptive computation, in which tokens skip layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from graphflops.analysis.pipeline import analyze
from graphflops.core.errors import UsageError
from graphflops.core.messages import try_getattr
from graphflops.core.rate import to_fraction
from graphflops.models.adaptive import HaltingUnit
from graphflops.models.counter import FLOPsCounter
from graphflops.models.flops_count import FLOPsCount
from graphflops.models.language_models import entries_cost

_HALTING = ("halting", "act_module", "act", "halting_unit")


class ACTFLOPsCounter:
    """Counts the FLOPs of a training step in which a token runs through some of the layers (adaptive computation time).

    Each layer has the rate avg_layers_executed / n_layers. Embedding, head and the optimizer step are counted in full.
    ``layers`` lists the paths of the layers: the items of the model's first ``ModuleList``.

    Args:
        model: a model of token ids with its layers in one ``ModuleList``; see ``FLOPsCounter``.
        batch_size: B, the number of sequences.
        seq_len: N, the number of tokens in each.

    Raises:
        UsageError: a size is not a positive integer, or the model has no ``ModuleList``.
    """

    def __init__(self, model: nn.Module, batch_size: int, seq_len: int) -> None:
        self.base_counter = FLOPsCounter(model, batch_size, seq_len)
        self.model, self.batch_size, self.seq_len = model, batch_size, seq_len
        self.layers = _layers(model)
        if not self.layers:
            raise UsageError(f"{type(model).__name__} has no list of layers to skip")
        self.n_layers = len(self.layers)

    def count_act_overhead_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of the halting decision, if all layers run.

        Counts the model's halting module (``halting``, ``act_module``), or otherwise a
        ``graphflops.models.adaptive.HaltingUnit`` after each layer but the last.
        """
        if (path := self._halting()) is not None:
            report = self.base_counter.report()
            return entries_cost(report, report.select(path))
        x = torch.empty(self.batch_size, self.seq_len, self._width(), device="meta", requires_grad=True)
        return (self.n_layers - 1) * FLOPsCount.of(analyze(HaltingUnit(x.shape[-1]), (x,), optimizer=None))

    def count_actual_flops(self, avg_layers_executed: float, include_act_overhead: bool = True) -> FLOPsCount:
        """FLOPs of a training step at this average number of layers per token.

        Raises:
            UsageError: ``avg_layers_executed`` is not a number from 0 to the number of layers.
        """
        rate, path = self._rate(avg_layers_executed), self._halting()
        rates: dict[str, Any] = dict.fromkeys(self.layers, rate)
        if path is not None:
            rates |= dict.fromkeys(_units(self.model, path), rate)
        report = self.base_counter.report(rates=rates)
        count = FLOPsCount.of(report)
        if path is None:
            return count + _scaled(self.count_act_overhead_flops(), rate) if include_act_overhead else count
        return count if include_act_overhead else count - entries_cost(report, report.select(path))

    def compute_flops_reduction(self, avg_layers_executed: float) -> float:
        """The share of a full step's FLOPs that is saved: 0.4 is 40 % fewer; negative if halting costs more.

        Raises:
            UsageError: ``avg_layers_executed`` is not a number from 0 to the number of layers.
        """
        actual, full = self.count_actual_flops(avg_layers_executed).total, self.base_counter.count_total_flops().total
        return 1 - actual / full

    def _rate(self, layers: float) -> Fraction:
        message = f"avg_layers_executed must be a number from 0 to {self.n_layers}, not {layers!r}"
        if isinstance(layers, str):
            raise UsageError(message)
        try:
            number = to_fraction(layers)
        except UsageError as error:
            raise UsageError(message) from error
        if not 0 <= number <= self.n_layers:
            raise UsageError(message)
        return number / self.n_layers

    def _halting(self) -> str | None:
        """The path of the halting module; None if the model has none."""
        return next((name for name in _HALTING if isinstance(try_getattr(self.model, name), nn.Module)), None)

    def _width(self) -> int:
        if self.base_counter.d_model is None:
            raise UsageError(f"{type(self.model).__name__} has no known width: add an attribute d_model")
        return self.base_counter.d_model


def measure_act_flops(
    model: nn.Module, dataloader: Iterable[Any], device: str | torch.device | None = None, max_batches: int = 100
) -> dict[str, Any]:
    """Run real batches and count the FLOPs of the layers that ran; see ``graphflops.analysis.rates.measure``.

    Args:
        model: as for ``ACTFLOPsCounter``, on real tensors.
        dataloader: batches of token ids (B, N), or tuples or lists whose first item they are.
        device: move the batches to this device, if given. The model is not moved.
        max_batches: maximal number of batches.

    Returns:
        ``"act_statistics"`` with ``avg_layers_executed`` (the sum of the measured rates of the layers),
        ``layer_rates`` and ``batches``; ``"flops"`` with ``full_model``, ``with_act`` (each forward,
        backward, optimizer, total) and ``reduction``; ``"avg_flops_per_token"``.

    Raises:
        UsageError: there is no batch, or the model has no ``ModuleList``.
    """
    from graphflops.analysis.rates import measure

    tokens = [_tokens(batch, device) for batch in islice(dataloader, max_batches)]
    if not tokens:
        raise UsageError("no batches: expected at least one")
    counter = ACTFLOPsCounter(model, *tokens[0].shape)
    measured = measure(model, tokens)
    layers = {path: measured[path].expected if path in measured else Fraction(1) for path in counter.layers}
    full = counter.base_counter.count_total_flops()
    actual = FLOPsCount.of(counter.base_counter.report(rates=measured))
    return {
        "act_statistics": {
            "avg_layers_executed": float(sum(layers.values())),
            "layer_rates": {path: float(rate) for path, rate in layers.items()},
            "batches": len(tokens),
        },
        "flops": {
            "full_model": full.to_dict(),
            "with_act": actual.to_dict(),
            "reduction": 1 - actual.total / full.total,
        },
        "avg_flops_per_token": actual.total / tokens[0].numel(),
    }


def _layers(model: nn.Module) -> list[str]:
    """The paths of the modules in the first ``ModuleList`` that is not empty."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module):
            return [f"{path}.{name}" for name, _ in module.named_children()]
    return []


def _units(model: nn.Module, path: str) -> list[str]:
    """The paths of the parts of a halting module that run once per layer: the items of its list, or itself."""
    return [f"{path}.{unit}" for unit in _layers(model.get_submodule(path))] or [path]


def _scaled(count: FLOPsCount, rate: Fraction) -> FLOPsCount:
    """A count times a rate, rounded to integers."""
    return FLOPsCount(round(count.forward * rate), round(count.backward * rate), round(count.optimizer * rate))


def _tokens(batch: Any, device: str | torch.device | None) -> Tensor:
    first = batch
    while isinstance(first, (tuple, list, Mapping)) and first:
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    if not isinstance(first, Tensor) or first.dim() != 2:
        raise UsageError(f"expected a batch that begins with token ids (B, N), not {type(batch).__name__}")
    return first if device is None else first.to(device)
