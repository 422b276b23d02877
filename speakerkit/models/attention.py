"""The attention of attentive statistics pooling (arXiv:1803.10963), in ECAPA-TDNNs and WeSpeaker's ResNets."""

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.models.pooling import pool_by_attention, pool_over_time

SQUEEZED = 128  # channels inside


class Attention(nn.Module):
    """Weights over time, from each step and, with ``global_context``, the utterance's mean and deviation.

    ``speechbrain``: ReLU and batch norm before the tanh, and the population's deviation.
    """

    def __init__(self, channels: int, std_floor: float, global_context: bool = False, speechbrain: bool = False):
        super().__init__()
        self.global_context, self.biased, self.std_floor = global_context, speechbrain, std_floor
        self.squeeze = nn.Conv1d((3 if global_context else 1) * channels, SQUEEZED, 1)
        self.norm = nn.BatchNorm1d(SQUEEZED) if speechbrain else None
        self.excite = nn.Conv1d(SQUEEZED, channels, 1)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, channels, steps) to as many weights, before any softmax."""
        seen = x
        if self.global_context:
            if self.biased:  # equal weights: the population's statistics
                context = pool_by_attention(x, torch.zeros_like(x), lengths, self.std_floor)
            else:
                context = pool_over_time(x.unsqueeze(3), lengths, self.std_floor)
            seen = torch.cat([x, context.to(x.dtype).unsqueeze(2).expand(-1, -1, x.shape[2])], dim=1)
        squeezed = self.squeeze(seen)
        if self.norm is not None:
            squeezed = self.norm(F.relu(squeezed))
        return self.excite(squeezed.tanh())
