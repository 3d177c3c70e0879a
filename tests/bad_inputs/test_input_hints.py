"""The usual mistakes in a call of analyze: one sentence names the input and says what to write instead."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from graphflops import GraphflopsError, Report, analyze

X, ROWS = torch.ones(2, 3, 16, 16), torch.ones(2, 4)


class Unpacks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, channels, height, width = x.shape
        return x * (channels + height + width)


class SaysSize(nn.Module):
    def forward(self, x):  # type: ignore[no-untyped-def]
        return torch.ones(x.size())


def images() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 2))


def words() -> nn.Module:
    return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))


MISTAKES: dict[str, tuple[Callable[[], Report], str]] = {
    "a model of half precision": (
        lambda: analyze(images().half(), X),
        "input is float32, and the parameters of the model are float16: write input.to(torch.float16), or model.to",
    ),
    "an input of double precision": (lambda: analyze(nn.Linear(4, 4), ROWS.double()), "write input.to(torch.float32)"),
    "an input of integers": (lambda: analyze(nn.Linear(4, 4), ROWS.long()), "write input.to(torch.float32)."),
    "an image of bytes": (lambda: analyze(images(), X.byte()), "input is uint8"),
    "no batch": (
        lambda: analyze(images(), X[0]),
        "(3, 16, 16): if the batch is missing, write input[None]",
    ),
    "no batch, unpacked": (lambda: analyze(Unpacks(), X[0]), "x is of shape (3, 16, 16): if the batch is missing"),
    "no batch, as a shape": (
        lambda: analyze(images(), (3, 16, 16)),
        "write input[None], or (1, …)",
    ),
    "too few channels": (lambda: analyze(images(), X[:, :1]), "0 (Conv2d) takes 3 channels"),
    "channels last": (lambda: analyze(images(), X.movedim(1, -1)), "write input.permute(0, 3, 1, 2)"),
    "another size of image": (lambda: analyze(images(), X[..., :12, :12]), "4 (Linear) takes 196 features"),
    "a small image": (lambda: analyze(images(), X[..., :3, :3]), "make it larger"),
    "too few features": (lambda: analyze(nn.Linear(5, 4), ROWS), "the model (Linear) takes 5 features"),
    "floats for an embedding": (lambda: analyze(words(), ROWS), "an embedding needs integers: write input.long()"),
    "a string": (lambda: analyze(words(), ("a text",)), "input is a string: pass its token ids"),
    "a string, asked for its size": (lambda: analyze(SaysSize(), ("a text",)), "x is a string: pass its token ids"),
    "a string alone": (lambda: analyze(words(), "a text"), "pass its token ids"),  # type: ignore[arg-type]
    "None": (lambda: analyze(nn.Linear(4, 4), (None,)), "input is None, and forward needs a tensor there"),
    "a list of tensors": (lambda: analyze(images(), ([X, X],)), "torch.stack(input)"),
    "a list of floats": (lambda: analyze(nn.Linear(4, 4), ([1.0, 2.0],)), "torch.tensor(input) for its values"),
    "a dict as a positional input": (lambda: analyze(SaysSize(), ({"x": X},)), "analyze(model, batch), not"),
    "no inputs": (lambda: analyze(images()), "forward takes (input)"),
    "too many inputs": (lambda: analyze(images(), (X, X)), "forward takes (input)"),
    "another name": (lambda: analyze(nn.Linear(4, 4), (), {"inputs": ROWS}), "forward takes (input: torch.Tensor)"),
    "a name in a dict": (lambda: analyze(nn.Linear(4, 4), {"inputs": ROWS}), "no parameter 'inputs'; it takes input"),
    "one value a channel": (lambda: analyze(nn.BatchNorm1d(4), ROWS[:1]), "a batch of 2, or model.eval()"),
    "a list of modules": (lambda: analyze(nn.ModuleList([nn.Linear(4, 4)]), ROWS), "A ModuleList has no forward"),
    "a state_dict": (lambda: analyze(words().state_dict(), ROWS), "a state_dict has weights alone"),  # type: ignore[arg-type]
    "the name of a model": (lambda: analyze("resnet18", X), "graphflops.load"),  # type: ignore[arg-type]
    "a class": (lambda: analyze(nn.Linear, ROWS), "pass an instance, Linear(in_features, out_features)"),
    "a quantized input": (
        lambda: analyze(nn.Linear(4, 4), torch.quantize_per_tensor(ROWS, 0.1, 0, torch.quint8)),
        "input.dequantize()",
    ),
}


@pytest.mark.filterwarnings("ignore")  # torch is about to give up quantized tensors
@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_with_what_to_write(call: Callable[[], Report], message: str) -> None:
    with pytest.raises(GraphflopsError) as caught:
        call()
    assert message in str(caught.value)


WRAPPED: dict[str, Any] = {
    "DataParallel": nn.DataParallel,
    "torch.compile": torch.compile,
    "TorchScript": torch.jit.script,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_model_that_is_wrapped_has_the_flops_of_the_model(wrap: Any) -> None:
    assert analyze(wrap(images()), X).total == analyze(images(), X).total > 0


class Positions(nn.Module):
    """Token ids and a table of 16 positions, read in three ways."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.tokens, self.positions, self.read = nn.Embedding(10, 4), nn.Embedding(16, 4), read
        self.register_buffer("ids", torch.arange(16)[None])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, length = tokens.shape
        rows = {
            "range": lambda: self.positions(torch.arange(length)),
            "slice": lambda: self.positions.weight[:length],
            "expand": lambda: self.positions(self.ids[:, :length].expand(batch, length)),
        }
        return self.tokens(tokens) + rows[self.read]()


@pytest.mark.parametrize("read", ["range", "slice", "expand"])
def test_a_sequence_that_is_longer_than_the_table_of_positions(read: str) -> None:
    model, tokens = Positions(read), torch.zeros(2, 32, dtype=torch.int64)
    with pytest.raises((IndexError, RuntimeError)):
        model(tokens)
    with pytest.raises(GraphflopsError, match=r"tokens is 32 long, and .* has 16 positions: .* \(--seq 16\)"):
        analyze(model, tokens)
    assert analyze(model, tokens[:, :16]).model


def test_values_of_tokens_are_not_compared_with_a_table() -> None:
    """Tokens are often placeholders, as torch.empty makes, and those are not known."""
    tokens = torch.full((1, 4), 10)
    with pytest.raises(IndexError, match="index out of range in self"):
        words()(tokens)

    def twice(x: torch.Tensor) -> torch.Tensor:
        return words_twice(x) + words_twice(x)

    words_twice = words()
    for model in (words(), twice):
        report = analyze(model, tokens)
        assert (report.total, report.assumptions) == (analyze(model, tokens.to("meta")).total, ())
