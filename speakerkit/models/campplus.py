"""CAM++: a densely connected TDNN with context-aware masking behind a small two-dimensional head.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware
Masking", Interspeech 2023 (arXiv:2303.00332); the numbers are 3D-Speaker's.
"""

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.blocks import Conv3x3, ResidualBlock, at_least_float32, halved
from speakerkit.models.pooling import pool_over_time
from speakerkit.models.speaker_network import SpeakerNetwork
from speakerkit.models.time_convolution import TimeConv, mean_over_time, segment_means

SEGMENT_STEPS = 100  # of 20 ms: the stretch whose mean a mask sees besides the whole utterance's


class Head(nn.Module):
    """Two-dimensional convolutions that bring frequency down to an eighth and leave time alone."""

    def __init__(self, channels: int):
        super().__init__()
        self.stem = Conv3x3(1, channels)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, channels, stride, False, nn.BatchNorm2d, keep_time=True) for stride in (2, 1, 2, 1)
        )
        self.last = Conv3x3(channels, channels, (1, 2))
        self.last_norm = nn.BatchNorm2d(channels)

    folds = (("stem", "stem_norm"), ("last", "last_norm"))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, num_frames, bins) to (batch, channels * ceil(bins / 8), num_frames)."""
        x = F.relu(self.stem_norm(self.stem(features.unsqueeze(1), lengths)))
        for block in self.blocks:
            x = block(x, lengths)
        x = F.relu(self.last_norm(self.last(x, lengths)))
        return x.transpose(2, 3).flatten(1, 2)  # channel * bins + bin


class MaskedLayer(nn.Module):
    """A dense layer: norm, ReLU, 1x1, norm, ReLU, then a convolution times a mask made from its input's means."""

    folds = (("bottleneck", "inner_norm"),)

    def __init__(self, in_channels: int, growth: int, dilation: int):
        super().__init__()
        inner = 4 * growth
        self.norm = nn.BatchNorm1d(in_channels)
        self.bottleneck = nn.Conv1d(in_channels, inner, 1, bias=False)
        self.inner_norm = nn.BatchNorm1d(inner)
        self.local = TimeConv(inner, growth, 3, dilation=dilation)
        self.squeeze = nn.Conv1d(inner, inner // 2, 1)
        self.gate = nn.Conv1d(inner // 2, growth, 1)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, in_channels, steps) to the ``growth`` channels that are new."""
        x = F.relu(self.inner_norm(self.bottleneck(F.relu(self.norm(x)))))
        context = mean_over_time(x, lengths) + segment_means(x, lengths, SEGMENT_STEPS)
        mask = torch.sigmoid(self.gate(F.relu(self.squeeze(context))))
        return self.local(x, lengths) * mask


class Transit(nn.Module):
    """Norm, ReLU and a 1x1 convolution to half the channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(F.relu(self.norm(x)))


class DenseTrunk(nn.Module):
    """A convolution that halves time, then three dense blocks, each followed by a transit."""

    folds = (("stem", "stem_norm"),)

    def __init__(self, in_channels: int, growth: int, num_layers: tuple[int, ...]):
        super().__init__()
        channels = 4 * growth
        self.stem = TimeConv(in_channels, channels, 5, stride=2)
        self.stem_norm = nn.BatchNorm1d(channels)
        blocks, transits = [], []
        for count, dilation in zip(num_layers, (1, 2, 2), strict=True):
            blocks.append(nn.ModuleList(MaskedLayer(channels + i * growth, growth, dilation) for i in range(count)))
            channels += count * growth
            transits.append(Transit(channels))
            channels //= 2
        self.blocks, self.transits = nn.ModuleList(blocks), nn.ModuleList(transits)
        self.norm = nn.BatchNorm1d(channels)
        self.out_channels = channels

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None):
        """(batch, in_channels, num_frames) to ((batch, out_channels, ceil(num_frames / 2)), lengths there)."""
        x = F.relu(self.stem_norm(self.stem(x, lengths)))
        lengths = halved(lengths, 2)
        for block, transit in zip(self.blocks, self.transits, strict=True):
            for layer in block:
                x = torch.cat([x, layer(x, lengths)], dim=1)
            x = transit(x)
        return F.relu(self.norm(x)), lengths


class CamPlusPlus(SpeakerNetwork):
    """CAM++; the embedding is the last layer's output after a batch norm without weights."""

    convolutional = ("head",)  # the dense trunk in bfloat16 too would leave 0.9987 of the published model's cosine

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__()
        self.std_floor = config.std_floor
        self.head = Head(config.base_channels)
        bins = -(-num_mel_bins // 8)
        self.trunk = DenseTrunk(config.base_channels * bins, config.base_channels, config.num_blocks)
        self.embedding = nn.Linear(2 * self.trunk.out_channels, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim, affine=False)

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, (batch, channels, steps), and its valid steps; a step is 2 frames."""
        return self.trunk(at_least_float32(self.head(features, lengths)), lengths)

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels) means and deviations of ``frame_outputs``."""
        return pool_over_time(x.unsqueeze(3), lengths, self.std_floor)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of pooled statistics."""
        return self.embedding_norm(self.embedding(statistics))

    @property
    def last_norm(self) -> nn.BatchNorm1d:
        """The batch norm behind the last layer."""
        return self.embedding_norm
