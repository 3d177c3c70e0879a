"""Eager reference code runs the same operators as PyTorch with the setting of the process that selects them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from graphflops.analysis.mac_counter import MathAttention
from graphflops.tracing.interception.eager_only import _lstm

aten = torch.ops.aten


@contextmanager
def without_onednn() -> Iterator[None]:
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


class Dispatches(TorchDispatchMode):
    """Records every operator that is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(str(op))
        return op(*args, **(kwargs or {}))


class ReferenceLSTM(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_lstm if function is torch.lstm else function)(*args, **(kwargs or {}))


def run(context: AbstractContextManager[Any], call: Callable[[], Tensor], *, grad: bool) -> tuple[list[str], Tensor]:
    """The operators of a call, forward and backward, and its result."""
    torch.manual_seed(0)
    with context, Dispatches() as recorder:
        result = call()
        if grad:
            result.sum().backward()
    return recorder.operators, result


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"proj_size": 2}, {"bias": False}, {"dropout": 0.5}])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
def test_an_lstm_as_without_onednn(layers: int, options: dict[str, Any], batch_first: bool, grad: bool) -> None:
    layer = nn.LSTM(4, 5, layers, batch_first=batch_first, **options).requires_grad_(grad)
    x = torch.randn(3, 2, 4)
    without = run(without_onednn(), lambda: layer(x)[0], grad=grad)
    layer.zero_grad()
    reference = run(ReferenceLSTM(), lambda: layer(x)[0], grad=grad)
    assert reference[0] == without[0]
    assert torch.equal(reference[1], without[1])


@pytest.mark.parametrize("operator", [F.scaled_dot_product_attention, aten.scaled_dot_product_attention.default])
@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
@pytest.mark.parametrize("grad", [True, False])
def test_attention_as_with_the_math_backend(operator: Any, mask: torch.dtype | None, grad: bool) -> None:
    for dropout, causal, shared, scale in product((0.0, 0.3), (False, mask is None), (False, True), (None, 0.5)):
        query = torch.randn(2, 4, 5, 8, requires_grad=grad)
        key = torch.randn(2, 2 if shared else 4, 6, 8, requires_grad=grad)
        options = {"dropout_p": dropout, "is_causal": causal, "scale": scale, "enable_gqa": shared}
        attn_mask = None if mask is None else torch.ones(5, 6, dtype=mask).tril()

        def attention() -> Tensor:
            return operator(query, key, key, attn_mask, **options)  # noqa: B023

        formula = run(sdpa_kernel(SDPBackend.MATH), attention, grad=grad)
        query.grad = key.grad = None
        reference = run(MathAttention(), attention, grad=grad)
        assert reference[0] == formula[0]
        assert torch.equal(reference[1], formula[1])


def test_the_reference_does_not_depend_on_this_machine() -> None:
    layer, x = nn.LSTM(4, 5), torch.randn(3, 2, 4)
    if torch.backends.mkldnn.is_available():
        assert run(ReferenceLSTM(), lambda: layer(x)[0], grad=True) != run(
            nullcontext(), lambda: layer(x)[0], grad=True
        )
    query = torch.randn(2, 4, 5, 8)
    with_flash = run(nullcontext(), lambda: F.scaled_dot_product_attention(query, query, query), grad=False)
    assert "aten._scaled_dot_product_flash_attention_for_cpu.default" in with_flash[0]
