"""The forms in which inputs are given: each has the report of the tuple of tensors that it stands for."""

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphflops import CaptureError, Report, UsageError, analyze, capture, law
from graphflops.verify.rule_check import verify

X = torch.ones(2, 3, 8, 8)
IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.conv(x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(10, 4)

    def forward(self, image, vector, size=None):  # type: ignore[no-untyped-def]
        return nn.functional.interpolate(self.conv(image), size or (6, 6)).mean() + self.linear(vector).mean()


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 8), nn.Linear(8, 50)

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, n: int = 1):  # type: ignore[no-untyped-def]
        logits = self.head(self.embedding(input_ids))
        return logits if attention_mask is None else logits * attention_mask[..., None]


class TakesList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor], targets: Any = None) -> list[Tensor]:
        return [self.conv(image) for image in images]


class TakesDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.conv(batch["image"])  # type: ignore[no-any-return]


class Grid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, h, w):  # type: ignore[no-untyped-def]
        return torch.ones(h, w, 4) * self.scale


class AnnotatedGrid(Grid):
    def forward(self, h: int, w: int) -> Tensor:
        return torch.ones(h, w, 4) * self.scale


def numbers(report: Report) -> Any:
    return report.inputs, report.by_module("total"), report.by_operator("total")


VECTOR = torch.ones(2, 10)
FORMS: list[tuple[Any, Any, tuple[Any, ...]]] = [
    (Convolution(), X, (X,)),
    (Convolution(), [X], (X,)),
    (Convolution(), (2, 3, 8, 8), (X,)),
    (Convolution(), X.shape, (X,)),
    (Convolution(), [(2, 3, 8, 8)], (X,)),
    (Convolution(), X.numpy(), (X,)),
    (Convolution(), (X.numpy(),), (X,)),
    (Convolution(), X.numpy().astype(np.float64), (X,)),
    (Convolution(), {"x": X}, (X,)),
    (Convolution(), [X, torch.tensor([1, 0])], (X,)),
    (Convolution(), (X, torch.tensor([1, 0])), (X,)),
    (Convolution, X, (X,)),
    (Convolution().half(), (2, 3, 8, 8), (X.half(),)),
    (nn.DataParallel(Convolution()), (2, 3, 8, 8), (X,)),
    (torch.compile(Convolution()), (2, 3, 8, 8), (X,)),
    (TwoInputs(), [(2, 3, 8, 8), (2, 10)], (X, VECTOR)),
    (TwoInputs(), ((2, 3, 8, 8), (2, 10)), (X, VECTOR)),
    (TwoInputs(), {"image": X, "vector": VECTOR.numpy()}, (X, VECTOR)),
    (TwoInputs(), (X, VECTOR, (4, 4)), (X, VECTOR, [4, 4])),
    (LanguageModel(), (2, 3), (IDS,)),
    (LanguageModel(), [(2, 3), (2, 3)], (IDS, IDS)),
    (LanguageModel(), IDS.tolist(), (IDS,)),
    (LanguageModel(), UserDict(input_ids=IDS, attention_mask=IDS), (IDS, IDS)),
    (LanguageModel(), {"input_ids": IDS.tolist(), "attention_mask": IDS.tolist()}, (IDS, IDS)),
    (LanguageModel(), {"input_ids": IDS.numpy()}, (IDS,)),
    (nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 2)), (2, 3), (IDS,)),
    (TakesList(), [X[0], X[1]], ([X[0], X[1]],)),
    (TakesDict(), {"image": X}, ({"image": X},)),
    (nn.LSTM(4, 4), (5, 2, 4), (torch.ones(5, 2, 4),)),
    (AnnotatedGrid(), (3, 4), (3, 4)),
]


@pytest.mark.parametrize(("model", "given", "inputs"), FORMS)
def test_inputs_have_the_report_of_the_tensors_that_they_stand_for(
    model: Any, given: Any, inputs: tuple[Any, ...]
) -> None:
    instance = model() if isinstance(model, type) else model
    expected = numbers(analyze(instance, inputs))
    assert numbers(analyze(model, given)) == expected
    assert any(expected[1].values())


@pytest.mark.parametrize(
    ("model", "input_size", "inputs"),
    [
        (Convolution(), (2, 3, 8, 8), (X,)),
        (Convolution(), [2, 3, 8, 8], (X,)),
        (TwoInputs(), [(2, 3, 8, 8), [2, 10]], (X, VECTOR)),
        (TwoInputs(), {"vector": (2, 10), "image": (2, 3, 8, 8)}, (X, VECTOR)),
        (lambda n: n.sin(), (5,), (torch.ones(5),)),
    ],
)
def test_input_size_is_a_shape_whatever_forward_takes(model: Any, input_size: Any, inputs: tuple[Any, ...]) -> None:
    report, expected = analyze(model, input_size=input_size), analyze(model, inputs)
    assert dict(report.inputs) == dict(expected.inputs)
    assert report.total == expected.total > 0


