"""Inputs of the command line: each way to write one, and one clear message for what cannot be read."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import UsageError
from graphflops.cli import main
from graphflops.cli.inputs import Input, bind, split
from graphflops.cli.targets import model_and_inputs

MODELS = """
from torch import nn

class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, n):
        for _ in range(n):
            x = self.layer(x)
        return x

class Batch(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Embedding(9, 4), nn.Linear(4, 4)

    def forward(self, batch, causal=True):
        x = self.embed(batch["ids"])
        return self.layer(x) if causal else x
"""


class Takes(nn.Module):
    """The value of each name."""

    def forward(
        self,
        x: Any = None,
        n: int = 2,
        most: "int | None" = None,
        rate: float = 1.0,
        causal: bool | None = None,
        mode: str = "sum",
        sizes: Any = (),
        batch: Any = None,
        bare: Any = None,
    ) -> None: ...


def read(*texts: str) -> dict[str, Any]:
    args, kwargs = bind(Takes(), [Input.parse(part) for part in split(texts)])
    return dict(zip(["x", "n"], args, strict=False)) | kwargs


def shape(tensor: Any) -> tuple[tuple[int, ...], torch.dtype, str]:
    assert isinstance(tensor, Tensor)
    return tuple(tensor.shape), tensor.dtype, tensor.device.type


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=8x3:int64", ((8, 3), torch.int64, "meta")),
        ("x=8,3,224,224", ((8, 3, 224, 224), torch.float32, "meta")),
        ("x=8,3:bf16", ((8, 3), torch.bfloat16, "meta")),
        ("8,3", ((8, 3), torch.float32, "meta")),
        ("x=scalar:f64", ((), torch.float64, "meta")),
        ("x=7", ((7,), torch.float32, "meta")),
    ],
)
def test_a_tensor_without_data(text: str, expected: Any) -> None:
    assert shape(read(text)["x"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=3", {"n": 3}),
        ("n:=3", {"n": 3}),
        ("bare:=3", {"bare": 3}),
        ("bare=-3", {"bare": -3}),
        ("bare=0.5", {"bare": 0.5}),
        ("bare=1e-3", {"bare": 0.001}),
        ("most=4", {"most": 4}),
        ("rate=2", {"rate": 2.0}),
        ("causal=true", {"causal": True}),
        ("causal=False", {"causal": False}),
        ("causal=1", {"causal": True}),
        ("bare=none", {"bare": None}),
        ("mode=mean", {"mode": "mean"}),
        ("mode:=mean", {"mode": "mean"}),
        ("bare:=mean", {"bare": "mean"}),
        ("bare='a b, c'", {"bare": "a b, c"}),
        ('bare:="3"', {"bare": "3"}),
        ("sizes=[2, 4]", {"sizes": [2, 4]}),
        ("sizes:=(2,4)", {"sizes": (2, 4)}),
        ('bare={"a": [true, null]}', {"bare": {"a": [True, None]}}),
        ("batch.n:=3,batch.deep.on=true", {"batch": {"n": 3, "deep": {"on": True}}}),
        ("sizes.1:=5 sizes.0:=4", {"sizes": [4, 5]}),
        ("n=3,rate=0.5 mode=mean", {"n": 3, "rate": 0.5, "mode": "mean"}),
    ],
)
def test_a_value(text: str, expected: Any) -> None:
    parsed = read(text)
    assert parsed == expected
    assert list(map(type, parsed.values())) == list(map(type, expected.values()))


def test_a_tensor_with_data() -> None:
    lengths = read("x=[5,3,2]:int64")["x"]
    assert lengths.tolist() == [5, 3, 2]
    assert shape(lengths) == ((3,), torch.int64, "cpu")
    assert read("x=0.5:f64")["x"].item() == 0.5


def test_members_of_dicts_and_lists() -> None:
    batch = read("batch.ids=8x128:int64 batch.images.0=3x4 batch.images.1=3x5")["batch"]
    assert shape(batch["ids"]) == ((8, 128), torch.int64, "meta")
    assert [tuple(image.shape) for image in batch["images"]] == [(3, 4), (3, 5)]


def test_the_batch_is_of_tensors_without_data() -> None:
    inputs = [Input.parse(text).with_batch(7) for text in ("x=2x3", "bare=[5,3]:int64", "n:=3", "rate=scalar")]
    _, kwargs = bind(Takes(), inputs)
    assert kwargs["x"].shape == (7, 3)
    assert kwargs["bare"].tolist() == [5, 3]
    assert kwargs["n"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bare=mean", "invalid input 'bare=mean'.*NAME:=VALUE"),
        ("bare=[1,2", "invalid input"),
        ("bare:=[1,2", "invalid value"),
        ("bare={1: }", "invalid value"),
        ("bare=[1,'a']:int64", "no tensor can have the values"),
        ("bare=[[1],[2,3]]:int64", "no tensor can have the values"),
        ("bare=[1]:qint8", "cannot be quantized"),
        (f"bare={'[' * 200_000}1{']' * 200_000}", "longer than"),
        (f"bare={'[' * 9_000}1{']' * 9_000}", "invalid value"),
        ("sizes.0:=4 sizes.2:=5", "do not count from 0"),
        ("batch.ids=2x3 batch.ids=2x4", "batch.ids=… is given twice"),
        ("batch=2x3 batch.ids=2x4", "keep one"),
        ("batch.ids=2x4 batch=2x3", "keep one"),
        ("nothing:=3", "no parameter 'nothing'.*NAME:=VALUE"),
    ],
)
def test_unreadable_files(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["input=2x3"], "no parameter 'input' (did you mean input2 or input1?). Write"),
        (["rows=2x3"], "no parameter 'rows'. Write"),
        (["input1=2x3"], "missing a required argument: 'input2'. Write"),
    ],
)
def test_the_names_that_the_model_of_a_factory_takes(inputs: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        model_and_inputs("torch.nn:Bilinear(3, 4, 5)", inputs)
    assert f"{message} --input input1=SIZExSIZE:DTYPE --input input2=SIZExSIZE:DTYPE" in str(caught.value)


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "models_of_inputs.py").write_text(MODELS)
        return tmp_path

    def test_counts_by_a_number(self, capsys: pytest.CaptureFixture[str]) -> None:
        code = main(["analyze", "models_of_inputs:Steps", "-i", "x=5x4", "-i", "n:=3", "--inference"])
        assert (code, capsys.readouterr().out.count("240")) == (0, 1)  # 3 layers of 5·4·4 products

    def test_counts_by_a_dict(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["analyze", "models_of_inputs:Batch", "-i", "batch.ids=2x3:int64"]
        assert main([*arguments, "-i", "causal=true"]) == 0
        assert self.total_of_layer(capsys) != "0"
        assert main([*arguments, "-i", "causal=false"]) == 0
        assert self.total_of_layer(capsys) == "0"

    def total_of_layer(self, capsys: pytest.CaptureFixture[str]) -> str:
        (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  layer"))
        return re.split(" {2,}", row)[-2]

    def test_says_how_a_number_is_written_where_it_was_read_as_a_tensor(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["analyze", "models_of_inputs:Steps", "-i", "x=5x4", "-i", "n=3"]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("n=3 is a tensor of size 3, unless forward annotates n as int")
        assert last.endswith("for the number write n:=3")
