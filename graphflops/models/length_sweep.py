"""The family on a grid of lengths: ResNet-BK beside Mamba and a Transformer, what a token costs and how that grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from graphflops.core.errors import UsageError
from graphflops.core.messages import format_error, shortened
from graphflops.core.units import format_si
from graphflops.models.flops_count import FLOPsCount
from graphflops.models.waterfall import print_whole

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

LENGTHS = (128, 512, 2048, 8192)
SCHEMA = "graphflops.family/1"


@dataclass(frozen=True)
class ModelCurve:
    """A model on the grid. Counts are of a training step on one sequence, of the blocks and of the whole model."""

    name: str
    parameters: int
    """of the blocks: embedding and head are alike in all of them"""
    blocks: Mapping[int, FLOPsCount]
    """N → the step of the blocks"""
    whole: Mapping[int, FLOPsCount]
    """N → the step of the model"""

    def per_token(self, length: int) -> Fraction:
        """FLOPs of the blocks for each token, forward."""
        return Fraction(self.blocks[length].forward, length)

    @property
    def growth(self) -> Fraction:
        """By how much a token's work grows over the grid: 1 is O(N) in all."""
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
    """ResNet-BK, Mamba and the Transformer of one width and depth; and Mamba with as many parameters as ResNet-BK.

    ResNet-BK is counted as configured by default, with one expert of four a token, and with all four.

    Args:
        lengths: the grid of N.
        d_model: D.
        n_layers: how many blocks; of Mamba with as many parameters, as many as that takes.
        options: as for ``analyze``: ``optimizer``, ``convention``, ….

    Raises:
        UsageError: a length is not a positive integer, or an option is wrong.
    """
    from graphflops.models import LanguageModel, MambaLM, TransformerLM

    if not lengths or any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in lengths):
        raise UsageError(f"lengths must be positive integers, one at least, not {lengths!r}")
    sizes = {"d_model": d_model, "n_layers": n_layers}

    def member(name: str, make: Callable[[int], nn.Module]) -> ModelCurve:
        return _member(name, make, lengths, options)

    home = member("ResNet-BK", lambda n: LanguageModel(n_seq=n, **sizes))
    mamba = member("Mamba", lambda n: MambaLM(n_seq=n, **sizes))
    layers = max(1, round(Fraction(home.parameters * n_layers, mamba.parameters)))
    return [
        home,
        member("ResNet-BK, all experts", lambda n: LanguageModel(n_seq=n, top_k=4, **sizes)),
        mamba,
        member(f"Mamba, {layers} layers", lambda n: MambaLM(n_seq=n, d_model=d_model, n_layers=layers)),
        member("Transformer", lambda n: TransformerLM(n_seq=n, **sizes)),
    ]


def _member(
    name: str, make: Callable[[int], nn.Module], lengths: Sequence[int], options: Mapping[str, Any]
) -> ModelCurve:
    import torch

    from graphflops.analysis.pipeline import analyze

    blocks, whole, parameters = {}, {}, 0
    for length in lengths:
        try:
            with torch.device("meta"):
                model, tokens = make(length), torch.empty(1, length, dtype=torch.int64)
        except (RuntimeError, TypeError, OverflowError) as error:
            raise UsageError(
                f"there is no {name} of length {shortened(str(length), 40)}: {format_error(error)}"
            ) from error
        report = analyze(model, (tokens,), **options)
        phases = {phase: report.by_module(phase)["blocks"] for phase in ("forward", "backward", "optimizer")}
        blocks[length] = FLOPsCount(**phases)
        whole[length] = FLOPsCount.of(report)
        parameters = sum(size for path, size in report.parameters.items() if path.startswith("blocks."))
    return ModelCurve(name, parameters, blocks, whole)


def print_length_sweep(members: Sequence[ModelCurve], console: Console) -> None:
    """The grid as a table: FLOPs for each token in the blocks, forward, and by how much they grow."""
    from rich import box
    from rich.table import Table

    lengths = list(members[0].blocks)
    console.print("FLOPs of a token in the blocks, forward: what is constant is O(N) for a sequence", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("parameters", *(f"N = {length}" for length in lengths), "growth"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in members:
        tokens = [format_si(round(each.per_token(length))) for length in lengths]
        table.add_row(each.name, format_si(each.parameters), *tokens, f"{float(each.growth):.2f}×")
    print_whole(table, console)
