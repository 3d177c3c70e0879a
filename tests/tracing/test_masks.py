"""Masks that data decides choose no more rows in all than there are; masks of constants choose what they choose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphflops import CaptureError, analyze
from graphflops.analysis.mac_counter import MacCount, count_macs
from graphflops.tracing.values.masks import Condition, NumberRange

ROWS, WIDTH = 6, 4
EVERY_OTHER = torch.tensor([True, False] * (ROWS // 2))


def really_dispatched(function: Callable[..., object], *inputs: Tensor) -> int:
    """Multiply-adds of a real run on real data."""
    with FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops() // 2


class TestConstants:
    """The mask selects the elements that are set."""

    @pytest.mark.parametrize(
        "chosen",
        {
            "masked_select": lambda x, w: x.masked_select(EVERY_OTHER[:, None]).view(-1, WIDTH) @ w,
            "of a row for all": lambda x, w: (
                x.masked_select(torch.tensor([True, False, False, True])).view(-1, 2) @ w[:2]
            ),
            "of a mask that is larger": lambda x, w: x[:1].masked_select(EVERY_OTHER[:, None]).view(-1, WIDTH) @ w,
            "of a negated mask": lambda x, w: x.masked_select(~EVERY_OTHER[:, None]).view(-1, WIDTH) @ w,
            "of none": lambda x, w: x.masked_select(torch.zeros(ROWS, 1, dtype=torch.bool)).view(-1, WIDTH) @ w,
            "an index": lambda x, w: x[EVERY_OTHER] @ w,
            "an index of positions": lambda x, w: x[EVERY_OTHER.nonzero()[:, 0]] @ w,
            "a range": lambda x, w: x[torch.arange(len(x)) % 3 == 0] @ w,
            "a triangle": lambda x, w: x.masked_select(torch.ones(ROWS, WIDTH).tril() > 0).view(-1, 2) @ w[:2],
            "where": lambda x, w: x[torch.where(EVERY_OTHER)[0]] @ w,
        }.items(),
        ids=lambda case: case[0],
    )
    def test_choose_as_in_a_real_run(self, chosen: tuple[str, Callable[..., Tensor]]) -> None:
        x, w = torch.randn(ROWS, WIDTH), torch.randn(WIDTH, 5)
        report = analyze(chosen[1], (x, w))
        assert report.macs == really_dispatched(chosen[1], x, w)
        assert not report.assumptions


Pair = Callable[[Tensor], tuple[Tensor, Tensor]]
COMPLEMENTS: dict[str, Pair] = {
    "by ~": lambda x: ((m := x[:, 0] > 0), ~m),
    "by logical_not": lambda x: ((m := x[:, 0] > 0), m.logical_not()),
    "by == False": lambda x: ((m := x[:, 0] > 0), m == False),  # noqa: E712
    "by == 0": lambda x: ((m := x[:, 0] > 0), m == 0),
    "by ^ True": lambda x: ((m := x[:, 0] > 0), m ^ torch.ones_like(m)),
    "by 1 − mask": lambda x: ((m := x[:, 0] > 0), (1 - m.float()).bool()),
    "by the other comparison": lambda x: (x[:, 0] > 0, x[:, 0] <= 0),
    "by the mirrored comparison": lambda x: (x[:, 0] > 0, torch.ge(torch.tensor(0.0), x[:, 0])),
    "the other one first": lambda x: (x[:, 0] <= 0, x[:, 0] > 0),
    "of two tensors": lambda x: (x[:, 0] > x[:, 1], x[:, 1] >= x[:, 0]),
    "of other shapes": lambda x: ((x[:, 0] > 0), (x[:, 0].detach().view(-1, 1) <= 0).squeeze(1)),
    "of an either-or": lambda x: ((x[:, 0] > 0) | (x[:, 1] > 0), (x[:, 0] <= 0) & (x[:, 1] <= 0)),
    "of a range": lambda x: ((x[:, 0] > 0) & (x[:, 0] < 1), ~((x[:, 0] > 0) & (x[:, 0] < 1))),
    "that do not meet": lambda x: (x[:, 0] > 0.5, x[:, 0] < -0.5),
    "by a sign": lambda x: ((s := x[:, 0].sign()) == 1, s != 1),
    "both negated": lambda x: (~(x[:, 0] > 0), ~(x[:, 0] <= 0)),
}


class Halves(nn.Module):
    """Each row goes to one layer or to the other."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.pair = pair
        self.yes, self.no = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        yes, no = self.pair(x)
        out = torch.zeros_like(x)
        out[yes] = self.yes(x[yes])
        out[no] = self.no(x[no])
        return out


