"""Operators, time series, tables."""

from __future__ import annotations

from zoo import Case

from families.wild.table import signal, tokens, wild


@wild("neuraloperator", "Fourier neural operator")
def _() -> Case:
    from neuralop.models import FNO

    return Case(
        FNO(n_modes=(4, 4), in_channels=1, out_channels=1, hidden_channels=8, n_layers=2), (signal(1, 1, 16, 16),)
    )


@wild("neuraloperator", "tensorized Fourier neural operator")
def _() -> Case:
    from neuralop.models import TFNO

    model = TFNO(n_modes=(4, 4), in_channels=1, out_channels=1, hidden_channels=8, n_layers=2, rank=0.5)
    return Case(model, (signal(1, 1, 16, 16),))


@wild("neuraloperator", "U-shaped neural operator")
def _() -> Case:
    from neuralop.models import UNO

    model = UNO(
        in_channels=1,
        out_channels=1,
        hidden_channels=8,
        n_layers=3,
        uno_out_channels=[8, 8, 8],
        uno_n_modes=[[4, 4], [4, 4], [4, 4]],
        uno_scalings=[[1.0, 1.0], [0.5, 0.5], [2, 2]],
        channel_mlp_skip="linear",
    )
    return Case(model, (signal(1, 1, 16, 16),))


@wild("pykan", "MultKAN")
def _() -> Case:
    from kan import KAN

    return Case(KAN(width=[4, 5, 1], grid=3, k=3, seed=0, auto_save=False, symbolic_enabled=False), (signal(8, 4),))


@wild("rtdl_revisiting_models", "FTTransformer")
def _() -> Case:
    from rtdl_revisiting_models import FTTransformer

    options = FTTransformer.get_default_kwargs(n_blocks=2) | {"d_block": 32, "attention_n_heads": 2, "d_out": 1}
    options.pop("_is_default", None)
    return Case(
        FTTransformer(n_cont_features=4, cat_cardinalities=[3, 5], **options),
        (signal(6, 4), tokens(6, 2, vocab_size=3)),
    )


@wild("rtdl_num_embeddings", "periodic and piecewise linear embeddings")
def _() -> Case:
    import torch
    from rtdl_num_embeddings import PeriodicEmbeddings, PiecewiseLinearEmbeddings
    from torch import nn

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            bins = [torch.linspace(-1, 1, 5) for _ in range(4)]
            self.periodic = PeriodicEmbeddings(4, d_embedding=8, lite=False)
            self.pieces = PiecewiseLinearEmbeddings(bins, d_embedding=8, activation=True, version="B")
            self.head = nn.Linear(64, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([self.periodic(x), self.pieces(x)], -1).flatten(1))

    return Case(Embedded(), (signal(6, 4),))


@wild("gluonts", "DeepAR with its loss")
def _() -> Case:
    import torch
    from gluonts.torch.model.deepar.module import DeepARModel
    from torch import nn

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = DeepARModel(
                freq="D",
                context_length=8,
                prediction_length=4,
                num_feat_dynamic_real=1,
                num_feat_static_real=1,
                num_feat_static_cat=1,
                cardinality=[3],
                hidden_size=16,
                lags_seq=[1, 2],
            )

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.net.log_prob(*inputs) if hasattr(self.net, "log_prob") else self.net.loss(*inputs)

    past = 8 + 2
    inputs = (
        tokens(2, 1, vocab_size=3),
        signal(2, 1),
        signal(2, past, 1),
        signal(2, past),
        torch.ones(2, past),
        signal(2, 4, 1),
        signal(2, 4),
    )
    return Case(Loss(), inputs)


@wild("gluonts", "PatchTST with its distribution")
def _() -> Case:
    import torch
    from gluonts.torch.model.patch_tst.module import PatchTSTModel

    model = PatchTSTModel(
        prediction_length=4,
        context_length=16,
        patch_len=4,
        stride=4,
        padding_patch="end",
        d_model=16,
        nhead=2,
        dim_feedforward=32,
        num_feat_dynamic_real=0,
        dropout=0.1,
        activation="relu",
        norm_first=False,
        num_encoder_layers=1,
        scaling="mean",
    )
    return Case(model, (signal(2, 16), torch.ones(2, 16)))


@wild("pytorch-forecasting", "NBeats of blocks")
def _() -> Case:
    import torch
    from pytorch_forecasting.models.nbeats.sub_modules import NBEATSGenericBlock, NBEATSSeasonalBlock
    from torch import nn

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                [
                    NBEATSSeasonalBlock(units=16, backcast_length=12, forecast_length=4),
                    NBEATSGenericBlock(units=16, thetas_dim=4, backcast_length=12, forecast_length=4),
                ]
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            forecast = 0
            for block in self.blocks:
                back, ahead = block(x)
                x, forecast = x - back, forecast + ahead
            return forecast

    return Case(Stack(), (signal(2, 12),))


@wild("ncps", "closed-form continuous-time network")
def _() -> Case:
    from ncps.torch import CfC

    return Case(CfC(4, 16), (signal(2, 5, 4),))


@wild("pytorch-tcn", "temporal convolutional network")
def _() -> Case:
    from pytorch_tcn import TCN

    return Case(TCN(num_inputs=4, num_channels=[8, 8], kernel_size=3), (signal(2, 4, 20),))


@wild("s5-pytorch", "S5 block")
def _() -> Case:
    from s5 import S5Block

    return Case(S5Block(dim=16, state_dim=8, bidir=False), (signal(2, 16, 16),))


@wild("pytorch-metric-learning", "ArcFace and multi-similarity with a miner")
def _() -> Case:
    import torch
    from pytorch_metric_learning.losses import ArcFaceLoss, NTXentLoss
    from torch import nn

    class Metric(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 16)
            self.arc, self.contrast = ArcFaceLoss(num_classes=3, embedding_size=16), NTXentLoss()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            embedded = self.net(x)
            return self.arc(embedded, labels) + self.contrast(embedded, labels)

    return Case(Metric(), (signal(8, 8), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])))


@wild("captum", "integrated gradients")
def _() -> Case:
    import torch
    from captum.attr import IntegratedGradients
    from torch import nn

    class Attributed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return IntegratedGradients(self.net).attribute(x, target=1, n_steps=4)

    return Case(Attributed(), (signal(2, 8),))


@wild("torchmetrics", "SSIM loss and total variation")
def _() -> Case:
    import torch
    from torch import nn
    from torchmetrics.functional.image import structural_similarity_index_measure, total_variation

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            output = self.net(image)
            return structural_similarity_index_measure(output, image, data_range=1.0) + total_variation(output)

    return Case(Loss(), (signal(1, 3, 24, 24),))
