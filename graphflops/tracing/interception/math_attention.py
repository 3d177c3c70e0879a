"""Attention as ``SDPBackend.MATH`` computes it, whatever kernel is selected."""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten

ATTENTION = aten.scaled_dot_product_attention.default
FUSED_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward
"""backward of the kernel that fake tensors select; it has no gradient itself"""


def math_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``scaled_dot_product_attention`` as two products and a softmax, each of which can be differentiated twice."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=query.dtype))
    return aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]
