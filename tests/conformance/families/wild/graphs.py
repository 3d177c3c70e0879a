"""Graphs and molecules."""

from __future__ import annotations

import torch
from zoo import Case

from families.wild.table import signal, wild


def edges(nodes: int, count: int) -> torch.Tensor:
    """A graph's edges, each from one node to another."""
    source = torch.arange(count) % nodes
    return torch.stack([source, (source + 1 + torch.arange(count) // nodes) % nodes])


def batch(nodes: int, graphs: int) -> torch.Tensor:
    """The index of the graph of each node."""
    return torch.arange(nodes) * graphs // nodes


@wild("torch-geometric", "GCN")
def _() -> Case:
    from torch_geometric.nn import GCN

    return Case(GCN(in_channels=8, hidden_channels=16, num_layers=2, out_channels=4), (signal(10, 8), edges(10, 30)))


@wild("torch-geometric", "GAT")
def _() -> Case:
    from torch_geometric.nn import GAT

    return Case(GAT(in_channels=8, hidden_channels=16, num_layers=2, heads=2, v2=True), (signal(10, 8), edges(10, 30)))


@wild("torch-geometric", "GIN, pooled by the graph of each node")
def _() -> Case:
    from torch_geometric.nn import GIN, global_mean_pool
    from torch_geometric.nn import Sequential as Graphs

    model = Graphs(
        "x, edges, batch",
        [
            (GIN(in_channels=8, hidden_channels=16, num_layers=2), "x, edges -> x"),
            (global_mean_pool, "x, batch -> x"),
            (torch.nn.Linear(16, 2), "x -> x"),
        ],
    )
    return Case(model, (signal(10, 8), edges(10, 30), batch(10, 3)))


@wild("torch-geometric", "SchNet")
def _() -> Case:
    from torch_geometric.nn import SchNet

    def all_pairs(positions: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        row, column = edges(10, 30)
        return torch.stack([row, column]), (positions[row] - positions[column]).norm(dim=-1)

    model = SchNet(hidden_channels=16, num_filters=16, num_interactions=2, num_gaussians=8, interaction_graph=all_pairs)
    return Case(model, (torch.arange(10) % 5 + 1, signal(10, 3), batch(10, 2)))


@wild("torch-geometric", "GPSConv")
def _() -> Case:
    from torch_geometric.nn import GINConv, GPSConv

    local = GINConv(torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16)))
    return Case(GPSConv(16, local, heads=2), (signal(10, 16), edges(10, 30), batch(10, 2)))


@wild("torch-geometric", "PointNet++ convolution")
def _() -> Case:
    from torch_geometric.nn import PointNetConv

    local = torch.nn.Sequential(torch.nn.Linear(11, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16))
    return Case(PointNetConv(local_nn=local), (signal(10, 8), signal(10, 3), edges(10, 30)))


@wild("torch-geometric", "GraphUNet")
def _() -> Case:
    from torch_geometric.nn import GraphUNet

    return Case(GraphUNet(8, 16, 4, depth=2), (signal(12, 8), edges(12, 36)))


@wild("torch-geometric", "RGCN, relations of edges")
def _() -> Case:
    from torch_geometric.nn import FastRGCNConv

    return Case(FastRGCNConv(8, 16, num_relations=3), (signal(10, 8), edges(10, 30), torch.arange(30) % 3))


@wild("e3nn", "FullyConnectedTensorProduct")
def _() -> Case:
    from e3nn.o3 import FullyConnectedTensorProduct

    product = FullyConnectedTensorProduct("4x0e + 2x1o", "1x0e + 1x1o", "4x0e + 2x1o")
    return Case(product, (signal(5, 10), signal(5, 4)))


@wild("e3nn", "SimpleNetwork of a point cloud")
def _() -> Case:
    from e3nn.nn.models.v2106.gate_points_networks import SimpleNetwork

    model = SimpleNetwork("3x0e", "2x0e", max_radius=2.0, num_neighbors=3.0, num_nodes=5.0, mul=4, layers=1, lmax=1)
    return Case(model, ({"pos": signal(6, 3), "x": signal(6, 3), "batch": batch(6, 2)},))
