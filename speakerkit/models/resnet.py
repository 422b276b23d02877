"""ResNet speaker networks: features -> embedding.

``ResNet`` is WeSpeaker's and 3D-Speaker's of 18 to 293 layers, ``ReferenceResNet34`` the published CN-Celeb model's
(FunASR, 5.60 M values). Both work on (batch, num_frames, num_mel_bins) and are exact in padded
batches: given ``lengths``, an utterance's embedding is the one it has alone.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.blocks import BottleneckBlock, ResidualBlock, ResidualTrunk
from speakerkit.models.networks import count_parameters, initialise, make_network
from speakerkit.models.pooling import pool_over_time, pool_over_time_and_frequency

__all__ = ["ReferenceResNet34", "ResNet", "count_parameters", "initialise", "make_network"]


class ResNet(nn.Module):
    """Post-activation trunk of basic blocks or, from 50 layers on, bottleneck blocks; statistics over time,
    one or two embedding layers."""

    convolutional = ("trunk",)  # the parts before pooling: where nearly all arithmetic is

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__()
        self.std_floor = config.std_floor
        if config.architecture in ("resnet18", "resnet34"):
            make_block, expansion = partial(ResidualBlock, pre_activation=False, norm=nn.BatchNorm2d), 1
        else:
            make_block, expansion = BottleneckBlock, BottleneckBlock.expansion
        self.trunk = ResidualTrunk(config.base_channels, config.num_blocks, make_block, expansion=expansion)
        bins = -(-num_mel_bins // 8)
        self.embedding = nn.Linear(2 * self.trunk.out_channels * bins, config.embedding_dim)
        self.second = None
        if config.two_embedding_layers:
            self.second = nn.Sequential(
                nn.ReLU(),
                nn.BatchNorm1d(config.embedding_dim, affine=False),
                nn.Linear(config.embedding_dim, config.embedding_dim),
            )

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings.

        Args:
            features: (batch, num_frames, num_mel_bins), at least one frame.
            lengths: (batch,) int64 valid frames of a padded batch, or None.

        Returns:
            (batch, embedding_dim) float32, not length-normalised.
        """
        return self.project(self.statistics(*self.frame_outputs(features, lengths)))

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, (batch, channels, steps, freq), and its valid steps; a step is 8 frames."""
        return self.trunk(features, lengths)

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels * freq) means and deviations of ``frame_outputs``."""
        return pool_over_time(x, lengths, self.std_floor)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of pooled statistics."""
        embedding = self.embedding(statistics)
        return embedding if self.second is None else self.second(embedding)

    @property
    def last_layer(self) -> nn.Linear:
        """The layer whose output is the embedding."""
        return self.embedding if self.second is None else self.second[-1]

    def classifier_input(self, embedding: torch.Tensor) -> torch.Tensor:
        """What the margin softmax sees while training: the embedding itself."""
        return embedding


class ReferenceResNet34(nn.Module):
    """The published network, exactly: pre-activation blocks, "same" padding, batch norm eps 1e-3.

    The embedding is the first dense layer's output before its ReLU; two more layers lie between
    it and the classifier, so it never was the vector whose angle was trained.
    """

    convolutional = ("trunk", "dense", "dense_norm")

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__()
        del num_mel_bins  # frequency is pooled away: any number of bins fits
        self.std_floor = config.std_floor
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.5)
        make_block = partial(ResidualBlock, pre_activation=True, norm=norm)
        self.trunk = ResidualTrunk(config.base_channels, config.num_blocks, make_block, norm)
        channels, dim = self.trunk.out_channels, config.embedding_dim
        self.dense = nn.Conv2d(channels, channels, 1)
        self.dense_norm = norm(channels)
        self.embedding = nn.Linear(2 * channels, dim)
        self.embedding_norm = nn.BatchNorm1d(dim, eps=1e-3, momentum=0.5)
        self.second = nn.Linear(dim, dim)
        self.second_norm = nn.BatchNorm1d(dim, eps=1e-3, momentum=0.5)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings; arguments and result as ``ResNet.forward``."""
        return self.project(self.statistics(*self.frame_outputs(features, lengths)))

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, (batch, channels, steps, freq), and its valid steps; a step is 8 frames."""
        x, lengths = self.trunk(features, lengths)
        return self.dense_norm(F.relu(self.dense(x))), lengths

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels) means and deviations of ``frame_outputs``."""
        return pool_over_time_and_frequency(x, lengths, self.std_floor)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of pooled statistics."""
        return self.embedding(statistics)

    @property
    def last_layer(self) -> nn.Linear:
        """The layer whose output is the embedding."""
        return self.embedding

    def classifier_input(self, embedding: torch.Tensor) -> torch.Tensor:
        """What the margin softmax sees while training: two more dense layers, ReLU then batch norm each."""
        x = self.second(self.embedding_norm(F.relu(embedding)))
        return self.second_norm(F.relu(x))
