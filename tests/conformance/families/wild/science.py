"""Operators, time series, tables."""

from __future__ import annotations

from zoo import Case

from families.wild.table import signal, wild


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
