"""GPT-2 124M at 1024 tokens, one sequence: the published FLOPs of its matrix products, to the last digit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graphflops import Report, analyze

T, WIDTH, HEADS, LAYERS, VOCABULARY = 1024, 768, 12, 12, 50257


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.projection = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU("tanh"), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            tensor.unflatten(-1, (HEADS, -1)).transpose(1, 2) for tensor in self.qkv(self.ln_1(x)).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).flatten(-2))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(T, WIDTH)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


@pytest.fixture(scope="module")
def report() -> Report:
    with torch.device("meta"):
        model = GPT2()
    return analyze(model, (torch.empty(1, T, dtype=torch.int64, device="meta"),), convention="torch", attention="math")


def test_it_has_124_million_parameters(report: Report) -> None:
    assert sum(report.parameters.values()) == 124_439_808


@pytest.mark.parametrize("layer", range(LAYERS))
def test_each_block(report: Report, layer: int) -> None:
    costs = report.by_module()
    assert costs[f"h.{layer}.qkv"] == 3_623_878_656
    assert report.by_module_and_operator()[f"h.{layer}"]["scaled_dot_product_attention"] == 2 * 1_610_612_736
    assert costs[f"h.{layer}.projection"] == 1_207_959_552
    assert costs[f"h.{layer}"] == 17_716_740_096


def test_forward_and_backward(report: Report) -> None:
    assert report.forward == 291_648_307_200
    assert report.backward == 2 * 291_648_307_200


def test_a_flash_backward_is_two_and_a_half_times_attentions_forward(report: Report) -> None:
    with torch.device("meta"):
        model = GPT2()
    tokens = torch.empty(1, T, dtype=torch.int64, device="meta")
    flash = analyze(model, (tokens,), convention="torch", attention="flash")
    assert flash.backward == report.backward
    assert flash.recompute == LAYERS * 1_610_612_736
