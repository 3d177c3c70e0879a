"""Kinds of attention, of mixing and of memory, each as its package implements a paper."""

from __future__ import annotations

import os

import torch
from torch import nn
from zoo import Case

from families.wild.table import image, signal, tokens, wild


@wild("reformer-pytorch", "ReformerLM, hashed attention in reversible layers")
def _() -> Case:
    from reformer_pytorch import ReformerLM

    model = ReformerLM(
        100, dim=32, depth=2, max_seq_len=64, heads=2, dim_head=16, bucket_size=8, n_hashes=2, causal=True
    )
    return Case(model, (tokens(2, 64),))


@wild("performer-pytorch", "PerformerLM")
def _() -> Case:
    from performer_pytorch import PerformerLM

    model = PerformerLM(num_tokens=100, max_seq_len=32, dim=32, depth=2, heads=2, dim_head=16, nb_features=16)
    return Case(model, (tokens(2, 32),))


@wild("performer-pytorch", "Performer in reversible layers")
def _() -> Case:
    from performer_pytorch import Performer

    return Case(Performer(dim=32, depth=2, heads=2, dim_head=16, nb_features=16, reversible=True), (signal(2, 16, 32),))


@wild("linformer", "LinformerLM")
def _() -> Case:
    from linformer import LinformerLM

    return Case(LinformerLM(num_tokens=100, dim=32, seq_len=32, depth=2, heads=2, k=8), (tokens(2, 32),))


@wild("local-attention", "LocalTransformer")
def _() -> Case:
    from local_attention import LocalTransformer

    model = LocalTransformer(
        num_tokens=100, max_seq_len=32, dim=32, depth=2, heads=2, dim_head=16, causal=True, local_attn_window_size=8
    )
    return Case(model, (tokens(2, 32),))


@wild("nystrom-attention", "Nystromformer")
def _() -> Case:
    from nystrom_attention import Nystromformer

    return Case(Nystromformer(dim=32, dim_head=16, heads=2, depth=2, num_landmarks=8), (signal(2, 32, 32),))


@wild("linear-attention-transformer", "LinearAttentionTransformerLM")
def _() -> Case:
    from linear_attention_transformer import LinearAttentionTransformerLM

    model = LinearAttentionTransformerLM(
        num_tokens=100,
        dim=32,
        heads=2,
        depth=2,
        max_seq_len=32,
        causal=True,
        blindspot_size=1,
        n_local_attn_heads=1,
        local_attn_window_size=8,
    )
    return Case(model, (tokens(2, 32),))


@wild("routing-transformer", "RoutingTransformerLM")
def _() -> Case:
    from routing_transformer import RoutingTransformerLM

    model = RoutingTransformerLM(
        num_tokens=100, dim=32, heads=2, depth=2, max_seq_len=32, window_size=8, causal=True, n_local_attn_heads=1
    )
    return Case(model, (tokens(2, 32),))


@wild("sinkhorn-transformer", "SinkhornTransformerLM")
def _() -> Case:
    from sinkhorn_transformer import SinkhornTransformerLM

    model = SinkhornTransformerLM(num_tokens=100, dim=32, heads=2, depth=2, max_seq_len=32, bucket_size=8)
    return Case(model, (tokens(2, 32),))


@wild("h-transformer-1d", "HTransformer1D")
def _() -> Case:
    from h_transformer_1d import HTransformer1D

    model = HTransformer1D(
        num_tokens=100, dim=32, depth=2, causal=False, max_seq_len=32, heads=2, dim_head=16, block_size=8
    )
    return Case(model, (tokens(2, 32),))


@wild("memory-efficient-attention-pytorch", "attention in checkpointed chunks")
def _() -> Case:
    from memory_efficient_attention_pytorch import Attention

    model = Attention(
        dim=32, dim_head=16, heads=2, causal=True, memory_efficient=True, q_bucket_size=8, k_bucket_size=16
    )
    return Case(model, (signal(2, 32, 32),))


@wild("memory-efficient-attention-pytorch", "FlashAttention with a backward of its own")
def _() -> Case:
    from memory_efficient_attention_pytorch.flash_attention import FlashAttention

    return Case(FlashAttention(dim=32, dim_head=16, heads=2, q_bucket_size=8, k_bucket_size=16), (signal(2, 32, 32),))


