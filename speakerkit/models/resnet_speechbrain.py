"""SpeechBrain's ResNet: pre-activation blocks of three convolutions, squeeze-excitation, attentive statistics.

The network of `speechbrain/spkrec-resnet-voxceleb`; its first half has squeeze-excitation gates.
"""

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.blocks import Conv3x3, at_least_float32, halved, time_mask
from speakerkit.models.pooling import pool_by_attention
from speakerkit.models.speaker_network import SpeakerNetwork

ATTENTION_CHANNELS = 128
STAGES = ((1, 1, True), (2, 1, True), (2, 2, False), (2, 2, False))  # stride, width over the first, gated


class PreActivationBlock(nn.Module):
    """Norm, ReLU, convolution, three times (3x3, 3x3, 1x1); a gate; plus the block's raw input."""

    folds = (("conv1", "norm2"), ("conv2", "norm3"))  # the first norm follows a sum

    def __init__(self, in_channels: int, channels: int, stride: int, gated: bool):
        super().__init__()
        self.stride = stride
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = Conv3x3(in_channels, channels, stride)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = Conv3x3(channels, channels)
        self.norm3 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, 1, bias=False)
        self.squeeze = nn.Linear(channels, channels) if gated else None
        self.excite = nn.Linear(channels, channels) if gated else None
        self.shortcut = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
            self.folds = (*self.folds, ("shortcut.0", "shortcut.1"))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        strided = x[:, :, :: self.stride, :: self.stride]  # not by the convolution: see ResidualBlock
        shortcut = x if self.shortcut is None else self.shortcut(strided)
        after = halved(lengths, self.stride)
        x = self.conv1(F.relu(self.norm1(x)), lengths)
        x = self.conv2(F.relu(self.norm2(x)), after)
        x = self.conv3(F.relu(self.norm3(x)))
        return self._gate(x, after) + shortcut

    def _gate(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        if self.squeeze is None:
            return x
        if lengths is None:
            mean = x.mean(dim=(2, 3))
        else:
            count = (lengths * x.shape[3])[:, None]  # divided by in float32: bfloat16 has no 257
            total = at_least_float32(x * time_mask(lengths, x.shape[2])).sum(dim=(2, 3))
            mean = (total / count).to(x.dtype)
        return x * self.excite(F.relu(self.squeeze(mean))).sigmoid()[:, :, None, None]


class GatedTrunk(nn.Module):
    """Stem and four stages of pre-activation blocks."""

    folds = (("stem", "stem_norm"),)

    def __init__(self, base_channels: int, num_blocks: tuple[int, ...]):
        super().__init__()
        self.stem = Conv3x3(1, base_channels)
        self.stem_norm = nn.BatchNorm2d(base_channels)
        blocks, channels = [], base_channels
        for count, (stride, width, gated) in zip(num_blocks, STAGES, strict=True):
            for index in range(count):
                blocks.append(PreActivationBlock(channels, width * base_channels, 1 if index else stride, gated))
                channels = width * base_channels
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = channels

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """(batch, num_frames, bins) to ((batch, out_channels, ceil(frames / 8), ceil(bins / 8)), lengths there)."""
        x = F.relu(self.stem_norm(self.stem(features.unsqueeze(1), lengths)))
        for block in self.blocks:
            x = block(x, lengths)
            lengths = halved(lengths, block.stride)
        return x, lengths


class AttentiveResNet(SpeakerNetwork):
    """A trunk, then attentive statistics over time of all channels and bins, and a layer."""

    def __init__(self, config: ModelConfig, num_mel_bins: int, trunk: nn.Module):
        super().__init__()
        self.std_floor = config.std_floor
        self.trunk = trunk
        self.pooled = trunk.out_channels * -(-num_mel_bins // 8)
        self.squeeze = nn.Conv1d(self.pooled, ATTENTION_CHANNELS, 1)
        self.squeeze_norm = nn.BatchNorm1d(ATTENTION_CHANNELS)
        self.excite = nn.Conv1d(ATTENTION_CHANNELS, self.pooled, 1)
        self.embedding = nn.Linear(2 * self.pooled, config.embedding_dim)

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, (batch, channels * bins, steps), and its valid steps; a step is 8 frames."""
        x, lengths = self.trunk(features, lengths)
        return at_least_float32(x).transpose(2, 3).flatten(1, 2), lengths  # channel * bins + bin

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels * bins) weighted means and deviations of ``frame_outputs``."""
        weights = self.excite(self.squeeze_norm(F.relu(self.squeeze(x))))
        return pool_by_attention(x, weights, lengths, self.std_floor)


class SpeechBrainResNet(AttentiveResNet):
    """SpeechBrain's trunk; its layer lies between two norms."""

    float32_as_it_is = True

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__(config, num_mel_bins, GatedTrunk(config.base_channels, config.num_blocks))
        self.pooled_norm = nn.BatchNorm1d(2 * self.pooled)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of pooled statistics."""
        return self.embedding_norm(self.embedding(self.pooled_norm(statistics)))

    @property
    def last_norm(self) -> nn.BatchNorm1d:
        """The batch norm behind the last layer."""
        return self.embedding_norm
