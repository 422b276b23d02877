"""ResNet speaker networks.

``ResNet`` is WeSpeaker's and 3D-Speaker's of 18 to 293 layers, ``ReferenceResNet34`` the published CN-Celeb model's
(FunASR, 5.60 M values) and its sibling's.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.attention import Attention
from speakerkit.models.blocks import BottleneckBlock, ResidualBlock, ResidualTrunk, at_least_float32
from speakerkit.models.pooling import pool_by_attention, pool_over_time, pool_over_time_and_frequency
from speakerkit.models.speaker_network import SpeakerNetwork


class ResNet(SpeakerNetwork):
    """Post-activation trunk of basic blocks or, from 50 layers on, bottleneck blocks; statistics over time (both, one
    of the two, or weighted by attention), one or two embedding layers."""

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__()
        self.std_floor, self.pooling = config.std_floor, config.pooling
        self.trunk = self.make_trunk(config)
        channels = self.trunk.out_channels * -(-num_mel_bins // 8)
        self.attention = Attention(channels, config.std_floor) if self.pooling == "attention" else None
        self.embedding = nn.Linear((2 if self.pooling in ("statistics", "attention") else 1) * channels,
                                   config.embedding_dim)
        self.second = None
        if config.two_embedding_layers:
            self.second = nn.Sequential(
                nn.ReLU(),
                nn.BatchNorm1d(config.embedding_dim, affine=False),
                nn.Linear(config.embedding_dim, config.embedding_dim),
            )

    @staticmethod
    def make_trunk(config: ModelConfig) -> ResidualTrunk:
        """From features to (batch, channels, steps, freq), a step of 8 frames."""
        if config.architecture in ("resnet18", "resnet34"):
            make_block = partial(ResidualBlock, pre_activation=False, norm=nn.BatchNorm2d)
            return ResidualTrunk(config.base_channels, config.num_blocks, make_block)
        return ResidualTrunk(config.base_channels, config.num_blocks, BottleneckBlock,
                             expansion=BottleneckBlock.expansion)

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels * freq) means and deviations of ``frame_outputs``, or half as many of one of them."""
        if self.attention is not None:
            x = at_least_float32(x).transpose(2, 3).flatten(1, 2)  # channel * freq + f
            return pool_by_attention(x, self.attention(x, lengths), lengths, self.std_floor)
        both = pool_over_time(x, lengths, self.std_floor)
        return {"mean": both.chunk(2, dim=1)[0], "deviation": both.chunk(2, dim=1)[1]}.get(self.pooling, both)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of pooled statistics."""
        embedding = self.embedding(statistics)
        return embedding if self.second is None else self.second(embedding)

    @property
    def last_layer(self) -> nn.Linear:
        """The layer whose output is the embedding."""
        return self.embedding if self.second is None else self.second[-1]


class ReferenceResNet34(SpeakerNetwork):
    """The published network, exactly: pre-activation blocks, "same" padding, batch norm eps 1e-3.

    The embedding is the first dense layer's output before its ReLU; two more layers lie between
    it and the classifier, so it never was the vector whose angle was trained. In its sibling ("sp_l2reg") the layer
    before pooling sees all frequencies of a step at once, and what is pooled has none left.
    """

    convolutional = ("trunk", "dense", "dense_norm")

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__()
        self.std_floor = config.std_floor
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.5)
        make_block = partial(ResidualBlock, pre_activation=True, norm=norm)
        self.trunk = ResidualTrunk(config.base_channels, config.num_blocks, make_block, norm)
        channels, dim = self.trunk.out_channels, config.embedding_dim
        bins = -(-num_mel_bins // 8) if config.architecture == "resnet34_sp_l2reg" else 1
        self.dense = nn.Conv2d(channels, channels, (1, bins))
        self.dense_norm = norm(channels)
        self.embedding = nn.Linear(2 * channels, dim)
        self.embedding_norm = nn.BatchNorm1d(dim, eps=1e-3, momentum=0.5)
        self.second = nn.Linear(dim, dim)
        self.second_norm = nn.BatchNorm1d(dim, eps=1e-3, momentum=0.5)

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, (batch, channels, steps, freq), and its valid steps; a step is 8 frames."""
        x, lengths = self.trunk(features, lengths)
        return self.dense_norm(F.relu(self.dense(x))), lengths

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels) means and deviations of ``frame_outputs``."""
        return pool_over_time_and_frequency(x, lengths, self.std_floor)

    def classifier_input(self, embedding: torch.Tensor) -> torch.Tensor:
        """What the margin softmax sees while training: two more dense layers, ReLU then batch norm each."""
        x = self.second(self.embedding_norm(F.relu(embedding)))
        return self.second_norm(F.relu(x))
