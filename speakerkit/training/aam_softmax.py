"""Additive angular margin softmax (ArcFace, arXiv:1801.07698); its weights never leave training."""

import math

import torch
import torch.nn.functional as F
from torch import nn

COSINE_LIMIT = 1e-6  # floor of 1 - cos^2: the slope of the sine stays finite at cos = +-1


class AamSoftmax(nn.Module):
    """Cross-entropy of scale * cos(theta), the target's angle widened by a margin.

    Where theta + margin would pass pi, the target's logit goes on as cos(theta) - (1 - cos(margin)),
    which keeps it continuous and falling (WeSpeaker's and 3D-Speaker's choice; the paper leaves it
    open, its code subtracts margin * sin(margin)).
    """

    def __init__(self, input_dim: int, num_classes: int, scale: float, generator: torch.Generator):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, input_dim))
        nn.init.xavier_normal_(self.weight, generator=generator)

    @torch.no_grad()
    def start_from(self, directions: torch.Tensor) -> None:
        """Begin with (num_classes, input_dim) class directions instead of random ones, at the same mean length."""
        length = self.weight.norm(dim=1).mean()
        self.weight.copy_(F.normalize(directions.to(self.weight), dim=1) * length)

    def forward(self, x: torch.Tensor, labels: torch.Tensor, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of a batch.

        Args:
            x: (batch, input_dim), any length.
            labels: (batch,) int64 classes.
            margin: radians, in [0, pi / 2).

        Returns:
            loss: () mean cross-entropy, in float32 whatever the precision of ``x``.
            accuracy: () share of the batch whose nearest class, without margin, is its own.
        """
        with torch.autocast(x.device.type, enabled=False):
            cosine = F.linear(F.normalize(x.float()), F.normalize(self.weight.float()))
            accuracy = (cosine.detach().argmax(dim=1) == labels).float().mean()
            target = cosine.gather(1, labels[:, None])
            sine = (1 - target.square()).clamp(min=COSINE_LIMIT).sqrt()
            widened = target * math.cos(margin) - sine * math.sin(margin)
            widened = torch.where(target > -math.cos(margin), widened, target - (1 - math.cos(margin)))
            logits = self.scale * cosine.scatter(1, labels[:, None], widened)
            return F.cross_entropy(logits, labels), accuracy