def test_keyword_inputs_may_be_shapes_where_forward_takes_tensors() -> None:
    report = analyze(LanguageModel(), kwargs={"input_ids": (2, 3)})
    assert numbers(report) == numbers(analyze(LanguageModel(), (IDS,)))


def test_the_report_says_which_dtype_a_shape_got() -> None:
    assert analyze(LanguageModel(), (2, 3)).assumptions == (
        "input_ids is int64[2, 3], made from its shape with the dtype of token ids",
    )
    assert analyze(Convolution().double(), (2, 3, 8, 8)).assumptions == (
        "x is float64[2, 3, 8, 8], made from its shape with the dtype of the model's parameters",
    )
    assert analyze(Convolution(), (X,)).assumptions == ()


def test_the_report_says_that_labels_are_left_out() -> None:
    (note,) = analyze(Convolution(), [X, torch.tensor([1, 0])]).assumptions
    assert "int64[2]" in note
    assert "not passed" in note


def test_the_integers_of_arrays_and_lists_are_known() -> None:
    def repeat(model: nn.Module) -> Any:
        def forward(input_ids: Tensor, times: Tensor) -> Tensor:
            for _ in range(int(times[0])):  # of a meta tensor the value would be unknown
                input_ids = model(input_ids)
            return input_ids

        return forward

    linear = nn.Linear(3, 3)
    once = analyze(linear, (torch.ones(2, 3),), training=False).total
    report = analyze(repeat(linear), (torch.ones(2, 3), np.array([4])), training=False)
    assert report.total == 4 * once


def test_numbers_and_tuples_for_functions_stay_what_they_are() -> None:
    assert analyze(lambda n: torch.ones(n).sin(), (3,)).total == 3
    assert analyze(lambda shape: torch.ones(shape).sin(), [(3, 4)]).total == 12
    assert analyze(lambda array: torch.from_numpy(array).sin(), (np.ones(3),)).total == 3


@pytest.mark.parametrize("given", [X, (2, 3, 8, 8), {"x": X}])
def test_capture_and_verify_take_the_same_forms(given: Any) -> None:
    model = Convolution()
    assert analyze(capture(model, given)).total == analyze(model, (X,)).total
    assert verify(model, given).macs == verify(model, (X,)).macs


def test_a_factory_of_a_law_may_return_a_shape_or_a_tensor() -> None:
    model = nn.Linear(4, 4)
    expected = law(lambda B: (model, (torch.ones(B, 4),)), {"B": 8})
    for factory in (lambda B: (model, (B, 4)), lambda B: (model, torch.ones(B, 4))):
        assert law(factory, {"B": 8}).evaluate(B=100) == expected.evaluate(B=100)


def test_hooks_of_the_model_may_change_its_inputs() -> None:
    model = Convolution()
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0] + inputs[1][:, None, None, None],))
    labels = torch.tensor([1, 0])
    assert "not passed" not in str(analyze(model, (X, labels)).assumptions)
    assert analyze(model, (X, labels)).inputs.keys() == {"x", "input_1"}


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (Grid(), (3, 4), r"write input_size=\(3, 4\).* or kwargs=\{'h': 3, 'w': 4\}"),
        (Convolution(), [2, 3, 8, 8], "a tuple, such as"),
        (LanguageModel(), [1, 2, 3], r"torch.tensor\(\[…\]\)"),
        (LanguageModel(), {"input_ids": [1, 2, 3]}, "return_tensors='pt'"),
        (LanguageModel(), [[1, 2, 3], [4, 5]], "the same length"),
        (Convolution(), {"pixels": X, "labels": X}, "no parameter 'pixels'; it takes x"),
        (Convolution(), "a text", "tokenizer"),
        (Convolution(), torch.utils.data.DataLoader([X]), r"next\(iter\(loader\)\)"),  # type: ignore[arg-type]
        (Convolution(), np.array(["a"]), "x is an array of <U1"),
        (nn.Linear, X, r"Linear\(in_features, out_features\)"),
    ],
)
def test_what_to_write_is_said_in_one_line(model: Any, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        analyze(model, given)
    assert "\n" not in str(caught.value)


def test_inputs_that_are_given_twice() -> None:
    with pytest.raises(UsageError, match="keep one"):
        analyze(Convolution(), (X,), input_size=(2, 3, 8, 8))
    with pytest.raises(UsageError, match="keep one"):
        analyze(Convolution(), {"x": X}, {"x": X})


def test_a_class_that_fails_on_the_meta_device() -> None:
    class ReadsWeights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            float(torch.ones(1))

    with pytest.raises(UsageError, match=r"pass an instance, ReadsWeights\(…\): on the meta device"):
        analyze(ReadsWeights, X)


def test_a_function_that_returns_a_model_is_not_free() -> None:
    def tiny() -> nn.Module:
        return nn.Linear(4, 4)

    with pytest.raises(CaptureError, match=r"tiny returned a Linear, a model and no tensors: .*tiny\(…\)"):
        analyze(tiny)
