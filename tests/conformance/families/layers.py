"""torch.nn, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from zoo import Case, Entry, floats, ids, on_meta

Layer = tuple[str, Callable[[], nn.Module], tuple[Any, ...]]


def entries() -> Iterator[Entry]:
    for name, make, inputs in [*products(), *convolutions(), *norms(), *recurrent(), *attention(), *pools(), *losses()]:
        yield Entry("layers", name, lambda make=make, inputs=inputs: Case(on_meta(make), inputs))


def products() -> Iterator[Layer]:
    yield "Linear", lambda: nn.Linear(12, 20), (floats(2, 5, 12),)
    yield "Linear, no bias, one vector", lambda: nn.Linear(12, 20, bias=False), (floats(12),)
    yield "Bilinear", lambda: nn.Bilinear(6, 10, 8), (floats(4, 6), floats(4, 10))
    yield "Embedding", lambda: nn.Embedding(50, 16), (ids(2, 7),)
    yield "EmbeddingBag", lambda: nn.EmbeddingBag(50, 16, mode="mean"), (ids(2, 7),)
    yield "EmbeddingBag, offsets", lambda: nn.EmbeddingBag(50, 16, mode="sum"), (ids(14), ids(2))


def convolutions() -> Iterator[Layer]:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    back = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    options: dict[str, dict[str, Any]] = {
        "": {},
        ", no bias": {"bias": False},
        ", stride 2, padding 1": {"stride": 2, "padding": 1},
        ", dilation 2": {"dilation": 2},
        ", 4 groups": {"groups": 4},
        ", depthwise": {"groups": 8, "out": 8},
        ", depthwise, multiplier 2": {"groups": 8, "out": 16},
        ", padding same": {"padding": "same"},
        ", padding reflect": {"padding": 1, "padding_mode": "reflect"},
    }
    for dims in (1, 2, 3):
        sizes = (9, 8, 7)[:dims]
        for suffix, keywords_of_variant in options.items():
            keywords = dict(keywords_of_variant)
            out = keywords.pop("out", 12)
            yield (
                f"Conv{dims}d{suffix}",
                lambda dims=dims, out=out, keywords=keywords: conv[dims](8, out, 3, **keywords),
                (floats(2, 8, *sizes),),
            )
            if "padding same" in suffix or "reflect" in suffix:
                continue
            yield (
                f"ConvTranspose{dims}d{suffix}",
                lambda dims=dims, out=out, keywords=keywords: back[dims](8, out, 3, **keywords),
                (floats(2, 8, *sizes),),
            )
    yield "Conv2d, 1 × 1", lambda: nn.Conv2d(8, 12, 1), (floats(2, 8, 5, 5),)
    yield "Conv2d, no batch", lambda: nn.Conv2d(8, 12, 3), (floats(8, 5, 5),)
    yield "Unfold", lambda: nn.Unfold(3), (floats(2, 8, 6, 6),)
    yield "Fold", lambda: nn.Fold((6, 6), 3), (floats(2, 72, 16),)


def norms() -> Iterator[Layer]:
    yield "BatchNorm1d", lambda: nn.BatchNorm1d(8), (floats(4, 8, 5),)
    yield "BatchNorm2d", lambda: nn.BatchNorm2d(8), (floats(4, 8, 5, 5),)
    yield "BatchNorm2d, eval", lambda: nn.BatchNorm2d(8).eval(), (floats(4, 8, 5, 5),)
    yield "BatchNorm3d", lambda: nn.BatchNorm3d(8), (floats(4, 8, 5, 5, 5),)
    yield "LayerNorm", lambda: nn.LayerNorm(8), (floats(4, 5, 8),)
    yield "RMSNorm", lambda: nn.RMSNorm(8), (floats(4, 5, 8),)
    yield "GroupNorm", lambda: nn.GroupNorm(2, 8), (floats(4, 8, 5, 5),)
    yield "InstanceNorm2d", lambda: nn.InstanceNorm2d(8, affine=True), (floats(4, 8, 5, 5),)
    yield "LocalResponseNorm", lambda: nn.LocalResponseNorm(3), (floats(4, 8, 5, 5),)
    yield "weight_norm", lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), (floats(4, 8),)
    yield "spectral_norm", lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)).eval(), (floats(4, 8),)


def recurrent() -> Iterator[Layer]:
    for name, layer in {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}.items():
        yield name, lambda layer=layer: layer(6, 10), (floats(5, 3, 6),)
        yield (
            f"{name}, 2 layers, both directions, batch first",
            lambda layer=layer: layer(6, 10, num_layers=2, bidirectional=True, batch_first=True),
            (floats(3, 5, 6),),
        )
        yield f"{name}, no batch", lambda layer=layer: layer(6, 10), (floats(5, 6),)
    yield "LSTM, projection", lambda: nn.LSTM(6, 10, proj_size=4), (floats(5, 3, 6),)
    yield "RNNCell", lambda: nn.RNNCell(6, 10), (floats(3, 6),)
    yield "GRUCell", lambda: nn.GRUCell(6, 10), (floats(3, 6),)
    yield "LSTMCell", lambda: nn.LSTMCell(6, 10), (floats(3, 6),)


def attention() -> Iterator[Layer]:
    three = (floats(7, 2, 16), floats(9, 2, 16), floats(9, 2, 16))
    same = floats(2, 7, 16)
    yield "MultiheadAttention, cross", lambda: nn.MultiheadAttention(16, 4), three
    yield "MultiheadAttention, self", lambda: nn.MultiheadAttention(16, 4, batch_first=True), (same, same, same)
    yield (
        "MultiheadAttention, self, eval",
        lambda: nn.MultiheadAttention(16, 4, batch_first=True).eval(),
        (same, same, same),
    )
    yield (
        "MultiheadAttention, own widths, extra keys",
        lambda: nn.MultiheadAttention(16, 4, kdim=12, vdim=10, add_bias_kv=True, add_zero_attn=True),
        (floats(7, 2, 16), floats(9, 2, 12), floats(9, 2, 10)),
    )
    for mode in ("train", "eval"):
        yield (
            f"TransformerEncoder, {mode}",
            lambda mode=mode: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
            ).train(mode == "train"),
            (same,),
        )
    yield (
        "TransformerDecoder",
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32), 2),
        (floats(7, 2, 16), floats(9, 2, 16)),
    )
    yield (
        "Transformer",
        lambda: nn.Transformer(16, 4, 2, 2, 32, batch_first=True),
        (floats(2, 7, 16), floats(2, 5, 16)),
    )


def pools() -> Iterator[Layer]:
    image = floats(2, 8, 12, 12)
    for pool in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(3), nn.LPPool2d(2, 2)):
        yield type(pool).__name__, lambda pool=pool: nn.Sequential(nn.Conv2d(8, 8, 1), pool), (image,)
    for pool in (
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.ChannelShuffle(2),
        nn.ZeroPad2d(1),
        nn.ReflectionPad2d(1),
    ):
        yield type(pool).__name__, lambda pool=pool: nn.Sequential(nn.Conv2d(8, 8, 1), pool), (image,)
    for mode in ("nearest", "bilinear", "bicubic"):
        yield (
            f"Upsample, {mode}",
            lambda mode=mode: nn.Sequential(nn.Conv2d(8, 8, 1), nn.Upsample(scale_factor=2, mode=mode)),
            (image,),
        )


class Trained(nn.Module):
    """A layer under a loss."""

    def __init__(self, layer: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.layer, self.loss = layer, loss

    def forward(self, x: Any, *targets: Any) -> Any:
        return self.loss(self.layer(x), *targets)


def losses() -> Iterator[Layer]:
    dense = (
        nn.MSELoss,
        nn.L1Loss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
        nn.KLDivLoss,
        nn.BCEWithLogitsLoss,
        nn.PoissonNLLLoss,
    )
    for loss in (*dense, nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss):
        yield loss.__name__, lambda loss=loss: Trained(nn.Linear(8, 5), loss()), (floats(4, 8), floats(4, 5))
    for loss in (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss):
        yield loss.__name__, lambda loss=loss: Trained(nn.Linear(8, 5), loss()), (floats(4, 8), ids(4))
    yield (
        "BCELoss",
        lambda: Trained(nn.Sequential(nn.Linear(8, 5), nn.Sigmoid()), nn.BCELoss()),
        (floats(4, 8), floats(4, 5)),
    )
    yield (
        "CosineEmbeddingLoss",
        lambda: Trained(nn.Linear(8, 5), nn.CosineEmbeddingLoss()),
        (floats(4, 8), floats(4, 5), floats(4)),
    )
    yield (
        "TripletMarginLoss",
        lambda: Trained(nn.Linear(8, 5), nn.TripletMarginLoss()),
        (floats(4, 8), floats(4, 5), floats(4, 5)),
    )
    yield (
        "MarginRankingLoss",
        lambda: Trained(nn.Linear(8, 5), nn.MarginRankingLoss()),
        (floats(4, 8), floats(4, 5), floats(4, 5)),
    )
    yield (
        "GaussianNLLLoss",
        lambda: Trained(nn.Linear(8, 5), nn.GaussianNLLLoss()),
        (floats(4, 8), floats(4, 5), floats(4, 5)),
    )
    yield (
        "HingeEmbeddingLoss",
        lambda: Trained(nn.Linear(8, 5), nn.HingeEmbeddingLoss()),
        (floats(4, 8), floats(4, 5)),
    )
    yield (
        "MultiLabelMarginLoss",
        lambda: Trained(nn.Linear(8, 5), nn.MultiLabelMarginLoss()),
        (floats(4, 8), ids(4, 5)),
    )
