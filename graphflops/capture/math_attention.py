"""Attention by its formula, as ``SDPBackend.MATH`` runs it, whatever kernel is chosen elsewhere."""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten

ATTENTION = aten.scaled_dot_product_attention.default
FUSED_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward
"""the gradients of the kernel that stand-ins choose, which have none of their own"""


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
    """``scaled_dot_product_attention`` of two visible products and a softmax, all of which have gradients again."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=query.dtype))
    return aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]
