"""Functions with a gradient of their own: spikes, scans, sparse choices, reversible layers."""

from __future__ import annotations

import torch
from torch import nn
from zoo import Case

from families.wild.table import image, signal, wild


@wild("snntorch", "leaky integrate-and-fire neurons over time")
def _() -> Case:
    import snntorch as snn
    from snntorch import surrogate

    class Spiking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            gradient = surrogate.fast_sigmoid()
            self.fc1, self.lif1 = nn.Linear(10, 16), snn.Leaky(beta=0.9, spike_grad=gradient)
            self.fc2, self.lif2 = nn.Linear(16, 4), snn.Leaky(beta=0.9, spike_grad=gradient)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, second = self.lif1.init_leaky(), self.lif2.init_leaky()
            spikes = []
            for step in x:
                spike, first = self.lif1(self.fc1(step), first)
                spike, second = self.lif2(self.fc2(spike), second)
                spikes.append(spike)
            return torch.stack(spikes)

    return Case(Spiking(), (signal(5, 2, 10),))


@wild("snntorch", "synaptic neurons and a recurrent layer")
def _() -> Case:
    import snntorch as snn

    class Spiking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.neurons = nn.Linear(10, 16), snn.RLeaky(beta=0.9, linear_features=16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spike, memory = self.neurons.init_rleaky()
            for step in x:
                spike, memory = self.neurons(self.fc(step), spike, memory)
            return memory

    return Case(Spiking(), (signal(5, 2, 10),))


@wild("spikingjelly", "spiking ResNet-18, one step")
def _() -> Case:
    from spikingjelly.activation_based import neuron, surrogate
    from spikingjelly.activation_based.model import spiking_resnet

    model = spiking_resnet.spiking_resnet18(
        spiking_neuron=neuron.IFNode, surrogate_function=surrogate.ATan(), detach_reset=True
    )
    return Case(model, (image(1, 3, 64, 64),))


@wild("spikingjelly", "Spikformer")
def _() -> Case:
    from spikingjelly.activation_based.model.spikformer import Spikformer

    model = Spikformer(T=2, img_size_h=32, img_size_w=32, num_classes=10, embed_dims=32, num_heads=2, depths=1)
    return Case(model, (image(2, 1, 3, 32, 32),))


@wild("mambapy", "Mamba, parallel scan")
def _() -> Case:
    from mambapy.mamba import Mamba, MambaConfig

    return Case(Mamba(MambaConfig(d_model=16, n_layers=2, d_state=4)), (signal(2, 16, 16),))


@wild("mambapy", "Mamba, sequential scan")
def _() -> Case:
    from mambapy.mamba import Mamba, MambaConfig

    return Case(Mamba(MambaConfig(d_model=16, n_layers=1, d_state=4, pscan=False)), (signal(2, 8, 16),))


@wild("entmax", "attention by entmax and sparsemax")
def _() -> Case:
    from entmax import entmax15, sparsemax

    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = self.query(x) @ self.key(x).transpose(-1, -2)
            return entmax15(scores, dim=-1) @ self.value(x) + sparsemax(scores, dim=-1) @ self.value(x)

    return Case(Sparse(), (signal(2, 8, 16),))


@wild("pytorch-revgrad", "reversed gradients of a domain classifier")
def _() -> Case:
    from pytorch_revgrad import RevGrad

    return Case(nn.Sequential(nn.Linear(8, 16), RevGrad(), nn.Linear(16, 2)), (signal(4, 8),))


@wild("iunets", "invertible U-Net")
def _() -> Case:
    from iunets import iUNet

    return Case(iUNet(in_channels=8, architecture=(1, 1), dim=2), (image(1, 8, 16, 16),))


@wild("memcnn", "invertible module that frees its input")
def _() -> Case:
    from memcnn import AdditiveCoupling, InvertibleModuleWrapper

    half = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    return Case(InvertibleModuleWrapper(AdditiveCoupling(half), keep_input=False), (image(1, 8, 12, 12),))


@wild("pytorch-tabnet", "TabNet")
def _() -> Case:
    from pytorch_tabnet.tab_network import TabNet

    model = TabNet(8, 2, group_attention_matrix=torch.eye(8), virtual_batch_size=8)
    return Case(model, (signal(16, 8),))
