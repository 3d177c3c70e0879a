"""The picture of the page on serving: FLOPs of a token and bytes of the cache over its length, for four families.

python tests/report/serving_picture.py docs/pictures
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import graphflops
from graphflops.analysis.generation.law import GenerationLaw
from graphflops.integrations.targets import load

FAMILIES = {
    "Llama, grouped queries": "hf:llama?num_hidden_layers=2&num_key_value_heads=8",
    "Gemma 3, a window in one of two layers": "hf:gemma3_text?num_hidden_layers=2&sliding_window=1024"
    '&layer_types=["sliding_attention","full_attention"]',
    "GPT-2": "hf:gpt2?n_layer=2&n_positions=8192",
    "Mamba": "hf:mamba?num_hidden_layers=2",
}
"""label → model, of two layers each"""
LONGEST = 4096
LENGTHS = list(range(64, LONGEST, 64))


def law_of(target: str) -> GenerationLaw:
    """The law of a model by name."""
    loaded = load(target, batch=1, seq=8, training=False)
    loaded.model.eval()
    return graphflops.generation(*loaded, longest=LONGEST).law


def draw(folder: Path) -> Path:
    """Write the picture, each curve relative to its value at the first length."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "graphflops"
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for label, target in FAMILIES.items():
        law = law_of(target)
        flops = [law.flops_per_token(length) for length in LENGTHS]
        left.plot(LENGTHS, [count / flops[0] for count in flops], label=label)
        right.plot(LENGTHS, [law.cache_bytes(batch=1, length=length) / 2**20 for length in LENGTHS], label=label)
    left.set(xlabel="length of the cache", ylabel="FLOPs of a token, relative to 64", title="A new token")
    right.set(xlabel="length of the cache", ylabel="MiB of a request", title="The cache")
    left.legend()
    path = folder / "serving.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    with torch.no_grad():
        print(draw(Path(sys.argv[1])))
