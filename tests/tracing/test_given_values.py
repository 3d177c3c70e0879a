"""Integers and booleans that are given as real tensors keep their values: sizes, places, masks and lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_run import Program, analyzed_macs, real_macs, report_of
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from graphflops import CaptureError, analyze
from graphflops.tracing.values.tensor_values import MAX_KNOWN_ELEMENTS

X = torch.zeros(12, 8)
GROUPS = torch.arange(12) // 5
MASK = torch.arange(12) % 3 == 0
LENGTHS = torch.tensor([5, 7, 2])
SEQUENCES = torch.zeros(3, 7, 8)

PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "a mask": (lambda m, x, mask: m.linear(x[mask]), (X, MASK)),
    "its complement": (lambda m, x, mask: m.linear(x[~mask]), (X, MASK)),
    "a mask that selects": (lambda m, x, mask: m.linear(x.masked_select(mask[:, None]).view(-1, 8)), (X, MASK)),
    "positions": (lambda m, x, mask: m.linear(x[mask.nonzero().squeeze(1)]), (X, MASK)),
    "how many": (lambda m, x, mask: m.linear(x[: int(mask.sum())]), (X, MASK)),
    "whether all": (lambda m, x, mask: m.linear(x) if mask.all() else m.linear(m.linear(x)), (X, MASK)),
    "in a dict": (lambda m, given: m.linear(given["x"][given["mask"]]), ({"x": X, "mask": MASK},)),
    "the largest": (lambda m, x, groups: m.linear(x.new_zeros(int(groups.max()) + 1, 8)), (X, GROUPS)),
    "a loop over groups": (
        lambda m, x, groups: torch.stack([m.linear(x[groups == group]).sum(0) for group in groups.unique()]),
        (X, GROUPS),
    ),
    "steps": (lambda m, x, steps: [x := m.linear(x) for _ in range(int(steps))][-1], (X, torch.tensor(3))),
    "a list": (
        lambda m, x, sizes: torch.cat([m.linear(part) for part in x.split(sizes.tolist())]),
        (X, torch.tensor([3, 4, 5])),
    ),
    "repeats": (lambda m, x, repeats: m.linear(x[:3].repeat_interleave(repeats, 0)), (X, LENGTHS)),
    "lengths as a mask": (lambda m, x, many: m.linear(x[torch.arange(7) < many[:, None]]), (SEQUENCES, LENGTHS)),
    "packed": (
        lambda m, x, many: m.recurrent(pack_padded_sequence(x, many, True, False))[0].data,
        (SEQUENCES, LENGTHS),
    ),
    "packed and padded": (
        lambda m, packed: m.linear(pad_packed_sequence(m.recurrent(packed)[0], True)[0]),
        (pack_padded_sequence(SEQUENCES, LENGTHS, True, False),),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_that_are_given_are_used(name: str) -> None:
    function, inputs = PROGRAMS[name]
    model = Program(function, recurrent=nn.GRU(8, 8, batch_first=True))
    assert analyzed_macs(model, *inputs) == real_macs(model, *inputs) != (0, 0)
    assert all("used as they were given" in assumption for assumption in report_of(model, *inputs).assumptions)


def test_without_data_they_are_not_known_and_the_error_says_what_helps() -> None:
    large = torch.zeros(MAX_KNOWN_ELEMENTS + 1, dtype=torch.uint8)
    for length in (torch.zeros(2, dtype=torch.int64, device="meta"), large):
        with pytest.raises(CaptureError, match=r"values of length, which is not known: pass .* at most 16,777,216"):
            analyze(lambda x, length: x[: int(length.max())], (X, length))
    chosen = report_of(Program(PROGRAMS["a mask"][0]), X, MASK.to("meta"))
    assert (chosen.forward, len(chosen.assumptions)) == (2 * 12 * 8 * 8, 1), "as all, and said"


def test_packed_sequences_without_data_have_their_lengths() -> None:
    function, (packed,) = PROGRAMS["packed and padded"]
    model = Program(function, recurrent=nn.GRU(8, 8, batch_first=True))
    assert analyzed_macs(model.to("meta"), packed.to("meta")) == analyzed_macs(model, packed)


def test_blocks_that_ask_for_different_values_do_not_repeat_each_other() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor, length: Tensor) -> Tensor:
            return x + self.linear(x[: int(length)]).sum()

    class Cuts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cuts = nn.ModuleList(Cut() for _ in range(3))

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            for cut, length in zip(self.cuts, lengths, strict=True):
                x = cut(x, length)
            return x

    assert analyzed_macs(Cuts(), X, LENGTHS) == real_macs(Cuts(), X, LENGTHS)


def test_arguments_are_only_read() -> None:
    def written(x: Tensor, length: Tensor) -> Tensor:
        length += 1
        return x[: int(length)] if len(x) > 20 else x

    length = torch.tensor(3)
    analyze(written, (X, length))
    assert (length.item(), length._version) == (3, 0)
