"""Scaled dot-product attention: softmax(q·kᵀ/√d + mask)·v, counted dense also when it is causal."""

from __future__ import annotations

from dataclasses import replace

from graphflops.core.costs import ZERO, Cost, Work
from graphflops.core.names import aten
from graphflops.core.sizes import Size, Spec, prod, size_min
from graphflops.rules.rule import rule
from graphflops.rules.templates import gradient, sum_to_size


@rule(aten.scaled_dot_product_attention)
def scaled_dot_product_attention(
    query: Spec,
    key: Spec,
    value: Spec,
    out: Spec,
    attention: str,
    attn_mask: Spec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Cost:
    """Scores (a matmul, the scale, the mask), softmax at 3, weighted sum (a matmul); grouped queries included.

    Of single operations the mathematics of PyTorch has more: it scales queries and keys by √ of the scale each, takes
    the maximum of each row, and looks for rows that are masked altogether.

    Backward, the math way, is dP = dO·Vᵀ, softmax, dQ, dK and dV: four matmuls for the two of forward. The flash way
    does not keep the scores and recomputes them, one matmul and their softmax (Dao et al. 2022): 2.5 × forward.

    Attention is counted dense, every query with every key. Of it are useful the pairs that are let through: of causal
    attention query i with the first i + 1 keys, of a mask that does not depend on data what it says, such as a window.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    heads = prod(out.shape[:-2])  # of operands with other batches or heads, what they broadcast to
    useful = heads * _causal_pairs(queries, keys) if is_causal else _mask_nnz(attn_mask, heads * queries * keys)

    def attention_cost(count: Size, positions: Size) -> Cost:
        """Attention that has so many pairs of a query and a key, all heads together, and so many in its mask."""
        scores, weighted = Work(macs=count * query.shape[-1]), Work(macs=count * value.shape[-1])
        scaled = Work(elementwise=query.numel)
        masked = Work(elementwise=count) if attn_mask is not None or is_causal else ZERO
        softmax = count * Work(elementwise=1, transcendental=1, division=1)
        dropped = Work(elementwise=count) if dropout_p else ZERO
        grads = {
            "query|key|attn_mask": weighted + count * Work(elementwise=4) + dropped,
            "query": scores + scaled + _sum_over_heads(query, out),
            "key": scores + _sum_over_heads(key, out),
            "value": weighted + _sum_over_heads(value, out),
            "attn_mask": Work(accumulate=count - positions),
        }
        flash = scores + scaled + masked + count * Work(elementwise=1, transcendental=1)
        recompute = flash if attention == "flash" else ZERO
        return Cost(scores + scaled + masked + softmax + dropped + weighted, grads, recompute)

    dense = attention_cost(heads * queries * keys, 0 if attn_mask is None else attn_mask.numel)
    return (
        dense if useful is None else replace(dense, useful=attention_cost(useful, (attn_mask and attn_mask.nnz) or 0))
    )


@rule(aten._scaled_dot_product_flash_attention_for_cpu, aten._scaled_dot_product_flash_attention)
def flash_attention(
    query: Spec,
    key: Spec,
    value: Spec,
    out: tuple[Spec, ...],
    attention: str,
    attn_mask: Spec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Cost:
    """As ``scaled_dot_product_attention``, called by the name of a kernel."""
    return scaled_dot_product_attention(query, key, value, out[0], attention, attn_mask, dropout_p, is_causal)


@rule(aten._scaled_dot_product_efficient_attention)
def efficient_attention(
    query: Spec,
    key: Spec,
    value: Spec,
    out: tuple[Spec, ...],
    attention: str,
    attn_bias: Spec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Cost:
    """As ``flash_attention``, its mask called a bias."""
    cost = scaled_dot_product_attention(query, key, value, out[0], attention, attn_bias, dropout_p, is_causal)
    grads = {key.replace("attn_mask", "attn_bias"): work for key, work in cost.grads.items()}
    return replace(cost, grads=grads)


@rule(aten._scaled_dot_product_flash_attention_for_cpu_backward, aten._scaled_dot_product_flash_attention_backward)
def attention_backward(
    grad_out: Spec,
    query: Spec,
    key: Spec,
    value: Spec,
    attention: str,
    attn_mask: Spec | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Cost:
    """Backward of attention; flash attention recomputes the scores. No double backward."""

    def backward_cost(attended: Cost) -> Cost:
        return Cost(gradient(attended, "query", "key", "value") + attended.recompute)

    attended = scaled_dot_product_attention(query, key, value, grad_out, attention, attn_mask, dropout_p, is_causal)
    return replace(backward_cost(attended), useful=None if attended.useful is None else backward_cost(attended.useful))


def _sum_over_heads(operand: Spec, out: Spec) -> Work:
    """The sum of an operand's gradient over heads that share it; for one matrix, the product of all heads has it."""
    if len(operand.shape) == 2:
        return ZERO
    return sum_to_size(replace(operand, shape=(*out.shape[:-2], *operand.shape[-2:])), operand)


def _mask_nnz(mask: Spec | None, pairs: Size) -> Size | None:
    """Pairs of a query and a key that a known mask lets through, in all the heads that it is the mask of."""
    return None if mask is None or mask.nnz is None else mask.nnz * (pairs // mask.numel)


def _causal_pairs(queries: Size, keys: Size) -> Size:
    """Pairs of a query and a key that is not after it."""
    square = size_min(queries, keys)
    return square * (square + 1) // 2 + (queries - square) * keys
