"""graphflops scale: the output, the plots, and one clear message for each error."""

import sys
from pathlib import Path

import pytest

from graphflops import Law
from graphflops.cli import main

MODELS = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, D=8, V=50):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, D), nn.Linear(D, V, bias=False)

    def forward(self, tokens):
        return self.head(self.embed(tokens))


def with_inputs(B, N, D):
    return Tiny(D), (torch.empty(B, N, dtype=torch.int64),)


def without_a_tuple(N):
    return "model"


def thresholds(N):
    return Tiny(8 + N % 7 * (N % 11)), (torch.empty(2, N, dtype=torch.int64),)


def raises(N):
    raise OSError("no weights here")


instance = nn.Linear(4, 4)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sized_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("sized_models", None)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["scale", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_factory_of_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "sized_models:with_inputs", "-s", "B=2", "-s", "N=16..128", "-s", "D=8", "--budget", "1e9"
    )
    assert (code, err) == (0, "")
    assert "100·B·N·D" in out
    assert "O(N): " in out
    sizes = [line.split()[0] for line in out.splitlines() if line.rstrip().endswith(("█", "▓"))]
    assert sizes == ["16", "32", "64", "128"]
    assert "budget     1e+09 FLOPs are enough up to N = " in out


def test_a_model_with_inputs_in_names_of_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sized_models:Tiny", "-s", "N=16..64,B=4", "-s", "V=30", "-i", "tokens=BxN:int64", "--inference"]
    code, _, err = run(capsys, *arguments, "--json", "law.json")
    assert (code, err) == (0, "")
    law = Law.from_json("law.json")
    assert str(law.forward) == "16*B*N*V"
    assert law.optimizer == 0


LLAMA = "hf:llama?hidden_size=8&intermediate_size=16&num_attention_heads=2&num_key_value_heads=1&vocab_size=32"


@pytest.mark.slow
def test_a_model_by_its_name_takes_batch_and_seq_and_its_fields(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{LLAMA}&num_hidden_layers=layers"
    arguments = [target, "-s", "batch=2", "-s", "seq=8..32", "-s", "layers=2", "--inference"]
    code, _, err = run(capsys, *arguments, "--convention", "torch", "--json", "law.json")
    assert (code, err) == (0, "")
    law = Law.from_json("law.json")
    width, hidden, keys, vocabulary = 8, 16, 4, 32
    per_token = 2 * width * width + 2 * width * keys + 3 * width * hidden  # q, o; k, v; gate, up, down
    for batch, seq, layers in ((2, 8, 2), (3, 20, 5)):
        attention = 2 * seq * seq * width
        expected = batch * (layers * (seq * per_token + attention) + seq * width * vocabulary)
        assert law.evaluate("forward", batch=batch, seq=seq, layers=layers) == 2 * expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([LLAMA, "-s", "width=3"], "width: no size of hf:llama; expected batch, seq or image"),
        pytest.param(
            [LLAMA, "-s", "seq=8", "-s", "image=8..16"],
            "image: no number of hf:llama depends on it",
            marks=pytest.mark.slow,
        ),
        (["model.pt2", "-s", "batch=3"], "model.pt2 was exported with its sizes"),
    ],
)
def test_a_size_that_a_model_by_its_name_does_not_have(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_plot_in_each_format(folder: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    arguments = ["sized_models:Tiny", "-s", "N=16..64", "-i", "tokens=2xN:int64", "--plot", f"scale.{kind}"]
    assert run(capsys, *arguments)[0] == 0
    plot = Path(f"scale.{kind}").read_bytes()
    assert plot.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])
    assert run(capsys, *arguments)[0] == 0
    assert Path(f"scale.{kind}").read_bytes() == plot, "the plot must be reproducible"


def test_resnet_bk_takes_only_its_own_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--size", "M=3")
    assert code == 1
    assert "ResNet-BK has no size 'M'; expected one of B, N, D, V, E, K, L" in err


WRONG = [
    pytest.param(["sized_models:with_inputs", "-s", "N=3..2"], "above 3", id="range"),
    pytest.param(["sized_models:with_inputs", "-s", "N"], "NAME=VALUE", id="no value"),
    pytest.param(["sized_models:with_inputs", "-s", "Q=4"], "Q: neither a parameter", id="no such argument"),
    pytest.param(["sized_models:with_inputs", "-s", "N=4"], "missing 2 required", id="not all arguments"),
    pytest.param(["sized_models:with_inputs"], "sizes of a law by name", id="no size"),
    pytest.param(["sized_models:instance", "-s", "N=4"], "a function that takes sizes", id="no function"),
    pytest.param(["sized_models:without_a_tuple", "-s", "N=4"], "(model, args)", id="no tuple"),
    pytest.param(["sized_models:raises", "-s", "N=4"], "no weights here", id="raises"),
    pytest.param(["sized_models:thresholds", "-s", "N=60"], "no exact polynomial in N", id="no law"),
    pytest.param(
        ["sized_models:Tiny", "-s", "N=4", "-i", "tokens=BxN:int64"], "unknown size B", id="no size of that name"
    ),
    pytest.param(["sized_models:Tiny", "-s", "N=4..9", "-i", "tokens=2xN:int64", "--plot", "x.gif"], ".svg", id="gif"),
    pytest.param(
        ["sized_models:Tiny", "-s", "N=4", "-i", "tokens=2xN:int64", "--config", "L=3"], "--config", id="config"
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_one_clear_message(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not [*folder.glob("x.*")]
