"""diffusers and other models that denoise."""

from __future__ import annotations

from typing import Any

import torch
from zoo import Case

from families.wild.table import image, signal, wild


@wild("diffusers", "UNet2DModel")
def _() -> Case:
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return Case(model, (signal(2, 3, 16, 16), torch.tensor([5, 7])))


def _conditioned() -> dict[str, Any]:
    return {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    }


@wild("diffusers", "UNet2DConditionModel, of Stable Diffusion")
def _() -> Case:
    from diffusers import UNet2DConditionModel

    up = ("CrossAttnUpBlock2D", "UpBlock2D")
    model = UNet2DConditionModel(sample_size=16, up_block_types=up, **_conditioned())
    return Case(model, (signal(1, 4, 16, 16), 5, signal(1, 8, 32)))


@wild("diffusers", "ControlNetModel")
def _() -> Case:
    from diffusers import ControlNetModel

    model = ControlNetModel(conditioning_embedding_out_channels=(8, 16), **_conditioned())
    return Case(model, (signal(1, 4, 16, 16), 5, signal(1, 8, 32), image(1, 3, 32, 32)))


@wild("diffusers", "AutoencoderKL")
def _() -> Case:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=4,
    )
    return Case(model, (image(1, 3, 32, 32),))


@wild("diffusers", "VQModel")
def _() -> Case:
    from diffusers import VQModel

    model = VQModel(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=3,
        num_vq_embeddings=16,
    )
    return Case(model, (image(1, 3, 32, 32),))


@wild("diffusers", "DiTTransformer2DModel")
def _() -> Case:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, sample_size=8, num_embeds_ada_norm=10
    )
    inputs = {"timestep": torch.tensor([5]), "class_labels": torch.tensor([3])}
    return Case(model, (signal(1, 4, 8, 8),), inputs)


@wild("diffusers", "SD3Transformer2DModel")
def _() -> Case:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        in_channels=4,
        out_channels=4,
        pos_embed_max_size=8,
    )
    return Case(model, (signal(1, 4, 8, 8), signal(1, 6, 32), signal(1, 32), torch.tensor([5])))


@wild("diffusers", "FluxTransformer2DModel")
def _() -> Case:
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 6, 6),
        guidance_embeds=True,
    )
    inputs = {
        "hidden_states": signal(1, 16, 4),
        "encoder_hidden_states": signal(1, 6, 32),
        "pooled_projections": signal(1, 32),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(6, 3),
        "guidance": torch.tensor([1.0]),
    }
    return Case(model, (), inputs)


@wild("diffusers", "UNetSpatioTemporalConditionModel, of Stable Video Diffusion")
def _() -> Case:
    from diffusers import UNetSpatioTemporalConditionModel

    model = UNetSpatioTemporalConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=2,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    )
    inputs = {"encoder_hidden_states": signal(1, 1, 32), "added_time_ids": signal(1, 3)}
    return Case(model, (signal(1, 2, 8, 16, 16), 5), inputs)


@wild("denoising-diffusion-pytorch", "GaussianDiffusion with its loss")
def _() -> Case:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    net = Unet(dim=16, dim_mults=(1, 2), attn_dim_head=8, attn_heads=2)
    return Case(GaussianDiffusion(net, image_size=16, timesteps=10), (image(2, 3, 16, 16),))


@wild("rectified-flow-pytorch", "RectifiedFlow with its loss")
def _() -> Case:
    from rectified_flow_pytorch import RectifiedFlow, Unet

    return Case(RectifiedFlow(Unet(dim=16, dim_mults=(1, 2))), (image(2, 3, 16, 16),))
