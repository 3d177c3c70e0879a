"""A sparse matrix may be multiplied by a dense one; all else that is not dense is refused, in words."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import CaptureError, Cost, Spec, Work, analyze, rule
from graphflops.analysis.mac_counter import MacCount, count_macs

DENSE = torch.zeros(4, 3)
LAYOUTS = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]

# PyTorch says of each layout but the first that it may change.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse C.. tensor support", "ignore:The PyTorch API of nested tensors")


MAC_FORMULAS: dict[str, Callable[..., Any]] = {
    "operator": lambda a, b: a @ b,
    "sparse.mm": torch.sparse.mm,
    "addmm": lambda a, b: torch.addmm(torch.zeros(4, 3), a, b),
    "transposed": lambda a, b: (b.T @ a.t()).T,
    "vector": lambda a, b: torch.stack([a @ column for column in b.unbind(1)], 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("product", MAC_FORMULAS.values(), ids=MAC_FORMULAS)
def test_a_product_by_a_dense_matrix_multiplies_the_numbers_that_are_there(
    layout: torch.layout, product: Callable[..., Any]
) -> None:
    sparse = torch.tensor([[1.0, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 4]]).to_sparse(layout=layout)
    dense = torch.zeros(4, 3, requires_grad=True)
    report = analyze(product, (sparse, dense), strict=True)
    assert report.macs == report.work("backward").macs == 4 * 3
    assert count_macs(product, (sparse, dense)) == MacCount(4 * 3, 4 * 3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "use", [lambda a: a * 2, lambda a: a.sum(), lambda a: a.relu(), lambda a: F.linear(DENSE.T, a)]
)
def test_anything_else_is_refused(layout: torch.layout, use: Callable[..., Any]) -> None:
    sparse = torch.eye(4).to_sparse(layout=layout)
    with pytest.raises(CaptureError, match=rf"not dense \({layout}, torch.float32\).*number of its stored elements"):
        analyze(use, (sparse,))


def test_a_product_of_two_sparse_ones_is_unknown() -> None:
    sparse = torch.eye(4).to_sparse()
    assert analyze(lambda a, b: a @ b, (sparse, sparse)).unsupported_ops() == {"aten.mm": 1}


def test_one_that_is_trained_is_refused() -> None:
    with pytest.raises(CaptureError, match="not dense"):
        analyze(lambda a: a @ DENSE, (torch.eye(4).to_sparse().requires_grad_(),))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sparse_intermediate_is_refused(layout: torch.layout) -> None:
    with pytest.raises(CaptureError, match="give that module a rule for its cost"):
        analyze(lambda a, b: a.to_sparse(layout=layout) @ b, (torch.eye(4), DENSE))


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.eye(4).to_sparse())

    def forward(self, x: Tensor) -> Any:
        return self.adjacency @ x if x.shape[-1] > 1 else self.adjacency.exp()


def test_a_buffer() -> None:
    assert analyze(Graph(), (DENSE,), strict=True).macs == 4 * 3
    with pytest.raises(CaptureError, match="adjacency is not dense"):
        analyze(Graph(), (DENSE[:, :1],))


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor(layout: torch.layout) -> None:
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=layout)
    with pytest.raises(CaptureError, match="a tensor is nested"):
        analyze(lambda x: x * 2, (nested,))


class Product(nn.Module):
    """The advice of the message."""

    def forward(self, indices: Tensor, values: Tensor, dense: Tensor) -> Tensor:
        return torch.sparse_coo_tensor(indices, values, (4, 4)) @ dense


def test_a_rule_of_ones_own_counts_the_numbers_that_are_there() -> None:
    @rule(Product, outputs=lambda dense: dense)
    def product(values: Spec, dense: Spec) -> Cost:
        return Cost(Work(macs=values.numel * dense.shape[-1]), {"*": Work()})

    sparse = torch.eye(4).to_sparse()
    report = analyze(Product(), (sparse.indices(), sparse.values(), DENSE), rules=[product])
    assert report.macs == 4 * 3
    assert report.coverage.unknown == 0


def test_one_that_a_model_makes_by_its_rows_is_refused_in_the_same_words() -> None:
    def model(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
        return torch.sparse_csr_tensor(rows, columns, torch.ones(2), (4, 4)) @ x

    with pytest.raises(CaptureError, match=r"not dense \(torch.sparse_csr, torch.float32\)"):
        analyze(model, (torch.tensor([0, 1, 2, 2, 2]), torch.tensor([1, 2]), torch.ones(4, 4)))
