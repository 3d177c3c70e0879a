"""FLOPsCounter and compare_models: shortcuts for language models, on top of analyze()."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import nn

from graphflops.analysis.pipeline import analyze
from graphflops.core.errors import CaptureError, UsageError
from graphflops.core.units import format_scaled, percent, si_exponent, si_unit
from graphflops.models import ConfigurableResNetBK
from graphflops.models.flops_count import FLOPsCount
from graphflops.models.language_models import Sizes, part_costs
from graphflops.models.waterfall import Waterfall, flags_differ, print_waterfall, waterfall
from graphflops.report.changes.settings import setting_notes
from graphflops.report.files import write_atomic
from graphflops.report.report import Report
from graphflops.report.terminal import Terminal

SCHEMA = "graphflops.flops_count/1"


class FLOPsCounter:
    """Counts the FLOPs of a training step of a model of token ids, int64 (batch_size, seq_len).

    The attributes ``d_model``, ``n_layers``, ``vocab_size``, ``num_experts`` and ``top_k`` are the model's sizes, from
    its attributes, its ``config`` or its modules; None for a size that it does not have.

    Args:
        model: ``ConfigurableResNetBK``, ``LanguageModel``, or any model that maps token ids to an output.
        batch_size: B, the number of sequences.
        seq_len: N, the number of tokens in each.
        optimizer_name: the optimizer of ``get_breakdown`` and ``save_to_json``.
        convention: the convention that converts work to FLOPs.

    Raises:
        UsageError: a size is not a positive integer, or the model is not a ``torch.nn.Module``.
    """

    def __init__(
        self,
        model: nn.Module,
        batch_size: int,
        seq_len: int,
        optimizer_name: str = "adamw",
        convention: str = "standard",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise UsageError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        for name, size in (("batch_size", batch_size), ("seq_len", seq_len)):
            _check_size(name, size)
        self.model = model
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.optimizer_name = optimizer_name
        self.convention = convention
        sizes = Sizes.of(model)
        self.d_model, self.n_layers, self.vocab_size = sizes.d_model, sizes.n_layers, sizes.vocab_size
        self.num_experts, self.top_k = sizes.num_experts, sizes.top_k

    def report(self, optimizer_name: str | None = None, rates: Mapping[str, Any] | None = None) -> Report:
        """Analyze the model in its current state; ``rates`` as for ``analyze``.

        Raises:
            CaptureError: the model does not take token ids of that shape.
        """
        tokens = torch.empty(self.batch_size, self.seq_len, dtype=torch.int64, device="meta")
        name = self.optimizer_name if optimizer_name is None else optimizer_name
        try:
            return analyze(self.model, (tokens,), optimizer=name, convention=self.convention, rates=rates)
        except CaptureError as error:
            raise CaptureError(
                f"{error}\n\nFLOPsCounter feeds token ids, int64 ({self.batch_size}, {self.seq_len}); "
                "for other inputs call graphflops.analyze(model, args=(…))."
            ) from error

    def count_forward_flops(self) -> FLOPsCount:
        """FLOPs of the forward pass; backward and optimizer are 0."""
        return FLOPsCount(forward=self.report().forward)

    def count_backward_flops(self) -> FLOPsCount:
        """FLOPs of the backward pass, including recomputation; forward and optimizer are 0."""
        return FLOPsCount(backward=FLOPsCount.of(self.report()).backward)

    def count_optimizer_flops(self, optimizer_name: str = "adamw") -> FLOPsCount:
        """FLOPs of an optimizer step: ``"adamw"``, ``"adam"``, ``"sgd"`` or ``"sgd_momentum"``."""
        return FLOPsCount(optimizer=self.report(optimizer_name).optimizer)

    def count_total_flops(self, optimizer_name: str = "adamw") -> FLOPsCount:
        """FLOPs of a training step: forward, backward and optimizer."""
        return FLOPsCount.of(self.report(optimizer_name))

    @property
    def component_flops(self) -> dict[str, FLOPsCount]:
        """Component → FLOPs by phase."""
        return {name: count.flops for name, count in FLOPsCount.by_component(self.report()).items()}

    def get_breakdown(self) -> dict[str, dict[str, int]]:
        """Component → forward, backward, optimizer and total FLOPs; components add up to the totals."""
        return _breakdown(self.report())

    def count_bk_core_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of BK-Core in one block; 0 with a warning if the model has none."""
        return self._part("bk_core", "BK-Core")

    def count_moe_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of the mixture of experts in one block; 0 with a warning if the model has none."""
        return self._part("moe", "mixture of experts")

    def count_embedding_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of the embedding; 0 with a warning if the model has none."""
        return self._part("embedding", "embedding")

    def count_layernorm_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of one normalization layer; 0 with a warning if the model has none."""
        return self._part("layernorm", "normalization")

    def count_output_projection_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of the output projection in one block; 0 with a warning if the model has none."""
        return self._part("output_projection", "output projection")

    def count_lm_head_flops(self) -> FLOPsCount:
        """Forward and backward FLOPs of the head; 0 with a warning if the model has none."""
        return self._part("lm_head", "head")

    def count_linear_flops(self, in_features: int, out_features: int) -> FLOPsCount:
        """Forward and backward FLOPs of a linear layer on (batch_size, seq_len, in_features), with all gradients.

        Raises:
            UsageError: a size is not a positive integer.
        """
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            _check_size(name, size)
        x = torch.empty(self.batch_size, self.seq_len, in_features, device="meta", requires_grad=True)
        linear = nn.Linear(in_features, out_features, device="meta")
        return FLOPsCount.of(analyze(linear, (x,), optimizer=None, convention=self.convention))

    def _part(self, kind: str, description: str) -> FLOPsCount:
        count = part_costs(self.report(None))[kind]
        if count is None:
            warnings.warn(f"{type(self.model).__name__} has no {description}: 0 FLOPs", stacklevel=3)
        return count or FLOPsCount()

    def print_summary(self, optimizer_name: str | None = None) -> None:
        """Print totals, components and coverage."""
        report = self.report(optimizer_name)
        count, exponent = FLOPsCount.of(report), si_exponent(report.total)
        console = Terminal(highlight=False)
        heading = Text("FLOPs Counter Summary", style="bold")
        description = f": a training step of {report.model}, batch {self.batch_size}, sequence {self.seq_len}"
        console.print(Text.assemble(heading, description))
        console.print(f"  {self._describe_experts()}")
        rows = [
            ("Forward Pass:", count.forward, "FLOPs"),
            ("Backward Pass:", count.backward, "FLOPs"),
            ("Optimizer Step:", count.optimizer, "FLOPs"),
            ("Total", count.total, "FLOPs"),
            ("Forward MACs", report.macs, "MACs"),
        ]
        for name, number, unit in rows:
            console.print(
                f"  {name:<20}{format_scaled(number, exponent):>10} {si_unit(exponent, unit):<7}{number:>22,}"
            )
        console.print("\nComponent Breakdown")
        for name, parts in _breakdown(report).items():
            console.print(
                f"  {name:<20}{format_scaled(parts['total'], exponent):>10} {si_unit(exponent, 'FLOPs'):<7}"
                f"{percent(parts['total'], count.total):>8}"
            )
        console.print(f"\n  {report.coverage}")

    def _describe_experts(self) -> str:
        if self.num_experts is None:
            return "no mixture of experts"
        return f"{self.num_experts} experts" + ("" if self.top_k is None else f", top {self.top_k}")

    def save_to_json(self, path: str | Path, optimizer_name: str | None = None) -> None:
        """Write totals, components and the model's sizes to a JSON file, atomically.

        Raises:
            UsageError: the path cannot be written.
        """
        report = self.report(optimizer_name)
        content = {
            "schema": SCHEMA,
            "schema_version": 1,
            "unit": "FLOP",
            "convention": report.convention.name,
            "optimizer": report.optimizer_name,
            "model_config": self._model_config(),
            "total_flops": FLOPsCount.of(report).to_dict(),
            "component_breakdown": _breakdown(report),
            "macs": report.macs,
            "parameters": sum(report.parameters.values()),
            "coverage": asdict(report.coverage),
        }
        write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _model_config(self) -> dict[str, Any]:
        return {
            "model": type(self.model).__name__,
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "vocab_size": self.vocab_size,
            "num_experts": self.num_experts,
            "top_k": self.top_k,
            "seq_len": self.seq_len,
            "batch_size": self.batch_size,
        }


