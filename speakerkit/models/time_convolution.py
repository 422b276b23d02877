"""What the one-dimensional networks share: convolutions over time and means over stretches of it.

Tensors are (batch, channels, time). ``lengths`` is (batch,) valid steps of a padded batch, or None.
"""

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.models.blocks import at_least_float32, time_mask


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


class ReflectConv(nn.Conv1d):
    """A convolution of odd width whose output has as many steps; beyond an utterance's ends lies its mirror image.

    The mirror leaves the end step out, and goes on to and fro where an utterance is shorter than what
    is looked at beyond its ends.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, dilation: int = 1):
        super().__init__(in_channels, out_channels, width, dilation=dilation)
        self.reach = dilation * (width // 2)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        if self.reach == 0:
            return super().forward(x)
        if lengths is None:
            lengths = torch.tensor([x.shape[2]], device=x.device)
        at = torch.arange(-self.reach, x.shape[2] + self.reach, device=x.device)
        last = (lengths[:, None] - 1).clamp(min=0)  # (batch or 1, 1)
        at = at.remainder((2 * last).clamp(min=1))
        at = torch.minimum(at, 2 * last - at).clamp(min=0)  # steps past an utterance's mirror are never used
        at = at[:, None].expand(x.shape[0], x.shape[1], -1)
        return super().forward(x.gather(2, at))


def mean_over_time(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """(batch, channels, 1): the mean over the valid steps."""
    if lengths is None:
        return x.mean(dim=2, keepdim=True)
    total = at_least_float32(zero_padding(x, lengths)).sum(dim=2, keepdim=True)  # bfloat16 has no 257 to divide by
    return (total / lengths[:, None, None]).to(x.dtype)


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
