"""Decoder-only language models as papers describe them, as short as they can be said: for formulas in their sizes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Layer(nn.Module):
    """Pre-norm attention over ``heads`` of ``head_width``, then a feed-forward network of ``hidden``."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias)
        self.out = nn.Linear(heads * head_width, width, bias)
        self.up, self.down = nn.Linear(width, hidden, bias), nn.Linear(hidden, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """Tokens and learned positions, layers, and a head that shares its table with the tokens."""

    def __init__(
        self, vocabulary: int, sequence: int, layers: int, width: int, heads: int, checkpointed: bool = False
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(sequence, width)
        self.layers = nn.ModuleList(Layer(width, heads, width // heads, 4 * width) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.checkpointed = checkpointed

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=True) if self.checkpointed else layer(x)
        return self.head(x)


class RelativeLayer(Layer):
    """With the parameters of relative positions (Dai et al. 2019), whose work no formula speaks of."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__(width, heads, head_width, hidden)
        self.relative = nn.Linear(width, heads * head_width, bias=False)
        self.biases = nn.Parameter(torch.zeros(2, heads * head_width))


class Chinchilla(nn.Module):
    """A layer norm at the end, and a head with a table of its own."""

    def __init__(self, vocabulary: int, layers: int, width: int, hidden: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.Sequential(*(RelativeLayer(width, heads, head_width, hidden) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.tokens(tokens))))


class PaLMLayer(nn.Module):
    """Attention beside the feed-forward network, one key and value for all heads, SwiGLU, no biases."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key, self.value = (nn.Linear(width, head_width, bias=False) for _ in range(2))
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.up, self.gate = (nn.Linear(width, 4 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        query = self.query(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (
            projection(y).unsqueeze(1).expand(-1, self.heads, -1, -1) for projection in (self.key, self.value)
        )
        attention = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return x + self.out(attention.transpose(1, 2).flatten(2)) + self.down(F.silu(self.gate(y)) * self.up(y))


class PaLM(nn.Module):
    """Tokens, layers, and the tokens' table again as the head."""

    def __init__(self, vocabulary: int, layers: int, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.Sequential(*(PaLMLayer(width, heads, head_width) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.norm(self.layers(self.tokens(tokens))), self.tokens.weight)
