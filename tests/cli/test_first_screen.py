"""A model by its name is one command: a report of one screen. ``make bench ROWS=by_name`` has the seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

MODELS = {
    "ResNet-50": "torchvision:resnet50",
    "ViT-B/16": "timm:vit_base_patch16_224",
    "Llama 3 8B": (
        "hf:llama?vocab_size=128256&intermediate_size=14336&num_key_value_heads=8&max_position_embeddings=8192"
    ),
    "Mixtral": "hf:mixtral",
    "Whisper": "hf:whisper",
    "a UNet of diffusers": "diffusers:UNet2DConditionModel",
}
LIBRARIES = {"hf": "transformers"}


def output_of(*command: str) -> str:
    """The output of a command of Python on a terminal of 80 columns."""
    environment = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.run(
        [sys.executable, *command], capture_output=True, encoding="utf-8", env=environment, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_by_its_name_is_a_screen(name: str) -> None:
    target = MODELS[name]
    library = target.partition(":")[0]
    if find_spec(LIBRARIES.get(library, library)) is None:
        pytest.skip(f"{library} is not installed")
    lines = output_of("-m", "graphflops", target).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
