"""Distillation: the model learns the predictions of a teacher on the same tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops.models.losses import with_loss


class Distillation(nn.Module):
    """Logits with the loss T²·KL(softmax(teacher/T) ‖ softmax(logits/T)), a mean over the tokens, in training.

    The teacher is frozen, always in ``eval`` mode, and runs without gradients.

    Args:
        teacher: tokens (B, N) to logits (B, N, V).
        temperature: T.
    """

    def __init__(self, teacher: nn.Module, temperature: float = 2.0) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()
        self.temperature = temperature

    def train(self, mode: bool = True) -> Distillation:
        """Set the mode of all modules but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """The logits (B, N, V) of tokens (B, N), unchanged in value."""
        if not self.training:
            return logits
        with torch.no_grad():
            targets = (self.teacher(tokens) / self.temperature).softmax(-1)
        log_probs = (logits / self.temperature).log_softmax(-1)
        divergence = F.kl_div(log_probs.flatten(0, 1), targets.flatten(0, 1), reduction="batchmean")
        return with_loss(logits, self.temperature**2 * divergence)
