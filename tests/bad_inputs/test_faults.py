"""Whose doing a failed trace is: each message says so, and the witness is the same call on real tensors."""

import platform
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import CaptureError, Cost, Spec, Work, analyze, rule
from graphflops.cli import main
from graphflops.core import messages

X = torch.ones(2, 4)
THE_MODEL = "The model itself raised this error"
A_VALUE = ("The value is not known", "The model reads the value")
NOT_YET = "graphflops does not support this yet; the model is not at fault"


def refusal(model: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(CaptureError) as caught:
        analyze(model, args or (X,))
    message = str(caught.value)
    assert sum(any(phrase in message for phrase in kind) for kind in ((THE_MODEL,), A_VALUE, (NOT_YET,))) == 1
    return message


def fails(x: Tensor) -> None:
    assert x.shape[0] == 77, "not 77"


def raises(x: Tensor) -> None:
    raise ValueError("no such size")


def unpacks(x: Tensor) -> Any:
    one, two, three = x.chunk(2)
    return one, two, three


OF_THE_MODEL: dict[str, Callable[[Tensor], Any]] = {
    "an_assertion": fails,
    "an_error_raised": raises,
    "a_key": lambda x: {}["key"],
    "an_attribute": lambda x: x.no_such_attribute,
    "an_unpacking": unpacks,
    "too_many_arguments": lambda x: torch.relu(x, 3, 4),  # type: ignore[call-arg]
    "a_product": lambda x: x @ torch.ones(5, 5),
    "a_layer": lambda x: nn.Linear(5, 5)(x),
    "a_view": lambda x: x.view(7),
    "a_dimension": lambda x: x.sum(5),
    "an_index": lambda x: x[7],
    "a_concatenation": lambda x: torch.cat([x, torch.ones(3, 3)], 1),
    "an_expansion": lambda x: x.expand(3, 3),
    "a_convolution": lambda x: F.conv2d(x, torch.ones(3, 3)),
    "an_embedding_of_floats": lambda x: F.embedding(x, torch.ones(3, 4)),
    "a_loss": lambda x: F.cross_entropy(x, torch.ones(9, dtype=torch.long)),
    "an_attention": lambda x: nn.MultiheadAttention(6, 2)(x, x, x),
    "an_einsum": lambda x: torch.einsum("ij,kl", x),
    "in_place_on_a_leaf": lambda x: nn.Parameter(torch.ones(3)).add_(1),
    "a_solve": lambda x: torch.linalg.solve(x, x),
    "complex_of_four": lambda x: torch.view_as_complex(x),
}
NOT_YET_DONE: dict[str, Callable[[Tensor], Any]] = {
    "storage": lambda x: torch.tensor(x.untyped_storage()[0]),
    "an_exchange_of_memory": lambda x: torch.utils.dlpack.to_dlpack(x),
    "quantized_numbers": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8).int_repr(),
}


@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_a_model_that_raises_on_real_tensors_too_is_said_to_raise_by_itself(name: str) -> None:
    with pytest.raises(Exception) as real:  # noqa: PT011
        OF_THE_MODEL[name](X)
    message = refusal(OF_THE_MODEL[name])
    assert THE_MODEL in message
    names = {type(real.value).__name__, *(("AssertionError",) if name == "a_solve" else ())}  # the second in 2.8
    assert any(kind in message for kind in names)
    assert "FakeTensor" not in message


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("name", NOT_YET_DONE)
def test_a_model_that_runs_on_real_tensors_is_not_blamed(name: str) -> None:
    NOT_YET_DONE[name](X)
    message = refusal(NOT_YET_DONE[name])
    assert NOT_YET in message
    if "quantized layers and tensors" in message:
        return  # older versions of PyTorch say what they are asked for, and so does the refusal
    report = message[message.index("Please report it with this line") :]
    assert f"torch {version('torch')}" in report
    assert f"Python {platform.python_version()}" in report
    assert "\n" not in report


@pytest.mark.parametrize("ask", [lambda x: x.tolist(), lambda x: x.sum() > 0 or x, lambda x: x.numpy(), int])
def test_a_value_that_nobody_gave_is_said_to_be_one(ask: Callable[[Tensor], Any]) -> None:
    def asks(x: Tensor) -> Tensor:  # not in the line of the assert: what a check asks for is taken to pass
        return torch.ones(3) * torch.tensor(ask(x.sum()))

    assert A_VALUE[0] in refusal(asks)


def test_a_slip_in_our_own_code_is_not_blamed_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphflops.tracing.tracer import Tracer

    def slips(self: Any, *_: Any) -> Any:
        return self.no_such_attribute

    monkeypatch.setattr(Tracer, "record_operator", slips)
    slips.__code__ = slips.__code__.replace(co_filename=Tracer.run.__code__.co_filename)
    message = refusal(nn.Linear(4, 4))
    assert NOT_YET in message
    assert "AttributeError: 'Tracer' object has no attribute 'no_such_attribute' at " in message


