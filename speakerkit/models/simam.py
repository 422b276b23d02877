"""SimAM-ResNet: WeSpeaker's ResNets of the VoxBlink2 models, whose blocks weigh every value by its rarity.

Yang et al., "SimAM: A Simple, Parameter-Free Attention Module", ICML 2021; Qin et al., ICASSP 2022.
"""

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.blocks import ResidualBlock, ResidualTrunk, at_least_float32, halved, time_mask
from speakerkit.models.resnet_speechbrain import AttentiveResNet

VARIANCE_FLOOR = 1e-4  # the paper's lambda


def weigh_by_rarity(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Each value times the sigmoid of its inverse energy, (x - mean)^2 / (4 (variance + lambda)) + 1 / 2.

    Args:
        x: (batch, channels, time, freq); mean and unbiased variance are over time and frequency of each channel.
        lengths: (batch,) valid time steps, or None.

    Returns:
        The shape and dtype of x. A single value has a variance of 0, where the original divides by 0.
    """
    y = at_least_float32(x)
    if lengths is None:
        count = torch.tensor(y.shape[2] * y.shape[3], device=x.device)
        valid = y
    else:
        mask = time_mask(lengths, x.shape[2])
        count, valid = (lengths * x.shape[3])[:, None, None, None], torch.where(mask, y, 0)
    squares = (y - valid.sum(dim=(2, 3), keepdim=True) / count).square()
    summed = (squares if lengths is None else torch.where(mask, squares, 0)).sum(dim=(2, 3), keepdim=True)
    variance = summed / (count - 1).clamp(min=1)
    return (y * (squares / (4 * (variance + VARIANCE_FLOOR)) + 0.5).sigmoid()).to(x.dtype)


class SimamBlock(ResidualBlock):
    """A post-activation residual block whose second norm's output is weighed before the shortcut is added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, stride, pre_activation=False, norm=nn.BatchNorm2d)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        # The stride by slicing: see ResidualBlock.
        shortcut = x if self.shortcut is None else self.shortcut(x[:, :, :: self.stride, :: self.stride])
        after = halved(lengths, self.stride)
        x = F.relu(self.norm1(self.conv1(x, lengths)))
        x = self.norm2(self.conv2(x, after))
        return F.relu(weigh_by_rarity(x, after) + shortcut)


class SimamResNet(AttentiveResNet):
    """A trunk of such blocks, attentive statistics, one layer."""

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__(config, num_mel_bins, ResidualTrunk(config.base_channels, config.num_blocks, SimamBlock))
