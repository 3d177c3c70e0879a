"""Generations of models of transformers that run: caches of all kinds, masks, beams, encoders, and states."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from real_generation import TinyGPT, bytes_in, counted, macs, real_steps, tiny_step

from graphflops import CaptureError, analyze, generation
from graphflops.integrations.torchvision_operators import import_torchvision

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed", allow_module_level=True)

import_torchvision()  # a CPU build of torch lacks its operators, without which transformers imports no model
PROMPT = torch.ones(2, 5, dtype=torch.long)
LAYER = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 30}
KEYS = {"num_key_value_heads": 2, "head_dim": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**LAYER, "num_key_value_heads": 2},
    "qwen3": {**LAYER, **KEYS},
    "mistral": {**LAYER, **KEYS, "sliding_window": 8},
    "olmo": {**LAYER},
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 1, "vocab_size": 30},
    "gpt_neox": {**LAYER},
    "opt": {**LAYER, "ffn_dim": 16, "word_embed_proj_dim": 16},
    "bloom": {"hidden_size": 16, "n_head": 2, "n_layer": 1, "vocab_size": 30},
    "phi": {**LAYER},
    "olmo2": {**LAYER},
    "granite": {**LAYER},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 30, "state_size": 4},
}


def tiny(name: str, **changes: Any) -> Any:
    """A small model of a type, with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **SHAPES[name], **tokens, **changes)).eval()


def analyzed_steps(model: Any, steps: int, prompt: torch.Tensor = PROMPT, **kwargs: Any) -> tuple[list[int], Any]:
    """The multiply-adds of the prefill and of each step by analysis, and the generation."""
    answer = generation(model, (prompt,), kwargs, longest=24, attention="math")
    lengths = range(answer.sizes["length"], answer.sizes["length"] + steps)
    return [answer.prefill.macs, *(answer.decode(length).macs for length in lengths)], answer


def nbytes(answer: Any, length: int) -> int:
    """The bytes of a cache of a length."""
    return sum(tensor.nbytes for tensor in answer.cache_tensors(length))


@pytest.mark.parametrize(
    "name", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "mamba"))]
)
def test_prefill_steps_and_cache_are_those_of_a_run(name: str) -> None:
    model = tiny(name)
    counts, answer = analyzed_steps(model, 2)
    real, cache = real_steps(model, PROMPT, 2)
    assert (counts, nbytes(answer, 7)) == (real, bytes_in(cache))


@pytest.mark.slow
def test_a_window_counts_what_it_keeps_before_and_after_it_is_full() -> None:
    model = tiny("mistral")
    counts, answer = analyzed_steps(model, 5)
    real, cache = real_steps(model, PROMPT, 5)
    assert (counts, nbytes(answer, 10)) == (real, bytes_in(cache))
    assert counts[-1] == counts[-2] > counts[1]  # full from a cache of 7 tokens on
    assert {tensor.kind for tensor in answer.tensors} >= {"keys of a window", "values of a window"}


def test_logits_of_the_last_token_alone() -> None:
    model = tiny("llama")
    counts, answer = analyzed_steps(model, 1, logits_to_keep=1)
    real, _ = real_steps(model, PROMPT, 1, logits_to_keep=1)
    assert counts == real
    whole = generation(model, PROMPT).prefill
    assert whole.forward - answer.prefill.forward == 2 * 2 * 4 * 16 * 30  # 4 of 5 tokens of 2 requests


def test_padding_on_the_left_is_counted_as_it_runs() -> None:
    model, mask = tiny("llama"), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    counts, _ = analyzed_steps(model, 2, attention_mask=mask)
    real, _ = real_steps(model, PROMPT, 2, attention_mask=mask)
    assert counts == real


def test_a_static_cache_counts_its_full_length() -> None:
    from transformers import StaticCache

    model = tiny("llama")
    caches = [StaticCache(config=model.config, max_cache_len=16) for _ in range(2)]
    counts, answer = analyzed_steps(model, 2, past_key_values=caches[0])
    real, cache = real_steps(model, PROMPT, 2, past_key_values=caches[1])
    assert (counts, nbytes(answer, 7)) == (real, bytes_in(cache))
    assert counts[1] == counts[2]
    assert caches[0].layers[0].keys is None  # not written to