@pytest.mark.filterwarnings("ignore")
def test_a_statically_quantized_layer_is_refused_in_one_line() -> None:
    pytest.importorskip("torch.ao.quantization", reason="PyTorch gives quantization away", exc_type=ImportError)

    class Quantized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()  # type: ignore[no-untyped-call]
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            return self.leave(self.layer(self.enter(x)))

    model = Quantized().eval()
    model.qconfig = torch.ao.quantization.default_qconfig  # type: ignore[assignment]
    torch.ao.quantization.prepare(model, inplace=True)  # type: ignore[no-untyped-call]
    model(X)
    torch.ao.quantization.convert(model, inplace=True)  # type: ignore[no-untyped-call]
    assert isinstance(model(X), Tensor)
    message = refusal(model)
    assert "quantized layers and tensors" in message
    if "enter (Quantize)" not in message:  # where older versions, such as 2.8, stop
        assert "layer (Linear)" in message
        assert "quantized layers and tensors (quantized::linear)" in message
    assert "Facebook" not in message
    assert len(message) < 1500


def test_a_check_of_data_before_a_branch_on_data_is_not_what_stopped_the_trace() -> None:
    def checks(x: Tensor) -> Tensor:
        if x.max() > 3:
            raise ValueError("out of range")
        return x if x.sum() > 0 else -x

    message = refusal(checks)
    assert A_VALUE[0] in message
    assert "x.sum() > 0" in message
    assert "out of range" not in message


def test_a_check_of_data_before_an_error_is_not_what_stopped_the_trace() -> None:
    def checks(x: Tensor) -> Tensor:
        if x.max() > 3:
            raise ValueError("out of range")
        return x @ x

    message = refusal(checks)
    assert THE_MODEL in message
    assert "out of range" not in message
    assert "return x @ x" in message


def test_a_tensor_without_data_that_a_function_closes_over_is_no_reason_to_name_anything_of_ours() -> None:
    tensor = torch.zeros(3, device="meta")
    message = refusal(lambda x: x if tensor.sum() > 0 else -x)
    assert "the value of a tensor, which has none on the meta device" in message
    assert "graphflops" not in message
    assert "torch.library.custom_op" in message


def test_an_input_of_floats_is_not_to_be_given_as_a_real_one() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return x if x.sum() > 0 or lengths.sum() > 0 else -x

    message = refusal(Branches(), X, torch.ones(2))
    assert "as real tensors" not in message


def test_a_slip_of_ours_outside_of_a_trace_comes_with_a_line_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slips(*_: Any, **__: Any) -> Any:
        raise KeyError("slipped")

    slips.__code__ = slips.__code__.replace(co_filename=messages.__file__)
    monkeypatch.setattr("graphflops.analysis.pipeline.attribute", slips)
    assert main(["analyze", "--seq", "8", "--batch", "1", "--inference"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: internal error in graphflops: KeyError: 'slipped'")
    assert (
        f"Please report it with this line: graphflops {version('graphflops')}, torch {version('torch')}, Python " in err
    )


def test_calls_in_threads_of_the_model_are_reported_as_not_counted() -> None:
    class Threaded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            results: list[Tensor] = []
            thread = threading.Thread(target=lambda: results.append(self.layer(x)))
            thread.start()
            thread.join()
            return results[0] * 2

    report = analyze(Threaded(), (X,))
    assert [warning.partition(": ")[2] for warning in report.warnings] == [
        "a tensor was made where nothing is recorded, such as in another thread: its calls are not counted"
    ]
    assert "results[0] * 2" in Path(__file__).read_text().splitlines()[int(report.warnings[0].split(":")[1]) - 1]


@torch.library.custom_op("faults::cumsum", mutates_args=())
def cumsum(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy().cumsum(0))


@rule("faults.cumsum", outputs=lambda x: x)
def described_cumsum(x: Spec) -> Cost:
    return Cost(Work(elementwise=x.numel), {"x": Work()})


def test_a_custom_operator_without_a_fake_kernel_is_answered_with_a_rule_that_describes_its_output() -> None:
    def model(x: Tensor) -> Any:
        return cumsum(x) * 2

    with pytest.raises(CaptureError) as caught:
        analyze(model, (X,))
    message = str(caught.value)
    assert "the operator faults::cumsum has no fake kernel" in message
    assert '@rule("faults.cumsum", outputs=lambda x: x)' in message
    assert "Please report" not in message
    assert analyze(model, (X,), rules=[described_cumsum]).forward == 2 * X.numel()


def test_the_address_of_a_tensor_is_asked_for_in_a_module_and_on_a_line() -> None:
    class Kernel(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x * x.data_ptr()

    message = refusal(nn.Sequential(nn.ReLU(), Kernel()))
    assert "where   1 (Kernel)" in message
    assert "return x * x.data_ptr()" in message
    assert "the program reads the memory address of a tensor" in message


def test_a_function_that_makes_a_model_is_said_to_make_one() -> None:
    def factory(width: int = 3) -> nn.Module:
        return nn.Sequential(nn.Linear(4, width))

    with pytest.raises(CaptureError, match=r"factory makes a model: pass the model that it returns, as in analyze"):
        analyze(factory, (X,))