def compare_models(
    model1: nn.Module,
    model2: nn.Module,
    batch_size: int,
    seq_len: int,
    model1_name: str = "Model 1",
    model2_name: str = "Model 2",
) -> dict[str, Any]:
    """Count two models on the same tokens, print a comparison, and return the counts by name.

    ``["speedup"]`` has forward, backward and total: FLOPs of model1 divided by those of model2, so 2 means that model2
    needs half the FLOPs. Other differences, such as ``training``, are printed as notes. For two
    ``ConfigurableResNetBK`` with different flags, ``["waterfall"]`` is a ``graphflops.models.waterfall.Waterfall``,
    which is printed too: the FLOPs that each flag adds or saves.

    Raises:
        UsageError: both have the same name, or a size is invalid.
    """
    names = model1_name, model2_name
    if model1_name == model2_name or {"speedup", "waterfall"} & {*names}:
        raise UsageError(
            f"expected two different names, not 'speedup' or 'waterfall'; got {model1_name!r}, {model2_name!r}"
        )
    reports = [FLOPsCounter(model, batch_size, seq_len).report() for model in (model1, model2)]
    counts = {name: FLOPsCount.of(report) for name, report in zip(names, reports, strict=True)}
    notes = [*_modes(model1, model2, names), *setting_notes(reports[0], reports[1], names)]
    speedup = {
        phase: _ratio(getattr(counts[model1_name], phase), getattr(counts[model2_name], phase))
        for phase in ("forward", "backward", "total")
    }
    difference = _waterfall_between(model1, model2, batch_size, counts[model1_name], counts[model2_name])
    _print_comparison(counts, speedup)
    for note in notes:
        Terminal().print(f"note: {note}", soft_wrap=True)
    if difference is not None:
        print_waterfall(replace(difference, before=model1_name, after=model2_name), Terminal())
    ratios = ", ".join(f"{phase} {ratio:.2f}×" for phase, ratio in speedup.items())
    Terminal().print(f"Speedup: {ratios} ({model1_name} over {model2_name})", soft_wrap=True)
    result = {**counts, "speedup": speedup}
    return result if difference is None else {**result, "waterfall": difference}


