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
    return Case(model, (tokens(2, 16, of=64), tokens(2, 16, of=64)))


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
