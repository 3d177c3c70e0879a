"""A variant of ResNet-BK: boolean masks, a hand-written autograd.Function, checks of values.

It does not use graphflops, and runs and trains; its style is that of code from a notebook.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _resolvent_row(a: Tensor, b: Tensor, c: Tensor, z: Tensor) -> Tensor:
    """diag((H − zI)⁻¹) of one tridiagonal H, complex (N,); the minors are kept in range by their logarithms."""
    n = a.shape[0]
    shifted = a - z
    theta, theta_log = [torch.ones_like(z), shifted[0]], [torch.zeros(()), torch.zeros(())]
    for i in range(1, n):
        value = shifted[i] * theta[-1] - b[i - 1] * c[i - 1] * theta[-2]
        scale = value.abs() + 1e-12
        theta_log.append(theta_log[-1] + torch.log(scale))
        theta = [*theta[:-1], theta[-1] / scale, value / scale]
    phi, phi_log = [torch.ones_like(z), shifted[-1]], [torch.zeros(()), torch.zeros(())]
    for i in range(n - 2, -1, -1):
        value = shifted[i] * phi[-1] - b[i] * c[i] * phi[-2]
        scale = value.abs() + 1e-12
        phi_log.append(phi_log[-1] + torch.log(scale))
        phi = [*phi[:-1], phi[-1] / scale, value / scale]
    left, left_log = torch.stack(theta[:-1]), torch.stack(theta_log[:-1])
    right, right_log = torch.stack(phi[:-1][::-1]), torch.stack(phi_log[:-1][::-1])
    return left * right / theta[-1] * torch.exp((left_log + right_log - theta_log[-1]).clamp(-50.0, 50.0))


class BKCoreFunction(torch.autograd.Function):
    """Features (Re G, Im G) with the analytic gradient, blended with the inverse-square one."""

    GRAD_BLEND = 0.5

    @staticmethod
    def forward(ctx, he_diag, h0_super, h0_sub, z):
        rows = torch.vmap(_resolvent_row, in_dims=(0, 0, 0, None))
        G = rows(he_diag.to(torch.complex64), h0_sub.to(torch.complex64), h0_super.to(torch.complex64), z)
        if torch.isnan(G.real).any() or torch.isinf(G.real).any():
            G = torch.nan_to_num(G.real) + 1j * torch.nan_to_num(G.imag)
        ctx.save_for_backward(G)
        return torch.stack((G.real, G.imag), dim=-1).float()

    @staticmethod
    def backward(ctx, grad_features):
        (G,) = ctx.saved_tensors
        square = G**2
        grad = torch.complex(grad_features[..., 0], grad_features[..., 1])
        theory = -(grad.conj() * square).real
        size = square.abs().clamp_min(1e-4)
        inverse = -(grad.conj() * square.conj() / size**2).real
        blended = (1 - BKCoreFunction.GRAD_BLEND) * theory + BKCoreFunction.GRAD_BLEND * inverse
        if not torch.isfinite(blended).all():
            blended = torch.nan_to_num(blended)
        return blended.clamp(-1000.0, 1000.0).float(), None, None, None


class SparseMoELayer(nn.Module):
    """Each token goes to its top_k experts, picked out of the batch by boolean masks."""

    def __init__(self, d_model: int, num_experts: int = 4, top_k: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        assert 1 <= top_k <= num_experts, "top_k must be within num_experts"
        self.d_model, self.num_experts, self.top_k = d_model, num_experts, top_k
        self.gating_network = nn.Linear(d_model, num_experts)
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(d_model, 2 * d_model), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * d_model, d_model)
            )
            for _ in range(num_experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 3, f"expected (B, N, D), got {tuple(x.shape)}"
        assert x.shape[-1] == self.d_model, f"the width is {x.shape[-1]}, not {self.d_model}"
        b, n, d = x.shape
        flat = x.reshape(b * n, d)
        scores = self.gating_network(flat)
        probabilities = F.softmax(scores, dim=-1)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)
        out = torch.zeros_like(flat)
        for expert_index, expert in enumerate(self.experts):
            mask = (chosen == expert_index).any(dim=-1)
            if mask.sum() == 0:
                continue
            weight = (weights * (chosen == expert_index))[mask].sum(dim=-1, keepdim=True)
            out[mask] += expert(flat[mask]) * weight
        return out.view(b, n, d)


class MoEResNetBKLayer(nn.Module):
    """x → MoE → potential → BK-Core → features, back to the width of the model."""

    def __init__(self, d_model: int, n_seq: int, num_experts: int = 4, top_k: int = 1) -> None:
        super().__init__()
        self.n_seq = n_seq
        self.moe_ffn = SparseMoELayer(d_model, num_experts, top_k)
        self.v_proj = nn.Linear(d_model, 1)
        self.output_proj = nn.Linear(2, d_model)
        self.bk_scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("h0_diag", torch.full((n_seq,), -2.0))
        self.register_buffer("h0_sub", torch.ones(n_seq - 1))
        self.register_buffer("h0_super", torch.ones(n_seq - 1))
        self.register_buffer("z", torch.tensor(1.0j))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        assert n == self.n_seq, f"sequence length {n} is not {self.n_seq}"
        ffn = self.moe_ffn(x)
        v = torch.clamp(self.v_proj(ffn).squeeze(-1), -3.0, 3.0)
        if torch.isnan(v).any():
            v = torch.where(torch.isnan(v), torch.zeros_like(v), v)
        he_diag = self.h0_diag.unsqueeze(0).expand(b, -1) + v
        sub, sup = self.h0_sub.expand(b, -1), self.h0_super.expand(b, -1)
        features = BKCoreFunction.apply(he_diag, sup, sub, self.z)
        features = torch.clamp(features, -10.0, 10.0)
        assert features.shape == (b, n, 2)
        return ffn + self.bk_scale * self.output_proj(features)


class ResNetBKBlock(nn.Module):
    """The pre-norm residual."""

    def __init__(self, d_model: int, n_seq: int, num_experts: int = 4, top_k: int = 1) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(d_model)
        self.bk_layer = MoEResNetBKLayer(d_model, n_seq, num_experts, top_k)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bk_layer(self.layer_norm(x))


class LanguageModel(nn.Module):
    """Tokens (B, N) to logits (B, N, V)."""

    def __init__(
        self, vocab_size: int = 200, d_model: int = 16, n_layers: int = 2, n_seq: int = 12, num_experts: int = 4,
        top_k: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_seq = n_seq
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(n_seq, d_model)
        self.blocks = nn.ModuleList(ResNetBKBlock(d_model, n_seq, num_experts, top_k) for _ in range(n_layers))
        self.layer_norm_final = nn.LayerNorm(d_model)
        self.lm_head = nn.Linear(d_model, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        _, n = x.shape
        assert n == self.n_seq
        h = self.token_embedding(x) + self.position_embedding(torch.arange(n, device=x.device)).unsqueeze(0)
        for block in self.blocks:
            h = block(h)
            if torch.isnan(h).any():
                raise RuntimeError("NaN in hidden state")
        return self.lm_head(self.layer_norm_final(h))