def _check_size(name: str, size: object) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UsageError(f"{name} must be a positive integer, not {size!r}")


def _modes(model1: nn.Module, model2: nn.Module, names: tuple[str, str]) -> list[str]:
    """Differences of two models in training mode and frozen parameters, one sentence each."""
    notes = []
    if model1.training != model2.training:
        training, evaluation = names if model1.training else names[::-1]
        notes.append(f"{training} is in training mode and {evaluation} in evaluation mode, without dropout")
    frozen = [not any(parameter.requires_grad for parameter in model.parameters()) for model in (model1, model2)]
    if frozen[0] != frozen[1]:
        notes.append(f"{names[0] if frozen[0] else names[1]} has no trainable parameters")
    return notes


def _waterfall_between(
    model1: nn.Module, model2: nn.Module, batch_size: int, count1: FLOPsCount, count2: FLOPsCount
) -> Waterfall | None:
    """The waterfall of two models; None if their flags are equal, or a model no longer matches its config."""
    if not (isinstance(model1, ConfigurableResNetBK) and isinstance(model2, ConfigurableResNetBK)):
        return None
    if not flags_differ(model1.config, model2.config):
        return None
    difference = waterfall(model1.config, model2.config, batch_size)
    # Models that were frozen, pruned or put into eval mode do not match their config.
    return difference if (difference.start.flops, difference.end.flops) == (count1, count2) else None


def _print_comparison(counts: Mapping[str, FLOPsCount], speedup: Mapping[str, float]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Model Comparison: FLOPs of a training step", title_justify="left")
    table.add_column("phase")
    for name in counts:
        table.add_column(name, justify="right")
    table.add_column("speedup", justify="right")
    for phase in ("forward", "backward", "optimizer", "total"):
        ratio = f"{speedup[phase]:.2f}×" if phase in speedup else ""
        table.add_row(phase, *(f"{getattr(count, phase):,}" for count in counts.values()), ratio)
    Terminal().print(table)


def _ratio(numerator: int, denominator: int) -> float:
    if denominator == 0:
        return 1.0 if numerator == 0 else float("inf")
    return numerator / denominator


def _breakdown(report: Report) -> dict[str, dict[str, int]]:
    return {name: count.to_dict() for name, count in FLOPsCount.by_component(report).items()}