@pytest.mark.parametrize("name", COMPLEMENTS)
class TestComplements:
    def test_have_no_more_rows_than_there_are(self, name: str) -> None:
        report = analyze(Halves(COMPLEMENTS[name]), (torch.randn(ROWS, WIDTH),))
        assert report.macs == ROWS * WIDTH * WIDTH
        assert any("all elements assumed True" in assumption for assumption in report.assumptions)
        assert any("no element assumed True" in assumption for assumption in report.assumptions)

    def test_agree_with_the_witness(self, name: str) -> None:
        model, x = Halves(COMPLEMENTS[name]), torch.randn(ROWS, WIDTH)
        report = analyze(model, (x,))
        ours = MacCount(int(report.work("forward").macs), int(report.work("backward").macs))
        assert ours == count_macs(model, (x,))

    def test_are_as_many_in_a_real_run(self, name: str) -> None:
        model, x = Halves(COMPLEMENTS[name]), torch.randn(ROWS, WIDTH)
        assert really_dispatched(model, x) <= analyze(model, (x,)).macs


class Kinds(nn.Module):
    """A layer for each kind of row, which is an input."""

    def __init__(self, any_first: bool) -> None:
        super().__init__()
        self.any_first = any_first
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, groups: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for kind, layer in enumerate(self.layers):
            mask = groups == kind
            if not self.any_first or mask.any():
                out[mask] = layer(x[mask])
        return out


@pytest.mark.parametrize("any_first", [False, True])
def test_rows_of_several_kinds_are_each_of_one(any_first: bool) -> None:
    groups = torch.randint(0, 4, (ROWS,), device="meta")
    model = Kinds(any_first)
    report = analyze(model, (torch.randn(ROWS, WIDTH), groups))
    assert report.macs == ROWS * WIDTH * WIDTH
    assert report.macs == really_dispatched(model, torch.randn(ROWS, WIDTH), torch.randint(0, 4, (ROWS,)))


def test_counts_of_complements_add_up() -> None:
    def weighed(x: Tensor, w: Tensor) -> Tensor:
        mask = x[:, 0] > 0
        yes, no = int(mask.sum()), int((~mask).sum())
        return x[:yes] @ w + x[:no].sum()

    assert analyze(weighed, (torch.randn(ROWS, WIDTH), torch.randn(WIDTH, 5))).macs == ROWS * WIDTH * 5


def test_what_may_have_some_on_both_sides_is_done_on_both() -> None:
    def branches(x: Tensor, w: Tensor) -> Tensor:
        mask = x > 0
        out = x @ w if mask.any() else x
        return out + x @ w if (~mask).any() else out

    assert analyze(branches, (torch.randn(WIDTH, WIDTH), torch.randn(WIDTH, WIDTH))).macs == 2 * WIDTH**3


def test_a_tensor_that_was_written_to_is_another_one() -> None:
    def rewritten(x: Tensor, w: Tensor) -> Tensor:
        x = x.clone()
        first = x[x[:, 0] > 0] @ w
        x.neg_()
        return first.sum() + (x[x[:, 0] <= 0] @ w).sum()

    assert analyze(rewritten, (torch.randn(ROWS, WIDTH), torch.randn(WIDTH, 5))).macs == 2 * ROWS * WIDTH * 5


