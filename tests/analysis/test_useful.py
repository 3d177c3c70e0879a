"""causal_useful: attention without its masked half, beside the dense count."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphflops import Report, analyze

HEADS, WIDTH = 3, 8


def attention(queries: int, keys: int, *, causal: bool = True, implementation: str = "math") -> Report:
    q = torch.zeros(2, HEADS, queries, WIDTH, requires_grad=True)
    k = torch.zeros(2, HEADS, keys, WIDTH, requires_grad=True)

    def attend(q: Tensor, k: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, k, is_causal=causal)

    return analyze(attend, (q, k), attention=implementation, convention="torch")


def unmasked_pairs(queries: int, keys: int) -> int:
    """Return the number of pairs of a query and a key that the causal mask leaves."""
    return int(torch.ones(queries, keys, dtype=torch.bool).tril().sum())


@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (1, 7), (7, 1), (5, 9), (9, 5)])
def test_the_useful_part_is_the_unmasked_pairs(queries: int, keys: int) -> None:
    report = attention(queries, keys)
    assert report.total == 6 * 2 * 2 * HEADS * queries * keys * WIDTH
    assert report.causal_useful == 6 * 2 * 2 * HEADS * unmasked_pairs(queries, keys) * WIDTH


def test_the_recomputation_of_flash_attention_has_the_same_useful_share() -> None:
    report = attention(6, 6, implementation="flash")
    assert report.causal_useful * 36 == report.total * unmasked_pairs(6, 6)


def test_without_a_mask_everything_is_useful() -> None:
    report = attention(6, 6, causal=False)
    assert report.causal_useful == report.total
    assert "useful" not in str(report)


def test_it_is_printed_beside_the_total_and_saved(tmp_path) -> None:
    report = attention(6, 6)
    assert f"{report.causal_useful:,}" in str(report)
    assert Report.from_json(report.to_json(tmp_path / "report.json")).causal_useful == report.causal_useful


def test_a_convention_may_count_the_useful_part(tmp_path) -> None:
    path = tmp_path / "lean.toml"
    path.write_text('about = "the useful part"\ncausal = "useful"\nweights = { macs = 2 }\n')
    report = attention(6, 6)
    assert report.under(path).total == report.causal_useful


WINDOW = 3


def windowed(q: Tensor) -> Tensor:
    """Return a mask of the last WINDOW keys of each query."""
    position = torch.arange(q.shape[-2])
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < WINDOW)


def masked_report(mask: Callable[[Tensor], Tensor], length: int = 7) -> Report:
    q = torch.zeros(2, HEADS, length, WIDTH, requires_grad=True)
    return analyze(lambda q: F.scaled_dot_product_attention(q, q, q, mask(q)), (q,), attention="math")


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(windowed, id="a bool mask"),
        pytest.param(lambda q: windowed(q).expand(len(q), 1, -1, -1), id="a mask that is expanded to the batch"),
        pytest.param(lambda q: torch.zeros(7, 7).masked_fill(~windowed(q), -torch.inf), id="-inf is added"),
        pytest.param(
            lambda q: torch.zeros(7, 7).masked_fill(~windowed(q), torch.finfo().min),
            id="the minimum is added",
        ),
    ],
)
def test_the_pairs_inside_a_window_are_useful(mask: Callable[[Tensor], Tensor]) -> None:
    report = masked_report(mask).under("torch")
    assert report.causal_useful == 6 * 2 * 2 * HEADS * int(windowed(torch.empty(7, 1)).sum()) * WIDTH
    assert report.total == 6 * 2 * 2 * HEADS * 7 * 7 * WIDTH


def test_a_window_of_a_single_head() -> None:
    q = torch.zeros(1, 1, 7, WIDTH, requires_grad=True)
    report = analyze(lambda q: F.scaled_dot_product_attention(q, q, q, windowed(q)), (q,), attention="math")
    assert report.under("torch").causal_useful == 6 * 2 * int(windowed(torch.empty(7, 1)).sum()) * WIDTH


def test_with_a_data_dependent_mask_everything_is_useful() -> None:
    report = masked_report(lambda q: q[:, :, :, 0, None] > 0)
    assert report.causal_useful == report.total