@wild("perceiver-pytorch", "Perceiver")
def _() -> Case:
    from perceiver_pytorch import Perceiver

    model = Perceiver(
        num_freq_bands=4,
        depth=2,
        max_freq=8.0,
        num_latents=8,
        latent_dim=32,
        latent_heads=2,
        cross_dim_head=16,
        latent_dim_head=16,
        num_classes=10,
    )
    return Case(model, (image(2, 16, 16, 3),))


@wild("perceiver-pytorch", "PerceiverIO")
def _() -> Case:
    from perceiver_pytorch import PerceiverIO

    model = PerceiverIO(
        depth=2,
        dim=16,
        queries_dim=16,
        logits_dim=20,
        num_latents=8,
        latent_dim=32,
        latent_heads=2,
        cross_dim_head=16,
        latent_dim_head=16,
    )
    return Case(model, (signal(2, 24, 16),), {"queries": signal(2, 10, 16)})


@wild("mlp-mixer-pytorch", "MLPMixer")
def _() -> Case:
    from mlp_mixer_pytorch import MLPMixer

    model = MLPMixer(image_size=32, channels=3, patch_size=8, dim=32, depth=2, num_classes=10)
    return Case(model, (image(2, 3, 32, 32),))


@wild("res-mlp-pytorch", "ResMLP")
def _() -> Case:
    from res_mlp_pytorch import ResMLP

    return Case(ResMLP(image_size=32, patch_size=8, dim=32, depth=2, num_classes=10), (image(2, 3, 32, 32),))


@wild("g-mlp-pytorch", "gMLP")
def _() -> Case:
    from g_mlp_pytorch import gMLP

    return Case(gMLP(num_tokens=100, dim=32, depth=2, seq_len=32), (tokens(2, 32),))


@wild("PaLM-pytorch", "PaLM")
def _() -> Case:
    from palm_pytorch import PaLM

    return Case(PaLM(num_tokens=100, dim=32, depth=2, heads=2, dim_head=16), (tokens(2, 32),))


@wild("token-shift-gpt", "TokenShiftGPT")
def _() -> Case:
    from token_shift_gpt import TokenShiftGPT

    return Case(TokenShiftGPT(num_tokens=100, dim=32, max_seq_len=32, depth=2, ff_mult=2), (tokens(2, 32),))


@wild("FLASH-pytorch", "FLASHTransformer")
def _() -> Case:
    from flash_pytorch import FLASHTransformer

    model = FLASHTransformer(num_tokens=100, dim=32, depth=2, group_size=8, query_key_dim=16, causal=True)
    return Case(model, (tokens(2, 32),))


@wild("mega-pytorch", "Mega, moving averages by Fourier transforms")
def _() -> Case:
    from mega_pytorch import Mega

    model = Mega(num_tokens=100, dim=32, depth=2, ema_heads=4, attn_dim_qk=16, attn_dim_value=32)
    return Case(model, (tokens(2, 32),))


@wild("gated-state-spaces-pytorch", "GatedStateSpacesLM")
def _() -> Case:
    from gated_state_spaces_pytorch import GatedStateSpacesLM

    model = GatedStateSpacesLM(num_tokens=100, dim=32, depth=2, dss_kernel_N=16, dss_kernel_H=16)
    return Case(model, (tokens(2, 32),))


@wild("minGRU-pytorch", "minLM")
def _() -> Case:
    from minGRU_pytorch.minLM import minLM

    return Case(minLM(num_tokens=100, dim=32, depth=2), (tokens(2, 32),))


@wild("MEGABYTE-pytorch", "MEGABYTE")
def _() -> Case:
    from MEGABYTE_pytorch import MEGABYTE

    model = MEGABYTE(num_tokens=100, dim=(32, 16), depth=(1, 1), max_seq_len=(8, 4), dim_head=16, heads=2)
    return Case(model, (tokens(2, 32),), {"return_loss": True})


@wild("recurrent-memory-transformer-pytorch", "RecurrentMemoryTransformer, two segments")
def _() -> Case:
    from recurrent_memory_transformer_pytorch import RecurrentMemoryTransformer

    model = RecurrentMemoryTransformer(
        num_tokens=100, num_memory_tokens=4, dim=32, depth=2, causal=True, dim_head=16, heads=2, seq_len=16
    )
    return Case(TwoSegments(model), (tokens(2, 16), tokens(2, 16)))


