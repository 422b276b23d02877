"""ECAPA-TDNN in WeSpeaker's form and in SpeechBrain's, which 3D-Speaker shares.

Desplanques, Thienpondt and Demuynck, "ECAPA-TDNN", Interspeech 2020 (arXiv:2005.07143). The two
differ in what lies beyond an utterance's ends (zeros, mirror image), in which of a block's eight parts
passes unchanged (the last, the first), in the norms of aggregation and attention (SpeechBrain's) and
in the deviation that attention sees (unbiased, the population's).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.attention import Attention
from speakerkit.models.blocks import at_least_float32
from speakerkit.models.pooling import pool_by_attention
from speakerkit.models.speaker_network import SpeakerNetwork
from speakerkit.models.time_convolution import ReflectConv, TimeConv, mean_over_time

PARTS = 8  # of a Res2 block
SQUEEZED = 128  # channels inside squeeze-excitation

MakeConv = Callable[..., nn.Conv1d]  # (in_channels, out_channels, width, dilation=...)


def _zeros_beyond(in_channels: int, out_channels: int, width: int, dilation: int = 1) -> TimeConv:
    return TimeConv(in_channels, out_channels, width, dilation=dilation, bias=True)


class ConvReluNorm(nn.Module):
    """Convolution, ReLU, then batch norm."""

    def __init__(self, make_conv: MakeConv, in_channels: int, out_channels: int, width: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = make_conv(in_channels, out_channels, width, dilation=dilation)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.norm(F.relu(self.conv(x, lengths)))


class SqueezeExciteRes2Block(nn.Module):
    """1x1, Res2 of eight parts, 1x1, squeeze-excitation; plus its input."""

    def __init__(self, make_conv: MakeConv, channels: int, dilation: int, first_passes: bool):
        super().__init__()
        self.first_passes = first_passes
        part = channels // PARTS
        self.before = ConvReluNorm(make_conv, channels, channels)
        self.parts = nn.ModuleList(ConvReluNorm(make_conv, part, part, 3, dilation) for _ in range(PARTS - 1))
        self.after = ConvReluNorm(make_conv, channels, channels)
        self.squeeze = nn.Linear(channels, SQUEEZED)
        self.excite = nn.Linear(SQUEEZED, channels)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        chunks = list(self.before(x, lengths).chunk(PARTS, dim=1))
        passing = chunks.pop(0 if self.first_passes else -1)
        outputs = []
        for chunk, part in zip(chunks, self.parts, strict=True):
            outputs.append(part(chunk + outputs[-1] if outputs else chunk, lengths))
        y = torch.cat([passing, *outputs] if self.first_passes else [*outputs, passing], dim=1)
        y = self.after(y, lengths)
        gate = self.excite(F.relu(self.squeeze(mean_over_time(y, lengths)[:, :, 0]))).sigmoid()
        return x + y * gate.unsqueeze(2)


class Ecapa(SpeakerNetwork):
    """ECAPA-TDNN: a TDNN layer, SE-Res2 blocks of growing dilation, their outputs together, attentive statistics."""

    convolutional = ("stem", "blocks")

    def __init__(self, config: ModelConfig, num_mel_bins: int):
        super().__init__()
        mirrored = config.architecture == "ecapa_speechbrain"
        make_conv = ReflectConv if mirrored else _zeros_beyond
        channels, self.std_floor = config.base_channels, config.std_floor
        self.stem = ConvReluNorm(make_conv, num_mel_bins, channels, 5)
        self.blocks = nn.ModuleList(
            SqueezeExciteRes2Block(make_conv, channels, dilation, first_passes=mirrored)
            for dilation in range(2, 2 + config.num_blocks[0])
        )
        pooled = config.pooled_channels
        self.aggregate = nn.Conv1d(channels * len(self.blocks), pooled, 1)
        self.aggregate_norm = nn.BatchNorm1d(pooled) if mirrored else None
        self.attention = Attention(pooled, config.std_floor, config.global_context, mirrored)
        self.pooled_norm = nn.BatchNorm1d(2 * pooled)
        self.embedding = nn.Linear(2 * pooled, config.embedding_dim)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim) if config.embedding_norm else None

    def frame_outputs(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """What is pooled, (batch, channels, num_frames), and its valid frames."""
        x = self.stem(features.transpose(1, 2), lengths)
        outputs = []
        for block in self.blocks:
            x = block(x, lengths)
            outputs.append(x)
        x = F.relu(self.aggregate(at_least_float32(torch.cat(outputs, dim=1))))
        return x if self.aggregate_norm is None else self.aggregate_norm(x), lengths

    def statistics(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(batch, 2 * channels) weighted means and deviations of ``frame_outputs``."""
        return pool_by_attention(x, self.attention(x, lengths), lengths, self.std_floor)

    def project(self, statistics: torch.Tensor) -> torch.Tensor:
        """(batch, embedding_dim) of pooled statistics."""
        embedding = self.embedding(self.pooled_norm(statistics))
        return embedding if self.embedding_norm is None else self.embedding_norm(embedding)

    @property
    def last_norm(self) -> nn.BatchNorm1d | None:
        """The batch norm behind the last layer, where WeSpeaker's ``emb_bn`` asked for one."""
        return self.embedding_norm
