"""transformers' language models that can be built on the meta device, two layers each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from zoo import Case, Entry, ids, on_meta

from families.configurations import shallow

ARCHITECTURES = """
    afmoe arcee axk1 bailing_hybrid beam bloom bert-generation bigbird_pegasus bitnet blenderbot-small blt codegen
    cohere2 cpmant cwm deepseek_v2 deepseek_v32 diffllama dots3_note electra ernie ernie4_5_moe exaone_moe flex_olmo
    fuyu gemma2 gemma3_text gemma4 gemma4_unified git glm4 glm4_moe_lite got_ocr2 gpt2 gpt_neo gpt_neox_japanese gptj
    granite_swa granitemoe_swa granitemoeshared hrm_text hy_v4 inkling2_text internlm3 jais2 kimi_linear laguna lfm3
    llama4 longcat_flash mbart mellum minicpm3 minimax_m2 ministral3 mixtral modernbert-decoder moss_transcribe_diarize
    mvp nemotron_h olmo2 olmo_hybrid openai-gpt pegasus phi phimoe phi4_multimodal plbart qwen2 qwen3 qwen3_5_moe
    qwen3_5_text qwen3_next rembert roberta-prelayernorm roformer seed_oss solar_open starcoder2 vaultgemma xglm
    xlm-roberta xlnet xlstm xmod zamba zaya
"""

CHANGES: dict[str, dict[str, Any]] = {
    # DeepSeek-V2-Lite's: for some there is no default, and experts of width 1407 no grouped product takes
    "deepseek_v2": {"num_experts_per_tok": 6, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 1408},
    # its cache asks the outer configuration for layers, which only the inner ones have; entropy makes patches of data
    "blt": {"use_cache": False, "patching_mode": "static"},
    "hrm_text": {"num_hidden_layers": 2},  # in each stack; its constructor makes the number of all passes of it
    # blocks are layers, under another name; a cache is written to in place, and what was written to has no gradient
    "xlstm": {"num_hidden_layers": 2, "use_cache": False},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 3,  # its hybrid layers share their weights: with one of them there is nothing to share
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
    },
}
"""values for fields that a default configuration leaves unset"""

FLOAT32 = ("xlnet",)
"""models whose position embeddings stay in float32. The others are built as they are trained, in bfloat16:
of no other dtype does PyTorch describe the grouped products of experts on the meta device."""


def entries() -> Iterator[Entry]:
    for name in ARCHITECTURES.split():
        yield Entry("causal_lm", name, _builder(name))


def _builder(name: str) -> Callable[[], Case]:
    def build() -> Case:
        config = shallow(name, **CHANGES.get(name, {}))
        dtype = torch.float32 if name in FLOAT32 else torch.bfloat16
        return Case(on_meta(lambda: as_loaded(AutoModelForCausalLM.from_config(config, dtype=dtype))), (ids(1, 16),))

    return build


def as_loaded(model: PreTrainedModel) -> PreTrainedModel:
    """A model with the weights in float32 that stay so when it is loaded; ``from_config`` does not see to that."""
    kept = model._keep_in_fp32_modules_strict or ()
    for name, parameter in model.named_parameters():
        if any(part in name for part in kept):
            parameter.data = parameter.data.float()
    return model
