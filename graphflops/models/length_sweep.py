"""FLOPs per token of ResNet-BK, Mamba and a Transformer at several sequence lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_error, shortened
from graphflops.core.units import format_si
from graphflops.models.flops_count import FLOPsCount
from graphflops.report.grid import Column, print_grid, print_line

if TYPE_CHECKING:
    from torch import nn

    from graphflops.report.terminal import Terminal

LENGTHS = (128, 512, 2048, 8192)
SCHEMA = "graphflops.family/1"


@dataclass(frozen=True)
class ModelCurve:
    """FLOPs of a model by sequence length N, for a training step on one sequence."""

    name: str
    parameters: int
    """of the blocks; embedding and head are equal in all models"""
    blocks: Mapping[int, FLOPsCount]
    """N → FLOPs of the blocks"""
    whole: Mapping[int, FLOPsCount]
    """N → FLOPs of the model"""

    def per_token(self, length: int) -> Fraction:
        """Forward FLOPs of the blocks per token."""
        return Fraction(self.blocks[length].forward, length)

    @property
    def growth(self) -> Fraction:
        """FLOPs per token at the longest length, divided by those at the shortest: 1 means O(N) per sequence."""
        lengths = list(self.blocks)
        return self.per_token(lengths[-1]) / self.per_token(lengths[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, strings and ints."""
        return {
            "name": self.name,
            "block_parameters": self.parameters,
            "blocks": {str(length): count.to_dict() for length, count in self.blocks.items()},
            "whole": {str(length): count.to_dict() for length, count in self.whole.items()},
        }


def length_sweep(
    lengths: Sequence[int] = LENGTHS, *, d_model: int = 64, n_layers: int = 4, **options: Any
) -> list[ModelCurve]:
    """Count ResNet-BK, Mamba and a Transformer of equal width and depth, and a Mamba of equal parameters.

    ResNet-BK is counted with one of four experts per token, its default, and with all four.

    Args:
        lengths: the values of N.
        d_model: D.
        n_layers: blocks of each model; the last Mamba has as many as reach the parameters of ResNet-BK.
        options: as for ``analyze``: ``optimizer``, ``convention``, ….

    Raises:
        UsageError: a length is not a positive integer, or an option is invalid.
    """
    from graphflops.models import LanguageModel, MambaLM, TransformerLM

    if not lengths or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in lengths):
        raise UsageError(f"lengths must be one or more positive integers, not {lengths!r}")
    sizes = {"d_model": d_model, "n_layers": n_layers}

    def curve(name: str, factory: Callable[[int], nn.Module]) -> ModelCurve:
        return _curve(name, factory, lengths, options)

    resnet_bk = curve("ResNet-BK", lambda n: LanguageModel(n_seq=n, **sizes))
    mamba = curve("Mamba", lambda n: MambaLM(n_seq=n, **sizes))
    layers = max(1, round(Fraction(resnet_bk.parameters * n_layers, mamba.parameters)))
    return [
        resnet_bk,
        curve("ResNet-BK, all experts", lambda n: LanguageModel(n_seq=n, top_k=4, **sizes)),
        mamba,
        curve(f"Mamba, {layers} layers", lambda n: MambaLM(n_seq=n, d_model=d_model, n_layers=layers)),
        curve("Transformer", lambda n: TransformerLM(n_seq=n, **sizes)),
    ]


def _curve(
    name: str, factory: Callable[[int], nn.Module], lengths: Sequence[int], options: Mapping[str, Any]
) -> ModelCurve:
    import torch

    from graphflops.analysis.pipeline import analyze

    blocks, totals, parameters = {}, {}, 0
    for length in lengths:
        try:
            with torch.device("meta"):
                model, tokens = factory(length), torch.empty(1, length, dtype=torch.int64)
        except (RuntimeError, TypeError, OverflowError) as error:
            raise UsageError(
                f"no {name} can have length {shortened(str(length), 40)}: {format_error(error)}"
            ) from error
        report = analyze(model, (tokens,), **options)
        phases = {phase: report.by_module(phase)["blocks"] for phase in ("forward", "backward", "optimizer")}
        blocks[length] = FLOPsCount(**phases)
        totals[length] = FLOPsCount.of(report)
        parameters = sum(size for path, size in report.parameters.items() if path.startswith("blocks."))
    return ModelCurve(name, parameters, blocks, totals)


def print_length_sweep(curves: Sequence[ModelCurve], console: Terminal) -> None:
    """Print a table of the forward FLOPs per token in the blocks, by length, and their growth."""
    lengths = list(curves[0].blocks)
    print_line("forward FLOPs per token in the blocks; constant means O(N) per sequence", console)
    console.print()
    columns = [
        Column("", [curve.name for curve in curves], is_left=True),
        Column("parameters", [format_si(curve.parameters) for curve in curves]),
        *(Column(f"N = {n}", [format_si(round(curve.per_token(n))) for curve in curves]) for n in lengths),
        Column("growth", [f"{float(curve.growth):.2f}×" for curve in curves]),
    ]
    print_grid(columns, console, console.line_width)
