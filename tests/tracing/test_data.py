"""Where data decides: what follows from constants is computed, the rest is assumed and said, or refused."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import CaptureError, analyze
from graphflops.analysis.mac_counter import MacCount, count_macs
from graphflops.rules.loading import rulebook
from graphflops.tracing.attempts import trace

TOKENS, WIDTH, EXPERTS, CHOSEN = 6, 8, 4, 2


class Masks(nn.Module):
    """Experts, each given the tokens that a boolean mask chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(CHOSEN, -1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows, ranks = torch.where(chosen == index)
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, ranks, None])
        return out


class Hits(Masks):
    """The same experts, looped over by the indices of those that were chosen at all."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(CHOSEN, -1)
        out = torch.zeros_like(x)
        mask = F.one_hot(chosen, EXPERTS + 1).permute(2, 1, 0)
        for hit in (mask.sum(dim=(-1, -2)) > 0).nonzero():
            if hit[0] == EXPERTS:
                continue
            ranks, rows = torch.where(mask[hit[0]])
            out = out.index_add(0, rows, self.experts[int(hit[0])](x[rows]) * weights[rows, ranks, None])
        return out


def assumed(model: Callable[..., object], *args: Tensor) -> tuple[str, ...]:
    return tuple(assumption.partition(": ")[2] for assumption in trace(model, args, {}, rulebook()).assumptions)


def really_dispatched(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of a real run on real data."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("make", [Masks, Hits])
class TestExpertsInALoop:
    def test_are_given_as_many_tokens_in_all_as_with_any_data(self, make: type[Masks]) -> None:
        model = make()
        for seed in range(3):
            torch.manual_seed(seed)
            x = torch.randn(TOKENS, WIDTH)
            assert analyze(model, (x,)).macs == really_dispatched(model, x)

    def test_agree_with_the_witness_forward_and_backward(self, make: type[Masks]) -> None:
        report = analyze(make(), (torch.zeros(TOKENS, WIDTH),))
        ours = MacCount(int(report.work("forward").macs), int(report.work("backward").macs))
        assert ours == count_macs(make(), (torch.zeros(TOKENS, WIDTH),))

    def test_are_reported_with_the_line_that_asks(self, make: type[Masks]) -> None:
        traced = trace(make(), (torch.zeros(TOKENS, WIDTH),), {}, rulebook())
        assert traced.assumptions
        assert all(__file__ in assumption for assumption in traced.assumptions)
        assert "data-dependent selection (topk, argmax, sort or sampling); balanced selection assumed" in assumed(
            make(), torch.zeros(TOKENS, WIDTH)
        )


class TestConstants:
    def test_are_computed(self) -> None:
        def padded(x: Tensor) -> Tensor:
            mask = torch.ones(len(x), dtype=torch.bool)
            mask = mask & (torch.arange(len(x)) < 3)
            return x[mask] @ x.T if mask.sum() > 2 else x

        assert analyze(padded, (torch.zeros(5, 7),)).macs == 3 * 7 * 5
        assert not assumed(padded, torch.zeros(5, 7))

    def test_a_buffer_has_the_value_that_it_holds(self) -> None:
        class Cut(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("kept", torch.tensor(3))

            def forward(self, x: Tensor) -> Tensor:
                return x[:, : int(self.kept)] @ x[:, : int(self.kept)].T

        assert analyze(Cut(), (torch.zeros(5, 7),)).macs == 5 * 3 * 5
        with pytest.raises(CaptureError, match="value of kept, which has none on the meta device"):
            analyze(Cut().to("meta"), (torch.zeros(5, 7),))

    def test_a_view_holds_what_was_written_to_its_base(self) -> None:
        def switched(x: Tensor) -> Tensor:
            mask = torch.zeros(4, dtype=torch.bool)
            first = mask[0]
            mask.fill_(True)
            return x @ x.T if first else x

        assert analyze(switched, (torch.zeros(4, 4),)).macs == 64

    def test_values_overwritten_by_data_are_unknown(self) -> None:
        def switched(x: Tensor) -> Tensor:
            mask = torch.zeros(4)
            mask[1] = x.sum()
            return x * 2 if mask[0] > 1 else x

        with pytest.raises(CaptureError, match="data-dependent control flow"):
            analyze(switched, (torch.zeros(4),))


class TestAssumptions:
    def test_numbers_are_numbers_and_nobody_need_be_told(self) -> None:
        def guarded(x: Tensor) -> Tensor:
            if torch.isnan(x).any() or not torch.isfinite(x).all() or x.isinf().any():
                raise ValueError("not a number")
            return x @ x

        assert analyze(guarded, (torch.zeros(3, 3),)).macs == 27
        assert not assumed(guarded, torch.zeros(3, 3))

    def test_a_mask_has_all(self) -> None:
        def chosen(x: Tensor) -> Tensor:
            return x[x[:, 0] > 0] @ x.T if (x > 0).any() else x

        assert analyze(chosen, (torch.zeros(5, 7),)).macs == 5 * 7 * 5
        assert assumed(chosen, torch.zeros(5, 7)) == (
            "data-dependent branch; took the True branch",
            "data-dependent mask; all elements assumed True",
        )

    def test_a_check_that_raises_is_passed(self) -> None:
        x, target, variance = torch.zeros(4, 8), torch.zeros(4, 8), torch.zeros(4, 8)
        model = nn.GaussianNLLLoss()
        assert analyze(model, (x, target, variance)).forward > 0
        assert assumed(model, x, target, variance) == ("data-dependent branch; took the False branch",)

    def test_what_bincount_counts_lies_below_the_least_length(self) -> None:
        def load(x: Tensor, chosen: Tensor) -> Tensor:
            return x @ chosen.bincount(minlength=4).to(x.dtype)

        chosen = torch.zeros(9, dtype=torch.int64, device="meta")
        assert analyze(load, (torch.zeros(3, 4), chosen)).macs == 12
        assert assumed(load, torch.zeros(3, 4), chosen) == ("data-dependent length of bincount; minlength assumed",)
        with pytest.raises(CaptureError, match="data-dependent control flow"):
            analyze(lambda chosen: chosen.bincount(), (chosen,))

    def test_a_number_that_is_only_calculated_with_may_be_any(self) -> None:
        def scaled(x: Tensor) -> Tensor:
            peak = x.abs().max().item()
            print(f"{peak:.3f}, {x.mean():.1f}", file=io.StringIO())
            return (x @ x).add(x, alpha=peak / 127 + 1e-6)

        assert analyze(scaled, (torch.zeros(3, 3),)).macs == 27
        with pytest.raises(CaptureError, match="data-dependent control flow"):
            analyze(lambda x: x * max(x.std().item(), 1e-6), (torch.zeros(3, 3),))

    def test_a_comparison_of_numbers_is_refused(self) -> None:
        def branches(x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

        with pytest.raises(CaptureError, match="data-dependent control flow"):
            analyze(branches, (torch.zeros(3),))

    def test_a_model_that_raises_anyway_says_what_it_said_first(self) -> None:
        def hopeless(x: Tensor) -> Tensor:
            raise ValueError("yes" if (x > 0).any() else "no")

        with pytest.raises(CaptureError, match="ValueError: yes"):
            analyze(hopeless, (torch.zeros(3),))


class TestRefusals:
    def test_numpy_needs_numbers(self) -> None:
        with pytest.raises(CaptureError, match="data-dependent control flow"):
            analyze(lambda x: x * float(x.detach().numpy().sum()), (torch.zeros(3),))

    def test_a_lazy_layer_would_change_the_model(self) -> None:
        model = nn.Sequential(nn.LazyLinear(4))
        with pytest.raises(CaptureError, match=r"0\.weight, 0\.bias have no shape yet: run the model once"):
            analyze(model, (torch.zeros(2, 3),))
        model(torch.zeros(2, 3))
        assert analyze(model, (torch.zeros(2, 3),)).macs == 24
