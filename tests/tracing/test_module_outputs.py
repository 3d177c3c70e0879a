"""The shapes that modules return and the parameters that they hold, against hooks of a real run."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphflops import Report, analyze, rule
from graphflops.core.costs import Cost, Work


@dataclass
class Result:
    states: Tensor
    weights: Tensor | None = None


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear, self.activation = nn.LSTM(8, 8), nn.Linear(8, 8), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.activation(self.linear(self.lstm(x)[0]))


class Returns(nn.Module):
    """A module that returns what it is given in a container."""

    def __init__(self, container: Any) -> None:
        super().__init__()
        self.container = container

    def forward(self, x: Tensor) -> Any:
        return self.container(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.shared = nn.Linear(8, 8)
        self.results = Returns(Result)
        self.dicts = Returns(lambda x: OrderedDict(states=x, more={"indices": x.argmax(-1)}))
        self.lists = Returns(lambda x: [x, [x[0], 3]])
        self.many = Returns(lambda x: x.unbind(-1))
        self.nothing = Returns(lambda x: None)
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        x = self.shared(self.shared(x)[:2])
        x = self.lists(self.dicts(self.results(x).states)["states"])[0]
        self.nothing(self.many(x)[0])
        return x


def as_text(value: Any) -> list[str]:
    if isinstance(value, Tensor):
        return [f"{value.dtype}{list(value.shape)}".removeprefix("torch.")]
    values = value.values() if isinstance(value, dict) else vars(value).values() if isinstance(value, Result) else value
    return (
        [text for inner in values for text in as_text(inner)] if isinstance(value, (dict, Result, tuple, list)) else []
    )


def outputs_of_a_run(model: nn.Module, *args: Tensor) -> dict[str, str]:
    outputs: dict[str, str] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, result: Any) -> None:
            if texts := as_text(result):
                outputs[path] = ", ".join([*texts[:4], *(["…"] if len(texts) > 4 else [])])

        return hook

    handles = [module.register_forward_hook(record(path)) for path, module in model.named_modules()]
    model(*args)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize("fold", [True, False])
def test_shapes_are_those_of_the_last_call(fold: bool) -> None:
    model, x = Net(), torch.randn(5, 3, 8)
    report = analyze(model, (x,), fold=fold)
    assert report.info.output_shapes == outputs_of_a_run(model, x)


def test_a_module_that_a_rule_names_has_a_shape() -> None:
    @rule(Block)
    def block(x: Any) -> Cost:
        return Cost(forward=Work(macs=x.numel), grads={"x": Work()})

    model, x = Net(), torch.randn(5, 3, 8)
    inside = {f"blocks.{i}.{name}" for i in range(4) for name in ("lstm", "linear", "activation")}
    expected = {path: shapes for path, shapes in outputs_of_a_run(model, x).items() if path not in inside}
    assert analyze(model, (x,), rules=[block]).info.output_shapes == expected


def test_parameters_of_modules_are_those_that_they_hold() -> None:
    model = Net()
    report = analyze(model, (torch.randn(5, 3, 8),))
    assert report.parameters_by_module() == {
        path: sum(parameter.numel() for parameter in module.parameters()) for path, module in model.named_modules()
    }


def test_a_file_has_both_and_one_without_is_read(tmp_path: Path) -> None:
    report = analyze(Net(), (torch.randn(5, 3, 8),))
    path = report.to_json(tmp_path / "report.json")
    assert Report.from_json(path).info.output_shapes == report.info.output_shapes
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data.pop("module_parameters") == report.parameters_by_module()
    del data["output_shapes"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert Report.from_json(path).info.output_shapes == {}
    assert Report.from_json(path).forward == report.forward
