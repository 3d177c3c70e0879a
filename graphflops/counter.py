"""FLOPsCounter, FLOPsCount and compare_models: the counter people have in their notes, a thin face over analyze()."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import nn

from graphflops.analysis import analyze
from graphflops.comparison import Waterfall, differences, flags_differ, print_waterfall, waterfall
from graphflops.counts import FLOPsCount
from graphflops.errors import CaptureError, UsageError
from graphflops.files import write_whole
from graphflops.models import ConfigurableResNetBK
from graphflops.report import Report
from graphflops.terminal import Terminal
from graphflops.units import in_step, percent, step_of, unit

SCHEMA = "graphflops.flops_count/1"


class FLOPsCounter:
    """Counts the FLOPs of a training step of a model of token ids, int64 (batch_size, seq_len).

    Args:
        model: ``ConfigurableResNetBK``, ``LanguageModel``, or any model that maps token ids to an output.
        batch_size: B, the number of sequences.
        seq_len: N, the number of tokens in each.
        optimizer_name: the optimizer that ``get_breakdown`` and ``save_to_json`` speak of.
        convention: how work is turned into FLOPs.

    Raises:
        UsageError: a size is not a positive integer, or the model is not a module.
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
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise UsageError(f"{name} must be a positive integer, not {size!r}")
        self.model = model
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.optimizer_name = optimizer_name
        self.convention = convention

    def report(self, optimizer_name: str | None = None) -> Report:
        """The whole analysis, from the model as it is now.

        Raises:
            CaptureError: the model does not take token ids of that shape.
        """
        tokens = torch.empty(self.batch_size, self.seq_len, dtype=torch.int64, device="meta")
        name = self.optimizer_name if optimizer_name is None else optimizer_name
        try:
            return analyze(self.model, (tokens,), optimizer=name, convention=self.convention)
        except CaptureError as error:
            raise CaptureError(
                f"{error}\n\nFLOPsCounter feeds token ids, int64 ({self.batch_size}, {self.seq_len}); "
                "for other inputs call graphflops.analyze(model, args=(…))."
            ) from error

    def count_forward_flops(self) -> FLOPsCount:
        """The forward pass alone."""
        return FLOPsCount(forward=self.report().forward)

    def count_backward_flops(self) -> FLOPsCount:
        """The backward pass alone, recomputed work included."""
        return FLOPsCount(backward=FLOPsCount.of(self.report()).backward)

    def count_optimizer_flops(self, optimizer_name: str = "adamw") -> FLOPsCount:
        """The optimizer's update alone: ``"adamw"``, ``"adam"``, ``"sgd"`` or ``"sgd_momentum"``."""
        return FLOPsCount(optimizer=self.report(optimizer_name).optimizer)

    def count_total_flops(self, optimizer_name: str = "adamw") -> FLOPsCount:
        """The whole training step."""
        return FLOPsCount.of(self.report(optimizer_name))

    def get_breakdown(self) -> dict[str, dict[str, int]]:
        """Component → forward, backward, optimizer, total; the components add up to the totals."""
        return _breakdown(self.report())

    def print_summary(self) -> None:
        """Print totals and components."""
        report = self.report()
        count, step = FLOPsCount.of(report), step_of(report.total)
        console = Terminal(highlight=False)
        heading = Text("FLOPs of a training step", style="bold")
        about = f": {report.model}, batch {self.batch_size}, sequence {self.seq_len}"
        console.print(Text.assemble(heading, about))
        rows = [(name.capitalize(), flops, "FLOPs") for name, flops in count.to_dict().items()]
        for name, number, measure in (*rows, ("Forward MACs", report.macs, "MACs")):
            console.print(f"  {name:<20}{in_step(number, step):>10} {unit(step, measure):<7}{number:>22,}")
        console.print()
        for name, parts in _breakdown(report).items():
            console.print(
                f"  {name:<20}{in_step(parts['total'], step):>10} {unit(step, 'FLOPs'):<7}"
                f"{percent(parts['total'], count.total):>8}"
            )
        console.print(f"\n  {report.coverage}")

    def save_to_json(self, path: str | Path) -> None:
        """Write totals, components and the model's configuration to a file, whole or not at all.

        Raises:
            UsageError: the path cannot be written.
        """
        report = self.report()
        content = {
            "schema": SCHEMA,
            "schema_version": 1,
            "unit": "FLOP",
            "convention": report.convention.name,
            "optimizer": self.optimizer_name,
            "model_config": self._model_config(),
            "total_flops": FLOPsCount.of(report).to_dict(),
            "component_breakdown": _breakdown(report),
            "macs": report.macs,
            "parameters": sum(report.parameters.values()),
            "coverage": asdict(report.coverage),
        }
        write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _model_config(self) -> dict[str, Any]:
        known = ("d_model", "n_layers", "vocab_size", "num_experts", "top_k")
        config = {name: getattr(self.model, name) for name in known if isinstance(getattr(self.model, name, None), int)}
        return {
            "model": type(self.model).__name__,
            **config,
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
    """Count two models on the same tokens, print both, and return them by name.

    ``["speedup"]`` has forward, backward and total: FLOPs of model1 over those of model2, so that 2 means that model2
    needs half of what model1 needs. What else the two differ in, such as ``training``, is printed. Of two
    ``ConfigurableResNetBK`` whose configs differ by flags, ``["waterfall"]`` is a ``graphflops.comparison.Waterfall``,
    printed as well: what each flag adds or saves, adding up to the difference.

    Raises:
        UsageError: both have the same name, or a size is wrong.
    """
    names = model1_name, model2_name
    if model1_name == model2_name or {"speedup", "waterfall"} & {*names}:
        raise UsageError(
            f"two models need two names, neither of them 'speedup' or 'waterfall'; got {model1_name!r}, {model2_name!r}"
        )
    reports = [FLOPsCounter(model, batch_size, seq_len).report() for model in (model1, model2)]
    counts = {name: FLOPsCount.of(report) for name, report in zip(names, reports, strict=True)}
    notes = [*_modes(model1, model2, names), *differences(reports[0], reports[1], names)]
    speedup = {
        phase: _ratio(getattr(counts[model1_name], phase), getattr(counts[model2_name], phase))
        for phase in ("forward", "backward", "total")
    }
    _print_comparison(counts, speedup)
    for note in notes:
        Terminal().print(f"note: {note}", soft_wrap=True)
    between = _waterfall_between(model1, model2, batch_size, counts[model1_name], counts[model2_name])
    if between is None:
        return {**counts, "speedup": speedup}
    print_waterfall(replace(between, first=model1_name, second=model2_name), Terminal())
    return {**counts, "speedup": speedup, "waterfall": between}


def _modes(model1: nn.Module, model2: nn.Module, names: tuple[str, str]) -> list[str]:
    """That one of two models trains and the other does not, which changes what both cost."""
    notes = []
    if model1.training != model2.training:
        trains, other = names if model1.training else names[::-1]
        notes.append(f"{trains} is in training mode and {other} in evaluation mode, where dropout and the like are off")
    frozen = [not any(each.requires_grad for each in model.parameters()) for model in (model1, model2)]
    if frozen[0] != frozen[1]:
        notes.append(f"{names[0] if frozen[0] else names[1]} has no parameter that is trained")
    return notes


def _waterfall_between(
    model1: nn.Module, model2: nn.Module, batch_size: int, count1: FLOPsCount, count2: FLOPsCount
) -> Waterfall | None:
    """What the flags of two models add up to; None if no flags differ, or if a model is not what its config says."""
    if not (isinstance(model1, ConfigurableResNetBK) and isinstance(model2, ConfigurableResNetBK)):
        return None
    if not flags_differ(model1.config, model2.config):
        return None
    between = waterfall(model1.config, model2.config, batch_size)
    # A model that was frozen, pruned or put into eval since it was built is not told by its config.
    return between if (between.start.flops, between.end.flops) == (count1, count2) else None


def _print_comparison(counts: Mapping[str, FLOPsCount], speedup: Mapping[str, float]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="FLOPs of a training step", title_justify="left")
    table.add_column("phase")
    for name in counts:
        table.add_column(name, justify="right")
    table.add_column("speedup", justify="right")
    for phase in ("forward", "backward", "optimizer", "total"):
        ratio = f"{speedup[phase]:.2f}×" if phase in speedup else ""
        table.add_row(phase, *(f"{getattr(count, phase):,}" for count in counts.values()), ratio)
    Terminal().print(table)


def _ratio(ours: int, theirs: int) -> float:
    if theirs == 0:
        return 1.0 if ours == 0 else float("inf")
    return ours / theirs


def _breakdown(report: Report) -> dict[str, dict[str, int]]:
    backward, recompute = report.by_component("backward"), report.by_component("recompute")
    optimizer = report.by_component("optimizer")
    return {
        name: FLOPsCount(forward, backward[name] + recompute[name], optimizer[name]).to_dict()
        for name, forward in report.by_component("forward").items()
    }
