"""ACTFLOPsCounter and measure_act_flops: a training step of a model whose layers do not all run, by rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from graphflops.analysis.pipeline import analyze
from graphflops.core.errors import UsageError
from graphflops.core.rate import to_fraction
from graphflops.models.adaptive import HaltingUnit
from graphflops.models.counter import FLOPsCounter
from graphflops.models.flops_count import FLOPsCount
from graphflops.models.language_models import attribute_of, cost_of

_HALTING = ("halting", "act_module", "act", "halting_unit")


class ACTFLOPsCounter:
    """Counts the FLOPs of a training step in which a token runs through some of the layers (adaptive computation time).

    Each layer has the rate avg_layers_executed / n_layers; embedding, head and the optimizer's update of whatever runs
    at all are whole. ``layers`` has the paths of the layers: those of the model's first list of modules.

    Args:
        model: a model of token ids whose layers are in one list; see ``FLOPsCounter``.
        batch_size: B, the number of sequences.
        seq_len: N, the number of tokens in each.

    Raises:
        UsageError: a size is not a positive integer, or the model has no list of layers.
    """

    def __init__(self, model: nn.Module, batch_size: int, seq_len: int) -> None:
        self.base_counter = FLOPsCounter(model, batch_size, seq_len)
        self.model, self.batch_size, self.seq_len = model, batch_size, seq_len
        self.layers = _layers(model)
        if not self.layers:
            raise UsageError(f"{type(model).__name__} has no list of layers, of which some could be skipped")
        self.n_layers = len(self.layers)

    def count_act_overhead_flops(self) -> FLOPsCount:
        """Forward and backward of deciding when to stop, if all layers run.

        Of a model that decides by a module of its own (``halting``, ``act_module``) it is that module, else a
        ``graphflops.models.adaptive.HaltingUnit`` after each layer but the last.
        """
        if (path := self._halting()) is not None:
            report = self.base_counter.report()
            return cost_of(report, report.select(path))
        x = torch.empty(self.batch_size, self.seq_len, self._width(), device="meta", requires_grad=True)
        return (self.n_layers - 1) * FLOPsCount.of(analyze(HaltingUnit(x.shape[-1]), (x,), optimizer=None))

    def count_actual_flops(self, avg_layers_executed: float, include_act_overhead: bool = True) -> FLOPsCount:
        """The whole step if a token runs through so many layers on average, with or without deciding when to stop.

        Raises:
            UsageError: ``avg_layers_executed`` is no number from 0 to the number of layers.
        """
        rate, path = self._rate(avg_layers_executed), self._halting()
        rates: dict[str, Any] = dict.fromkeys(self.layers, rate)
        if path is not None:
            rates |= dict.fromkeys(_units(self.model, path), rate)
        report = self.base_counter.report(rates=rates)
        count = FLOPsCount.of(report)
        if path is None:
            return count + _scaled(self.count_act_overhead_flops(), rate) if include_act_overhead else count
        return count if include_act_overhead else count - cost_of(report, report.select(path))

    def compute_flops_reduction(self, avg_layers_executed: float) -> float:
        """The share of a whole step's FLOPs that is saved: 0.4 is 40 % fewer. It is negative where deciding costs more.

        Raises:
            UsageError: ``avg_layers_executed`` is no number from 0 to the number of layers.
        """
        actual, full = self.count_actual_flops(avg_layers_executed).total, self.base_counter.count_total_flops().total
        return 1 - actual / full

    def _rate(self, layers: float) -> Fraction:
        wrong = f"avg_layers_executed must be a number from 0 to {self.n_layers}, not {layers!r}"
        if isinstance(layers, str):
            raise UsageError(wrong)
        try:
            number = to_fraction(layers)
        except UsageError as error:
            raise UsageError(wrong) from error
        if not 0 <= number <= self.n_layers:
            raise UsageError(wrong)
        return number / self.n_layers

    def _halting(self) -> str | None:
        """The path of the module that decides when to stop; None if the model has none."""
        return next((name for name in _HALTING if isinstance(attribute_of(self.model, name), nn.Module)), None)

    def _width(self) -> int:
        if self.base_counter.d_model is None:
            raise UsageError(f"{type(self.model).__name__} does not say its width: give it an attribute d_model")
        return self.base_counter.d_model


def measure_act_flops(
    model: nn.Module, dataloader: Iterable[Any], device: str | torch.device | None = None, max_batches: int = 100
) -> dict[str, Any]:
    """Run real batches, and say what they cost; see ``graphflops.analysis.rates.measure``, which runs them.

    Args:
        model: as for ``ACTFLOPsCounter``, on real tensors.
        dataloader: of each batch the token ids (B, N), or a tuple or list that begins with them.
        device: to which the batches go; None leaves them where they are. The model stays where it is.
        max_batches: how many are run at most.

    Returns:
        ``"act_statistics"`` with ``avg_layers_executed``, the average over the layers of their measured rates, times
        their number, ``layer_rates`` and ``batches``; ``"flops"`` with ``full_model``, ``with_act`` (each forward,
        backward, optimizer, total) and ``reduction``; ``"avg_flops_per_token"``.

    Raises:
        UsageError: there is no batch, or the model has no list of layers.
    """
    from graphflops.analysis.rates import measure

    tokens = [_tokens(batch, device) for batch in islice(dataloader, max_batches)]
    if not tokens:
        raise UsageError("there are no batches to measure: give at least one")
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
    """The paths of the modules in the first list of modules that has any."""
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module):
            return [f"{path}.{name}" for name, _ in module.named_children()]
    return []


def _units(model: nn.Module, path: str) -> list[str]:
    """The paths of the parts of a halting module that run once for each layer: those of its list, else itself."""
    return [f"{path}.{each}" for each in _layers(model.get_submodule(path))] or [path]


def _scaled(count: FLOPsCount, rate: Fraction) -> FLOPsCount:
    """So much of a count, rounded to whole FLOPs."""
    return FLOPsCount(round(count.forward * rate), round(count.backward * rate), round(count.optimizer * rate))


def _tokens(batch: Any, device: str | torch.device | None) -> Tensor:
    first = batch
    while isinstance(first, (tuple, list, Mapping)) and first:
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    if not isinstance(first, Tensor) or first.dim() != 2:
        raise UsageError(f"a batch begins with token ids (B, N), and this one is {type(batch).__name__}")
    return first if device is None else first.to(device)
