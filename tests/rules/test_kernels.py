"""Operators run by their meta kernels give what a FakeTensorMode gives."""

from typing import Any

import pytest
import torch
from cases import CASES, Case
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from graphflops.rules.loading import shipped
from graphflops.tracing.attempts import trace
from graphflops.tracing.recording.record import record_of
from graphflops.tracing.values.kernels import Kernels

aten = torch.ops.aten

CALLS: dict[str, tuple[Any, list[tuple[int, ...]], tuple[Any, ...]]] = {
    "a product": (aten.mm.default, [(2, 3), (3, 4)], ()),
    "a sum that broadcasts": (aten.add.Tensor, [(2, 3), (3,)], ()),
    "a sum of one shape": (aten.add.Tensor, [(2, 3), (2, 3)], ()),
    "a sum of a number": (aten.add.Tensor, [(2, 3)], (2,)),
    "a comparison": (aten.gt.Scalar, [(2, 3)], (0,)),
    "an activation": (aten.hardswish.default, [(2, 3)], ()),
    "one in place": (aten.hardswish_.default, [(2, 3)], ()),
    "a view": (aten.view.default, [(2, 6)], ([3, 4],)),
    "a transpose": (aten.t.default, [(2, 3)], ()),
    "a convolution": (
        aten.convolution.default, [(2, 4, 9, 9), (6, 2, 3, 3)], (None, [2, 2], [1, 1], [1, 1], False, [0, 0], 2),
    ),
    "batch norm in training": (aten.native_batch_norm.default, [(2, 4, 5), (4,), (4,), (4,), (4,)], (True, 0.1, 1e-5)),
    "batch norm in eval mode": (
        aten.native_batch_norm.default, [(2, 4, 5), (4,), (4,), (4,), (4,)], (False, 0.1, 1e-5),
    ),
    "layer norm": (aten.native_layer_norm.default, [(2, 4, 5)], ([5], None, None, 1e-5)),
    "the largest and where": (aten.max.dim, [(2, 3)], (1,)),
}  # fmt: skip


def broadcasting_shapes() -> st.SearchStrategy[list[tuple[int, ...]]]:
    """Three shapes of up to four axes, most of which fit each other."""
    sizes = st.sampled_from([0, 1, 1, 3, 3, 3])
    return st.lists(st.lists(sizes, max_size=4).map(tuple), min_size=3, max_size=3)


def described(result: Any) -> list[tuple[Any, ...]]:
    results = result if isinstance(result, (tuple, list)) else [result]
    return [(type(result), result.shape, result.stride(), result.dtype, result.device) for result in results]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns_first", [False, True])
def test_what_a_mode_gives(call: str, dtype: torch.dtype, columns_first: bool) -> None:
    op, shapes, rest = CALLS[call]
    if columns_first and op is aten.view.default:
        pytest.skip("there is no view of it")
    mode = FakeTensorMode()
    kernels = Kernels(mode)

    def tensors() -> list[Tensor]:
        tensors = [torch.empty(shape, dtype=dtype) for shape in shapes]
        return [tensor.mT.contiguous().mT if columns_first and tensor.dim() > 1 else tensor for tensor in tensors]

    with mode:
        expected = described(op(*tensors(), *rest))
        for _ in range(2):  # the second time it is not run
            assert described(kernels.run(op, (*tensors(), *rest), {})) == expected


@given(broadcasting_shapes(), st.sampled_from([aten.add.Tensor, aten.gt.Tensor, aten.where.self, aten.add_.Tensor]))
def test_elements_of_tensors_that_broadcast(shapes: list[tuple[int, ...]], op: Any) -> None:
    mode = FakeTensorMode()
    kernels = Kernels(mode)
    mask, *tensors = [torch.empty(shape, device="meta") for shape in shapes]
    tensors = [mask > 0, *tensors] if op is aten.where.self else tensors
    with mode:
        kernels.run(op, tuple(torch.empty(7, dtype=tensor.dtype) for tensor in tensors), {})
    fakes = [mode.from_tensor(tensor) for tensor in tensors]
    try:
        expected = described(op(*tensors))
    except RuntimeError:
        with pytest.raises(RuntimeError):
            kernels.run(op, tuple(fakes), {})
        return
    assert [tensor[1:4] for tensor in described(kernels.run(op, tuple(fakes), {}))] == [
        tensor[1:4] for tensor in expected
    ]


def test_a_copy_in_another_layout_is_laid_out_at_each_shape() -> None:
    mode = FakeTensorMode()
    kernels = Kernels(mode)
    with mode:
        for x in (torch.empty(2, 3, 4, 5), torch.empty(3, 4, 5, 6)):
            copy = kernels.run(aten.clone.default, (x,), {"memory_format": torch.channels_last})
            assert copy.is_contiguous(memory_format=torch.channels_last)


def test_tensors_written_in_place_are_returned_themselves() -> None:
    mode = FakeTensorMode()
    kernels = Kernels(mode)
    with mode:
        for x in (torch.empty(3), torch.empty(3)):
            assert kernels.run(aten.relu_.default, (x,), {}) is x


def test_a_wrong_call_is_refused_each_time() -> None:
    mode = FakeTensorMode()
    kernels = Kernels(mode)
    with mode:
        for _ in range(2):
            with pytest.raises(RuntimeError):
                kernels.run(aten.mm.default, (torch.empty(2, 3), torch.empty(2, 3)), {})


def test_constants_keep_the_values_that_a_mode_knows() -> None:
    mode = FakeTensorMode()
    with mode:
        three = torch.tensor(3.0)
        assert Kernels(mode).run(aten.mul.Tensor, (three, three), {}).item() == 9


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_in_a_trace_all_tensors_are_what_a_mode_makes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> list[Any]:
        nodes = trace(case.run, case.inputs, {}, shipped()).graph.nodes
        values = (record_of(node).value for node in nodes)
        return [described(value) for value in values if torch.is_tensor(value)]

    by_kernels = make()
    monkeypatch.setattr(Kernels, "run", lambda self, op, args, kwargs: op(*args, **kwargs))
    assert by_kernels == make()
