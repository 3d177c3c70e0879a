"""Causal attention, counted dense; beside it what of it is useful."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphflops import Report, analyze

HEADS, WIDTH = 3, 8


def attention(queries: int, keys: int, *, causal: bool = True, way: str = "math") -> Report:
    q = torch.zeros(2, HEADS, queries, WIDTH, requires_grad=True)
    k = torch.zeros(2, HEADS, keys, WIDTH, requires_grad=True)

    def attend(q: Tensor, k: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, k, is_causal=causal)

    return analyze(attend, (q, k), attention=way, convention="torch")


def seen(queries: int, keys: int) -> int:
    """How many pairs PyTorch's own causal mask lets through."""
    return int(torch.ones(queries, keys, dtype=torch.bool).tril().sum())


@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (1, 7), (7, 1), (5, 9), (9, 5)])
def test_the_useful_part_has_the_pairs_that_the_mask_lets_through(queries: int, keys: int) -> None:
    report = attention(queries, keys)
    assert report.total == 6 * 2 * 2 * HEADS * queries * keys * WIDTH
    assert report.causal_useful == 6 * 2 * 2 * HEADS * seen(queries, keys) * WIDTH


def test_what_flash_attention_recomputes_is_useful_in_the_same_part() -> None:
    report = attention(6, 6, way="flash")
    assert report.causal_useful * 36 == report.total * seen(6, 6)


def test_without_a_mask_all_is_useful() -> None:
    report = attention(6, 6, causal=False)
    assert report.causal_useful == report.total
    assert "useful" not in str(report)


def test_it_stands_beside_the_total_and_outlasts_a_file(tmp_path) -> None:
    report = attention(6, 6)
    assert f"{report.causal_useful:,}" in str(report)
    assert Report.from_json(report.to_json(tmp_path / "report.json")).causal_useful == report.causal_useful


def test_a_convention_may_count_it_so(tmp_path) -> None:
    path = tmp_path / "lean.toml"
    path.write_text('about = "what is needed"\ncausal = "useful"\nweights = { macs = 2 }\n')
    report = attention(6, 6)
    assert report.under(path).total == report.causal_useful


WINDOW = 3


def windowed(q: Tensor) -> Tensor:
    """Which of the last WINDOW keys each query sees."""
    place = torch.arange(q.shape[-2])
    behind = place[:, None] - place[None, :]
    return (behind >= 0) & (behind < WINDOW)


def of_window(mask: Callable[[Tensor], Tensor], length: int = 7) -> Report:
    q = torch.zeros(2, HEADS, length, WIDTH, requires_grad=True)
    return analyze(lambda q: F.scaled_dot_product_attention(q, q, q, mask(q)), (q,), attention="math")


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(windowed, id="true where a key is seen"),
        pytest.param(lambda q: windowed(q).expand(len(q), 1, -1, -1), id="the same for the whole batch"),
        pytest.param(lambda q: torch.zeros(7, 7).masked_fill(~windowed(q), -torch.inf), id="infinity is added"),
        pytest.param(lambda q: torch.zeros(7, 7).masked_fill(~windowed(q), torch.finfo().min), id="the least is added"),
    ],
)
def test_of_a_window_the_pairs_inside_of_it_are_useful(mask: Callable[[Tensor], Tensor]) -> None:
    report = of_window(mask).under("torch")
    assert report.causal_useful == 6 * 2 * 2 * HEADS * int(windowed(torch.empty(7, 1)).sum()) * WIDTH
    assert report.total == 6 * 2 * 2 * HEADS * 7 * 7 * WIDTH


def test_of_a_single_head_too() -> None:
    q = torch.zeros(1, 1, 7, WIDTH, requires_grad=True)
    report = analyze(lambda q: F.scaled_dot_product_attention(q, q, q, windowed(q)), (q,), attention="math")
    assert report.under("torch").causal_useful == 6 * 2 * int(windowed(torch.empty(7, 1)).sum()) * WIDTH


def test_of_a_mask_that_data_decides_all_is_useful() -> None:
    report = of_window(lambda q: q[:, :, :, 0, None] > 0)
    assert report.causal_useful == report.total