class TwoSegments(nn.Module):
    """A model with a memory, called twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        _, memory, _ = self.model(first)
        return self.model(second, memory)[0]


@wild("block-recurrent-transformer-pytorch", "BlockRecurrentTransformer")
def _() -> Case:
    from block_recurrent_transformer_pytorch import BlockRecurrentTransformer

    model = BlockRecurrentTransformer(
        num_tokens=100,
        dim=32,
        depth=2,
        dim_head=16,
        heads=2,
        max_seq_len=32,
        block_width=8,
        num_state_vectors=8,
        recurrent_layers=(2,),
        use_compressed_mem=False,
    )
    return Case(model, (tokens(2, 32),))


@wild("infini-transformer-pytorch", "InfiniTransformer, two segments")
def _() -> Case:
    from infini_transformer_pytorch import InfiniTransformer

    model = InfiniTransformer(num_tokens=100, dim=32, depth=2, dim_head=16, heads=2)

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            _, _, memory = self.model(first, return_new_memories=True)
            return self.model(second, past_memories=memory)[0]

    return Case(Remembering(), (tokens(2, 16), tokens(2, 16)))


@wild("titans-pytorch", "NeuralMemory, gradients in forward")
def _() -> Case:
    from titans_pytorch import NeuralMemory

    return Case(NeuralMemory(dim=16, chunk_size=8), (signal(2, 32, 16),))


@wild("titans-pytorch", "MemoryAsContextTransformer")
def _() -> Case:
    from titans_pytorch import MemoryAsContextTransformer

    model = MemoryAsContextTransformer(
        num_tokens=100,
        dim=32,
        depth=2,
        segment_len=8,
        num_persist_mem_tokens=2,
        num_longterm_mem_tokens=2,
        dim_head=16,
        heads=2,
    )
    return Case(model, (tokens(2, 17),))


@wild("soft-moe-pytorch", "SoftMoE")
def _() -> Case:
    from soft_moe_pytorch import SoftMoE

    return Case(SoftMoE(dim=32, seq_len=16, num_experts=4), (signal(2, 16, 32),))


@wild("mixture-of-experts", "MoE")
def _() -> Case:
    from mixture_of_experts import MoE

    return Case(MoE(dim=32, num_experts=4, hidden_dim=64), (signal(2, 16, 32),))


@wild("mixture-of-experts", "hierarchical MoE")
def _() -> Case:
    from mixture_of_experts import HeirarchicalMoE

    return Case(HeirarchicalMoE(dim=32, num_experts=(2, 2)), (signal(2, 16, 32),))


@wild("st-moe-pytorch", "MoE")
def _() -> Case:
    from st_moe_pytorch import MoE

    return Case(MoE(dim=32, num_experts=4), (signal(2, 16, 32),))


@wild("PEER-pytorch", "a million experts, here 64")
def _() -> Case:
    from PEER_pytorch import PEER

    return Case(PEER(dim=32, heads=2, num_experts=64, num_experts_per_head=4, dim_key=16), (signal(2, 16, 32),))


@wild("CoLT5-attention", "conditionally routed attention")
def _() -> Case:
    from colt5_attention import ConditionalRoutedAttention

    model = ConditionalRoutedAttention(
        dim=32,
        light_dim_head=16,
        light_heads=2,
        light_window_size=8,
        heavy_dim_head=16,
        heavy_heads=2,
        num_heavy_tokens_q=8,
        num_heavy_tokens_kv=8,
    )
    return Case(model, (signal(2, 32, 32),))


@wild("slot-attention", "SlotAttention")
def _() -> Case:
    from slot_attention import SlotAttention

    return Case(SlotAttention(num_slots=4, dim=32, iters=3), (signal(2, 20, 32),))


@wild("glom-pytorch", "Glom")
def _() -> Case:
    from glom_pytorch import Glom

    return Case(Glom(dim=32, levels=3, image_size=32, patch_size=8), (image(2, 3, 32, 32),), {"iters": 3})


@wild("vector-quantize-pytorch", "ResidualVQ")
def _() -> Case:
    from vector_quantize_pytorch import ResidualVQ

    model = ResidualVQ(dim=16, num_quantizers=3, codebook_size=32)
    return Case(nn.Sequential(nn.Linear(16, 16), model), (signal(2, 20, 16),))


@wild("vector-quantize-pytorch", "finite scalar quantization")
def _() -> Case:
    from vector_quantize_pytorch import FSQ

    return Case(nn.Sequential(nn.Linear(16, 16), FSQ(levels=[8, 5, 5], dim=16)), (signal(2, 20, 16),))


@wild("vector-quantize-pytorch", "lookup-free quantization")
def _() -> Case:
    from vector_quantize_pytorch import LFQ

    return Case(nn.Sequential(nn.Linear(16, 16), LFQ(codebook_size=32, dim=16)), (signal(2, 20, 16),))


@wild("point-transformer-pytorch", "PointTransformerLayer with neighbors")
def _() -> Case:
    from point_transformer_pytorch import PointTransformerLayer

    model = PointTransformerLayer(dim=16, pos_mlp_hidden_dim=16, attn_mlp_hidden_mult=2, num_neighbors=4)
    return Case(model, (signal(1, 12, 16), signal(1, 12, 3)))


@wild("enformer-pytorch", "Enformer")
def _() -> Case:
    from enformer_pytorch import Enformer

    model = Enformer.from_hparams(
        dim=96, depth=1, heads=2, output_heads={"human": 5}, target_length=4, num_downsamples=5, dim_divisible_by=16
    )
    return Case(model, (nn.functional.one_hot(tokens(1, 256, vocab_size=4), 4).float(),))


@wild("conformer", "ConformerBlock")
def _() -> Case:
    from conformer import ConformerBlock

    return Case(ConformerBlock(dim=32, dim_head=16, heads=2, conv_kernel_size=7), (signal(2, 20, 32),))


@wild("tab-transformer-pytorch", "TabTransformer")
def _() -> Case:
    from tab_transformer_pytorch import TabTransformer

    model = TabTransformer(categories=(5, 3, 4), num_continuous=4, dim=16, depth=2, heads=2, mlp_act=nn.ReLU())
    return Case(model, (tokens(6, 3, vocab_size=3), signal(6, 4)))


@wild("tab-transformer-pytorch", "FTTransformer")
def _() -> Case:
    from tab_transformer_pytorch import FTTransformer

    model = FTTransformer(categories=(5, 3, 4), num_continuous=4, dim=16, depth=2, heads=2)
    return Case(model, (tokens(6, 3, vocab_size=3), signal(6, 4)))


@wild("coca-pytorch", "CoCa")
def _() -> Case:
    from coca_pytorch.coca_pytorch import CoCa
    from vit_pytorch.extractor import Extractor
    from vit_pytorch.simple_vit_with_patch_dropout import SimpleViT

    vit = SimpleViT(
        image_size=32, patch_size=8, num_classes=10, dim=32, depth=1, heads=2, mlp_dim=64, patch_dropout=0.5
    )
    extractor = Extractor(vit, return_embeddings_only=True, detach=False)
    model = CoCa(
        dim=32,
        img_encoder=extractor,
        image_dim=32,
        num_tokens=100,
        unimodal_depth=1,
        multimodal_depth=1,
        dim_head=16,
        heads=2,
    )
    return Case(model, (), {"text": tokens(2, 17), "images": image(2, 3, 32, 32), "return_loss": True})


@wild("x-clip", "CLIP with its loss")
def _() -> Case:
    from x_clip import CLIP

    model = CLIP(
        dim_text=32,
        dim_image=32,
        dim_latent=32,
        num_text_tokens=100,
        text_enc_depth=1,
        text_seq_len=16,
        text_heads=2,
        text_dim_head=16,
        visual_enc_depth=1,
        visual_image_size=32,
        visual_patch_size=8,
        visual_heads=2,
        visual_dim_head=16,
    )
    return Case(model, (tokens(2, 16), image(2, 3, 32, 32)), {"return_loss": True})


@wild("egnn-pytorch", "EGNN_Network")
def _() -> Case:
    from egnn_pytorch import EGNN_Network

    model = EGNN_Network(num_tokens=20, dim=16, depth=2, num_nearest_neighbors=4)
    return Case(model, (tokens(1, 12, vocab_size=20), signal(1, 12, 3)))


@wild("se3-transformer-pytorch", "SE3Transformer")
def _() -> Case:
    os.environ["CLEAR_CACHE"] = "1"  # else it keeps its basis in a file of the home folder
    from se3_transformer_pytorch import SE3Transformer

    model = SE3Transformer(dim=8, heads=2, dim_head=4, depth=1, num_degrees=2, num_neighbors=4, output_degrees=1)
    return Case(model, (signal(1, 10, 8), signal(1, 10, 3), torch.ones(1, 10, dtype=torch.bool)), {"return_type": 0})
