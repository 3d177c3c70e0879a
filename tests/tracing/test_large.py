"""A model of 405 billion parameters, on the meta device: exact, and in little memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

LAYERS, WIDTH, HEADS, KV_HEADS, INNER, VOCABULARY, SEQUENCE = 126, 16384, 128, 8, 53248, 128256, 8192

MODEL = f"""
import resource, torch
from pathlib import Path
from torch import nn
import torch.nn.functional as F
import graphflops

HEAD = {WIDTH} // {HEADS}

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm({WIDTH}), nn.RMSNorm({WIDTH})
        self.q, self.o = (nn.Linear({WIDTH}, {WIDTH}, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear({WIDTH}, {KV_HEADS} * HEAD, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear({WIDTH}, {INNER}, bias=False) for _ in range(2))
        self.down = nn.Linear({INNER}, {WIDTH}, bias=False)

    def forward(self, x):
        y = self.norm1(x)
        q, k, v = (each(y).unflatten(-1, (-1, HEAD)).transpose(1, 2) for each in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding({VOCABULARY}, {WIDTH})
        self.layers = nn.ModuleList(Block() for _ in range({LAYERS}))
        self.norm = nn.RMSNorm({WIDTH})
        self.head = nn.Linear({WIDTH}, {VOCABULARY}, bias=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

with torch.device("meta"):
    model = Model().bfloat16()
    tokens = torch.zeros(1, {SEQUENCE}, dtype=torch.long)
report = graphflops.analyze(model, (tokens,), attention="math", strict=True)
print(sum(report.parameters.values()), report.macs, int(report.work("backward").macs))
status = Path("/proc/self/status")  # a process has the peak of the one that started it in what getrusage says
lines = status.read_text().splitlines() if status.exists() else []
peak = [line.split()[1] for line in lines if line.startswith("VmHWM")]
print(*peak or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])
"""


@pytest.mark.slow
def test_is_counted_to_the_last_multiply_add_under_two_gibibytes() -> None:
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", MODEL], check=True, capture_output=True, text=True)
    parameters, forward, backward, kibibytes = map(int, process.stdout.split())
    products = 2 * WIDTH * WIDTH + 2 * WIDTH * KV_HEADS * (WIDTH // HEADS) + 3 * WIDTH * INNER
    weights = LAYERS * products + WIDTH * VOCABULARY
    assert parameters == weights + VOCABULARY * WIDTH + (2 * LAYERS + 1) * WIDTH
    assert forward == SEQUENCE * weights + LAYERS * 2 * SEQUENCE * SEQUENCE * WIDTH
    assert backward == 2 * forward  # the embedding is trained, so that every product has both gradients
    assert kibibytes < 2 * 1024**2
