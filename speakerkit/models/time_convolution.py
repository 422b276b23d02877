"""What the one-dimensional networks share: convolutions over time and means over stretches of it.

Tensors are (batch, channels, time). ``lengths`` is (batch,) valid steps of a padded batch, or None.
"""

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.models.blocks import time_mask


def zero_padding(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """x with zeros past ``lengths``: what an utterance would see alone."""
    return x if lengths is None else x * time_mask(lengths, x.shape[2])[..., 0]


class TimeConv(nn.Conv1d):
    """A convolution of odd width whose output has ceil(n / stride) steps; beyond an utterance's ends lie zeros."""

    def __init__(
        self, in_channels: int, out_channels: int, width: int, stride: int = 1, dilation: int = 1, bias: bool = False
    ):
        super().__init__(in_channels, out_channels, width, stride, dilation * (width // 2), dilation, bias=bias)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x if self.kernel_size[0] == 1 else zero_padding(x, lengths))


def mean_over_time(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """(batch, channels, 1): the mean over the valid steps."""
    if lengths is None:
        return x.mean(dim=2, keepdim=True)
    return zero_padding(x, lengths).sum(dim=2, keepdim=True) / lengths[:, None, None].to(x.dtype)


def segment_means(x: torch.Tensor, lengths: torch.Tensor | None, segment: int) -> torch.Tensor:
    """Each step replaced by the mean of its stretch of ``segment`` steps; the last stretch is over what there is.

    Returns:
        The shape of x.
    """
    num_steps = x.shape[2]
    if lengths is None:
        means = F.avg_pool1d(x, segment, segment, ceil_mode=True)
    else:
        sums = F.avg_pool1d(F.pad(zero_padding(x, lengths), (0, -num_steps % segment)), segment) * segment
        starts = torch.arange(sums.shape[2], device=x.device) * segment
        means = sums / (lengths[:, None] - starts).clamp(1, segment)[:, None].to(x.dtype)
    return means.repeat_interleave(segment, dim=2)[:, :, :num_steps]