def test_masks_of_other_numbers_are_other_masks() -> None:
    def two(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return (x[x[:, 0] > 0] @ w).sum() + (x[y[:, 0] <= 0] @ w).sum()

    x, w = torch.randn(ROWS, WIDTH), torch.randn(WIDTH, 5)
    assert analyze(two, (x, x + 1, w)).macs == 2 * ROWS * WIDTH * 5


class TestRanges:
    def range_of(self, name: str, bound: float, *, is_integer: bool = False) -> NumberRange:
        return Condition((), name, bound, is_integer).range

    @pytest.mark.parametrize("name", ["gt", "ge", "lt", "le", "eq", "ne"])
    @pytest.mark.parametrize("is_integer", [False, True])
    @pytest.mark.parametrize("bound", [-1.0, 0.0, 2.0])
    def test_a_number_is_in_a_range_or_in_that_of_the_opposite(self, name: str, is_integer: bool, bound: float) -> None:
        condition = Condition((), name, bound, is_integer)
        assert (condition.range & condition.negated.range).is_empty
        compare = getattr(torch, name)
        for number in (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0):
            really = bool(compare(torch.tensor(number), bound))
            assert (number in condition.range) is really
            assert (number in condition.negated.range) is not really

    def test_integers_leave_nothing_between(self) -> None:
        assert (self.range_of("gt", 0, is_integer=True) & self.range_of("lt", 1, is_integer=True)).is_empty
        assert not (self.range_of("gt", 0) & self.range_of("lt", 1)).is_empty


class Branches(nn.Module):
    """Work that a mask decides about, and then something else that may stop the program."""

    def __init__(self, branch: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.work, self.branch = nn.Linear(WIDTH, WIDTH), branch

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if torch.any(x > 0):
            y = self.work(x)
        self.branch(x)
        return y


def raises(_: Tensor) -> None:
    raise ValueError("for a reason of its own")


def branches(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def checks_largest(x: Tensor) -> None:
    if torch.min(x) < -1e6 or torch.max(x) > 1e6:
        raise ValueError(f"out of the domain: {x.min()}, {x.max()}")


def checks_in_a_function(x: Tensor) -> None:
    def refuse_if(wrong: Tensor, message: str) -> None:
        if wrong:
            raise ValueError(message)

    refuse_if((x < -1e6).any(), "too small")
    refuse_if((x > 1e6).any(), "too large")


def checks_by_name(x: Tensor) -> None:
    negative = (x < -1e6).any()
    if negative:
        raise ValueError("too small")


def asserts(x: Tensor) -> None:
    assert x.max() <= 1e6, "too large"
    assert not (x < -1e6).any()
    torch._assert(x.min() >= -1e6, "too small")


def refuses_otherwise(x: Tensor) -> None:
    if x.max() <= 1e6:
        pass
    else:
        raise ValueError("too large")


class TestAnswers:
    """They are changed where a check raised by them, and nowhere else."""

    @pytest.mark.parametrize("branch", [raises, branches])
    def test_a_branch_is_not_dropped_for_an_error_elsewhere(self, branch: Callable[[Tensor], object]) -> None:
        with pytest.raises(CaptureError, match=r"reason of its own|data-dependent control flow"):
            analyze(Branches(branch), (torch.randn(ROWS, WIDTH),))

    @pytest.mark.parametrize(
        "branch", [checks_largest, checks_in_a_function, checks_by_name, asserts, refuses_otherwise]
    )
    def test_checks_are_passed_and_nothing_else_is_changed(self, branch: Callable[[Tensor], object]) -> None:
        model, x = Branches(branch), torch.rand(ROWS, WIDTH)
        report = analyze(model, (x,))
        assert report.macs == really_dispatched(model, x)
        assert report.work("wgrad").macs == ROWS * WIDTH * WIDTH
        assert count_macs(model, (x,)) == MacCount(report.macs, int(report.work("backward").macs))
        assert report.assumptions[0].endswith("data-dependent branch; took the True branch")

    def test_a_shape_that_is_wrong_in_a_branch_is_no_check(self) -> None:
        def wrong(x: Tensor, w: Tensor) -> Tensor:
            if (x > 0).any():
                x = x @ w
                if x.shape[1] != WIDTH:
                    raise ValueError("of another width")
            return x

        with pytest.raises(CaptureError, match="of another width"):
            analyze(wrong, (torch.randn(ROWS, WIDTH), torch.randn(WIDTH, 5)))

    def test_a_branch_that_may_only_raise_may_say_what_it_likes(self) -> None:
        def checked(x: Tensor) -> Tensor:
            if (x < 0).any():
                raise ValueError(f"{x.min().item()} of {x.shape} is negative")
            return x @ x

        assert analyze(checked, (torch.rand(3, 3),)).macs == 27

    def test_as_many_checks_as_there_are_layers(self) -> None:
        class Checked(nn.Linear):
            def forward(self, input: Tensor) -> Tensor:
                if (input < 0).any():
                    raise ValueError("negative")
                return super().forward(input)

        model = nn.Sequential(*(Checked(3, 3) for _ in range(20)))
        report = analyze(model, (torch.rand(2, 3),))
        assert report.macs == 20 * 2 * 3 * 3
        assert [assumption.partition(": ")[2] for assumption in report.assumptions] == [
            "data-dependent branch; took the False branch"
        ]
