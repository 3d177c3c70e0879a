"""Language models and attention."""

from __future__ import annotations

from zoo import Case

from families.wild.table import signal, tokens, wild


@wild("x-transformers", "decoder with rotary embeddings")
def _() -> Case:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=32, depth=2, heads=2, attn_dim_head=16, rotary_pos_emb=True)
    return Case(TransformerWrapper(num_tokens=100, max_seq_len=32, attn_layers=layers), (tokens(2, 16),))


@wild("x-transformers", "encoder with ALiBi and gated feed-forward")
def _() -> Case:
    from x_transformers import Encoder, TransformerWrapper

    layers = Encoder(dim=32, depth=2, heads=2, attn_dim_head=16, alibi_pos_bias=True, ff_glu=True, ff_swish=True)
    return Case(TransformerWrapper(num_tokens=100, max_seq_len=32, attn_layers=layers), (tokens(2, 16),))


@wild("x-transformers", "XTransformer, encoder and decoder with its loss")
def _() -> Case:
    from x_transformers import XTransformer

    model = XTransformer(
        dim=32,
        enc_num_tokens=64,
        enc_depth=1,
        enc_heads=2,
        enc_max_seq_len=16,
        dec_num_tokens=64,
        dec_depth=1,
        dec_heads=2,
        dec_max_seq_len=16,
    )
    return Case(model, (tokens(2, 16, vocab_size=64), tokens(2, 16, vocab_size=64)))


@wild("x-transformers", "ContinuousTransformerWrapper")
def _() -> Case:
    from x_transformers import ContinuousTransformerWrapper, Decoder

    layers = Decoder(dim=32, depth=2, heads=2, attn_dim_head=16)
    return Case(
        ContinuousTransformerWrapper(dim_in=8, dim_out=8, max_seq_len=16, attn_layers=layers), (signal(2, 16, 8),)
    )


@wild("peft", "LoRA on a Llama")
def _() -> Case:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return Case(get_peft_model(LlamaForCausalLM(config), lora), (), {"input_ids": tokens(2, 16)})


@wild("peft", "IA³ on a T5")
def _() -> Case:
    from peft import IA3Config, get_peft_model
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=100, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0)
    adapted = get_peft_model(T5ForConditionalGeneration(config), IA3Config(task_type="SEQ_2_SEQ_LM"))
    return Case(adapted, (), {"input_ids": tokens(2, 12), "labels": tokens(2, 8)})


@wild("peft", "prefix tuning of a GPT-2")
def _() -> Case:
    from peft import PrefixTuningConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=2, n_positions=32)
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    return Case(get_peft_model(GPT2LMHeadModel(config), prefix), (), {"input_ids": tokens(2, 16)})


@wild("open-clip-torch", "CLIP of a small ViT and a text transformer")
def _() -> Case:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=16, image_size=64)
    text = CLIPTextCfg(context_length=16, vocab_size=100, width=64, heads=2, layers=2)
    return Case(CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text), (signal(2, 3, 64, 64), tokens(2, 16)))


@wild("open-clip-torch", "CoCa")
def _() -> Case:
    from open_clip.coca_model import CoCa, MultimodalCfg
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=2, width=64, head_width=32, patch_size=16, image_size=64, attentional_pool=True, output_tokens=True
    )
    text = CLIPTextCfg(
        context_length=16, vocab_size=100, width=64, heads=2, layers=2, embed_cls=True, output_tokens=True
    )
    multimodal = MultimodalCfg(context_length=16, width=64, heads=2, layers=2, vocab_size=100)
    model = CoCa(embed_dim=64, multimodal_cfg=multimodal, text_cfg=text, vision_cfg=vision)
    return Case(model, (signal(2, 3, 64, 64), tokens(2, 15)))


@wild("litgpt", "GPT, a small Pythia")
def _() -> Case:
    from litgpt import GPT, Config

    return Case(
        GPT(Config.from_name("pythia-14m", n_layer=2, n_embd=32, n_head=2, padded_vocab_size=100)), (tokens(2, 16),)
    )


@wild("litgpt", "GPT, mixture of experts as in Mixtral")
def _() -> Case:
    from litgpt import GPT, Config

    config = Config.from_name(
        "Mixtral-8x7B-v0.1",
        n_layer=1,
        n_embd=32,
        n_head=2,
        n_query_groups=2,
        intermediate_size=64,
        n_expert=4,
        padded_vocab_size=100,
        block_size=32,
    )
    return Case(GPT(config), (tokens(2, 16),))


@wild("litgpt", "LoRA of a Llama")
def _() -> Case:
    from litgpt.lora import GPT, Config, mark_only_lora_as_trainable

    config = Config.from_name(
        "Llama-3.2-1B",
        n_layer=2,
        n_embd=32,
        n_head=4,
        n_query_groups=2,
        intermediate_size=64,
        padded_vocab_size=100,
        block_size=32,
        lora_r=4,
        lora_query=True,
        lora_value=True,
    )
    model = GPT(config)
    mark_only_lora_as_trainable(model)
    return Case(model, (tokens(2, 16),))


@wild("sentence-transformers", "BERT, pooled and normalized")
def _() -> Case:
    import torch
    from sentence_transformers.models import Dense, Normalize, Pooling
    from torch import nn
    from transformers import BertConfig, BertModel

    class Sentences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
            )
            self.bert = BertModel(config)
            self.after = nn.Sequential(Pooling(32), Dense(32, 16), Normalize())

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            return self.after({"token_embeddings": hidden, "attention_mask": mask})["sentence_embedding"]

    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    return Case(Sentences(), (tokens(2, 12), mask))


@wild("pytorch-crf", "conditional random field behind a linear layer")
def _() -> Case:
    import torch
    from torch import nn
    from torchcrf import CRF

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores, self.crf = nn.Linear(8, 5), CRF(5, batch_first=True)

        def forward(self, x: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return -self.crf(self.scores(x), tags, mask=mask)

    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4:] = False
    return Case(Tagger(), (signal(2, 6, 8), tokens(2, 6, vocab_size=5), mask))
