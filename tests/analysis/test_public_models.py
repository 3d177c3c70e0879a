"""Laws of public models from their configurations, compared with published formulas."""

import sys
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch

import graphflops
from graphflops import multiples

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))
import shim  # noqa: F401  first: beside a CPU build of torch, torchvision needs the names of its operators

transformers = pytest.importorskip("transformers")

B, N, D, F, V, L = sympy.symbols("B N D F V L", integer=True, positive=True)
OPTIONS: dict[str, Any] = {"convention": "torch", "attention": "math"}


def tokens(batch: int, length: int) -> tuple[tuple[torch.Tensor], dict[str, bool]]:
    return (torch.empty(batch, length, dtype=torch.int64),), {"use_cache": False}


@pytest.mark.slow
def test_gpt_2_is_megatrons_formula() -> None:
    """Narayanan et al. 2021, equation 3, without checkpoints: 72·B·s·l·h²·(1 + s/6h + V/12lh)."""

    def factory(B: int, N: int, D: int, L: int) -> Any:
        config = transformers.GPT2Config(
            vocab_size=100, n_positions=N, n_embd=D, n_layer=L, n_head=4, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config), *tokens(B, N)

    law = graphflops.law(factory, {"B": 2, "N": 32, "D": multiples(4, base=32), "L": 2}, **OPTIONS)
    published = 72 * B * N * L * D**2 * (1 + N / (6 * D) + sympy.Integer(100) / (12 * L * D))
    assert sympy.expand(law.total - published) == 0
    assert sympy.expand(law.parameters - (12 * L * D**2 + 13 * L * D + (100 + N) * D + 2 * D)) == 0


@pytest.mark.slow
def test_llama_has_three_feed_forward_matrices_and_grouped_queries() -> None:
    """Of a token, forward: queries and outputs 2·2·D², keys and values of half the heads 2·D², 6·D·F, scores 4·N·D."""

    def factory(N: int, D: int, F: int, L: int) -> Any:
        config = transformers.LlamaConfig(
            vocab_size=100,
            hidden_size=D,
            intermediate_size=F,
            num_hidden_layers=L,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=N,
        )
        return transformers.LlamaForCausalLM(config), *tokens(2, N)

    law = graphflops.law(factory, {"N": 32, "D": multiples(8, base=32), "F": 48, "L": 2}, **OPTIONS)
    layer = 4 * D**2 + 2 * D**2 + 6 * D * F + 4 * N * D
    assert sympy.expand(law.forward - 2 * N * (L * layer + 2 * D * 100)) == 0
    assert law.order("N").degree == 2


@pytest.mark.slow
def test_resnet_18_grows_with_the_area_of_the_image() -> None:
    """1,814,073,344 multiply-adds at 224², as torchvision prints it in GFLOPS: 1.81; all but the head by area."""
    models = pytest.importorskip("torchvision").models

    def factory(B: int, I: int) -> Any:  # noqa: E741
        return models.resnet18(), (torch.empty(B, 3, I, I),)

    law = graphflops.law(factory, {"B": 1, "I": multiples(32, base=224)}, convention="torch", training=False)
    i = sympy.Symbol("I", integer=True, positive=True)
    head = 512 * 1000
    assert sympy.expand(law.forward - 2 * B * ((1_814_073_344 - head) * i**2 / 224**2 + head)) == 0


@pytest.mark.slow  # two pieces of about 25 traces
def test_heads_wider_than_256_are_a_boundary_of_the_width() -> None:
    """Above, where D / 4 > 256, transformers repeats the keys, and their gradients are sums of another operator."""

    def factory(N: int, D: int) -> Any:
        config = transformers.LlamaConfig(
            vocab_size=100,
            hidden_size=D,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
        return transformers.LlamaForCausalLM(config), (torch.empty(2, N, dtype=torch.int64),)

    law = graphflops.law(factory, {"N": 16, "D": multiples(8, base=64)}, optimizer=None)
    sums = {"scaled_dot_product_attention": (True, False), "expand": (False, True)}
    for operator, (narrow, wide) in sums.items():
        terms = [term for term in law.terms if term.what == operator and term.kind == "accumulate"]
        for width, has_sums in ((1016, narrow), (1024, narrow), (1032, wide), (1040, wide)):
            assert any(law.terms[term].evaluate({"N": 24, "D": width}) for term in terms) is has_sums
    for width in (1016, 1024, 1032, 1040):
        with torch.device("meta"):
            model, args = factory(24, width)
        assert law.evaluate(N=24, D=width) == graphflops.analyze(model, args, optimizer=None).total
