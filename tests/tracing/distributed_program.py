"""Two processes: the first analyses models that are wrapped or sharded over both, the second stores its shards."""

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from graphflops import analyze


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 2))


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


class Part(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Any:
        return x @ self.weight.to_local()  # type: ignore[operator]


def models(world: int) -> Iterator[tuple[str, nn.Module, int]]:
    """A name, a model, and the number of steps that both processes run before the analysis."""
    mesh = init_device_mesh("cpu", (world,))
    for steps in range(3):
        yield f"ddp {steps}", DistributedDataParallel(layers()), steps
        yield f"static {steps}", DistributedDataParallel(layers(), static_graph=True), steps
    yield "inside", Around(DistributedDataParallel(layers())), 1
    for steps in range(2):
        yield f"fully_shard {steps}", fully_shard(layers(), mesh=mesh), steps
        model = layers()
        for module in (model[0], model[3], model):
            fully_shard(module, mesh=mesh)
        yield f"fully_shard of layers {steps}", model, steps
    plan = {"0": ColwiseParallel(), "3": RowwiseParallel()}
    yield "tensor parallel", parallelize_module(layers(), mesh, plan), 0  # type: ignore[arg-type]
    yield "flat", FullyShardedDataParallel(layers(), device_id=torch.device("cpu")), 0
    yield "part", Part(distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)])), 0


def local_parts(model: nn.Module) -> list[Tensor]:
    """The parts of the parameters that this process stores."""
    return [getattr(parameter, "_local_tensor", parameter).detach() for parameter in model.parameters()]


def main(rank: int, world: int, store: str) -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    results: dict[str, Any] = {}
    x = torch.ones(3, 4)
    for name, model, steps in models(world):
        for _ in range(steps):
            model(x).sum().backward()
        if rank == 0:  # alone: a process that communicates would wait for ever
            before = [part.clone() for part in local_parts(model)]
            try:
                report = analyze(model, (x,))
                unchanged = all(map(torch.equal, before, local_parts(model)))
                costs = report.forward, report.backward, report.optimizer
                results[name] = (*costs, list(report.parameters.values()), report.capture_notes[1:], unchanged)
            except Exception as error:
                results[name] = str(error)
    dist.barrier()
    dist.destroy_process_group()
    if rank == 0:
        print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
