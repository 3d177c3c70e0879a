"""A model by its name is one command: a report of one screen, in seconds."""

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
MAX_IMPORTS_OF_TORCH = 8
"""processor time of a command, in that of ``import torch``: at most 10 s where that takes 1.25 s"""


def processor_seconds(*command: str) -> tuple[float, str]:
    """The processor time of a command of Python, and its output on a terminal of 80 columns."""
    before = os.times()
    environment = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.run(
        [sys.executable, *command], capture_output=True, encoding="utf-8", env=environment, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    after = os.times()
    return after.children_user - before.children_user, process.stdout


@pytest.fixture(scope="module")
def seconds_of_torch() -> float:
    processor_seconds("-c", "import torch")  # the first one reads the files from disk
    return processor_seconds("-c", "import torch")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_by_its_name_is_a_screen_in_seconds(name: str, seconds_of_torch: float) -> None:
    target = MODELS[name]
    library = target.partition(":")[0]
    if find_spec(LIBRARIES.get(library, library)) is None:
        pytest.skip(f"{library} is not installed")
    seconds, output = processor_seconds("-m", "graphflops", target)
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert seconds <= MAX_IMPORTS_OF_TORCH * seconds_of_torch