def test_an_empty_cache_that_is_given_is_no_other_prompt_and_stays_empty() -> None:
    from transformers import DynamicCache

    model = tiny("llama")
    cache = DynamicCache(config=model.config)
    counts, _ = analyzed_steps(model, 1, past_key_values=cache)
    assert counts == analyzed_steps(model, 1)[0]
    assert cache.get_seq_length() == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_cache_that_is_given_is_bit_equal_afterwards(fails: bool) -> None:
    model = tiny("llama")
    _, cache = real_steps(model, PROMPT, 1)  # 6 tokens
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    if fails:
        model.lm_head = None
        with pytest.raises(CaptureError):
            generation(model, PROMPT, {"past_key_values": cache})
    else:
        counts, answer = analyzed_steps(model, 1, past_key_values=cache)
        assert answer.sizes["length"] == 11
        _, other = real_steps(model, PROMPT, 1)
        assert counts == real_steps(model, PROMPT, 1, past_key_values=other)[0]
    for layer, (keys, values) in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


def test_a_quantized_cache_is_counted_as_it_runs() -> None:
    from transformers import QuantizedCache

    model = tiny("llama")
    counts, answer = analyzed_steps(model, 2, past_key_values=QuantizedCache("fp8", model.config))
    real, cache = real_steps(model, PROMPT, 2, past_key_values=QuantizedCache("fp8", model.config))
    assert (counts, nbytes(answer, 7)) == (real, bytes_in(cache))
    assert nbytes(answer, 7) < bytes_in(real_steps(model, PROMPT, 2)[1])


def test_layers_that_share_a_cache_have_its_bytes_once() -> None:
    def step(model: TinyGPT, cache: Any, tokens: torch.Tensor) -> Any:
        logits, cache = tiny_step(model, cache, tokens)
        return logits, [cache[0], cache[0]]

    answer = generation(TinyGPT(layers=2), PROMPT, step=step)
    assert [tensor.path for tensor in answer.tensors] == ["0.0", "0.1"]


def test_paged_caches_hold_whole_pages() -> None:
    law = generation(TinyGPT(), PROMPT, step=tiny_step, longest=40).law
    assert law.cache_bytes(batch=1, length=17, page=16) == law.cache_bytes(batch=1, length=32)
    assert law.cache_bytes(batch=1, length=[17, 3], page=16) == law.cache_bytes(batch=1, length=32) * 3 // 2


@pytest.mark.slow
def test_beams_are_a_larger_batch() -> None:
    model = tiny("llama")
    with counted() as counter:
        model.generate(PROMPT, max_new_tokens=3, num_beams=2, do_sample=False)
    law = generation(model, PROMPT, {"logits_to_keep": 1}, longest=16, attention="math", convention="torch").law
    assert law.total(batch=2, prompt=5, new_tokens=3, beams=2) == counter.get_total_flops()


@pytest.mark.slow
def test_an_encoder_reads_its_prompt_once() -> None:
    from transformers import T5Config, T5ForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    model = T5ForConditionalGeneration(
        T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=30, decoder_start_token_id=0)
    ).eval()
    answer = generation(model, PROMPT, new_tokens=3, longest=16, attention="math", convention="torch")
    counts, states, cache = [], None, None
    for _ in range(4):
        with counted() as counter:
            inputs = {"input_ids": torch.ones(3, 9, dtype=torch.long)} if cache is None else {}
            result = model(
                **inputs,
                encoder_outputs=states,
                decoder_input_ids=torch.zeros(3, 1, dtype=torch.long),
                past_key_values=cache,
                use_cache=True,
            )
        counts.append(macs(counter))
        cache, states = result.past_key_values, BaseModelOutput(last_hidden_state=result.encoder_last_hidden_state)
    assert answer.law.total(batch=3, prompt=9, new_tokens=4) == 2 * sum(counts)
    assert answer.law.cache_bytes(batch=3, prompt=9, length=4) == bytes_in(cache)


@pytest.mark.parametrize(
    "name", [name if name == "llama" else pytest.param(name, marks=pytest.mark.slow) for name in SHAPES]
)
def test_generate_as_it_is_is_what_runs(name: str) -> None:
    model, options = tiny(name), {"max_new_tokens": 3, "do_sample": False}
    model.generation_config.eos_token_id = 29  # which it looks for among the new tokens
    options |= {"min_new_tokens": 3}
    with counted() as counter:
        model.generate(PROMPT, **options)
    report = analyze(model.generate, (PROMPT,), options, training=False, attention="math")
    assert not report.unsupported_ops()
    assert report.macs == macs(counter)
