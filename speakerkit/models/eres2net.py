"""ERes2Net and ERes2NetV2, 3D-Speaker's: Res2 blocks whose parts and stages are fused by attention; plain Res2Net.

Chen et al., "An Enhanced Res2Net with Local and Global Feature Fusion for Speaker Verification",
Interspeech 2023 (arXiv:2305.12838); "ERes2NetV2", Interspeech 2024 (arXiv:2406.02167). Zhou et al., "ResNeXt
and Res2Net Structures for Speaker Verification", SLT 2021 (arXiv:2007.02480).
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.blocks import Conv3x3, ResidualTrunk, halved
from speakerkit.models.resnet import ResNet

MOST_ACTIVATION = 20.0  # at which the blocks' ReLUs saturate


@dataclass(frozen=True)
class Shape:
    """What tells one published ERes2Net from another."""

    part_width: int  # of a part, in 64ths of the stage's width
    parts: int
    expansion: int  # of a block's output over the stage's width
    fused_stages: tuple[int, ...]  # stages whose output joins the last one's, from below
    last_passes: bool = False  # a block's last part isn't convolved


SHAPES = {
    "eres2net": Shape(32, 2, 2, (0, 1, 2)),
    "eres2net_huge": Shape(24, 3, 4, (0, 1, 2)),
    "eres2netv2": Shape(26, 2, 2, (2,)),
    "eres2netv2_w24s4ep4": Shape(24, 4, 4, (2,)),
    "res2net": Shape(32, 2, 2, (), last_passes=True),
}


def clipped_relu(x: torch.Tensor) -> torch.Tensor:
    """x cut to 0..20."""
    return x.clamp(0.0, MOST_ACTIVATION)


class AttentiveFusion(nn.Module):
    """Two maps of one shape as one: x (1 + a) + y (1 - a) with a in (-1, 1) made from both."""

    folds = (("squeeze", "squeeze_norm"), ("excite", "excite_norm"))

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Conv2d(2 * channels, channels // 4, 1)
        self.squeeze_norm = nn.BatchNorm2d(channels // 4)
        self.excite = nn.Conv2d(channels // 4, channels, 1)
        self.excite_norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        inner = nn.functional.silu(self.squeeze_norm(self.squeeze(torch.cat([x, y], dim=1))))
        share = 1.0 + self.excite_norm(self.excite(inner)).tanh()
        return x * share + y * (2.0 - share)


class Res2Block(nn.Module):
    """1x1 (with the stride), a 3x3 for each part that also sees the part before it, 1x1, and a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int, shape: Shape, fused: bool):
        super().__init__()
        part, out_channels = width * shape.part_width // 64, shape.expansion * width
        self.stride = self.time_stride = stride
        self.conv1 = nn.Conv2d(in_channels, part * shape.parts, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(part * shape.parts)
        convolved = shape.parts - shape.last_passes
        self.parts = nn.ModuleList(Conv3x3(part, part) for _ in range(convolved))
        self.norms = nn.ModuleList(nn.BatchNorm2d(part) for _ in range(convolved))
        self.fusions = nn.ModuleList(AttentiveFusion(part) for _ in range(shape.parts - 1)) if fused else None
        self.conv3 = nn.Conv2d(part * shape.parts, out_channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    @property
    def folds(self) -> list[tuple[str, str]]:
        """(convolution, the norm that follows it)."""
        pairs = [("conv1", "norm1"), ("conv3", "norm3")]
        pairs += [(f"parts.{i}", f"norms.{i}") for i in range(len(self.parts))]
        return pairs + ([] if self.shortcut is None else [("shortcut.0", "shortcut.1")])

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]  # not by the convolutions: see ResidualBlock
        lengths = halved(lengths, self.stride)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x, width = clipped_relu(self.norm1(self.conv1(x))), self.parts[0].in_channels
        # Slices instead of split: torch.fx, which traces the network, has to know how many there are.
        chunks = [x[:, at : at + width] for at in range(0, self.conv1.out_channels, width)]
        outputs = []
        for index, (chunk, part, norm) in enumerate(zip(chunks, self.parts, self.norms, strict=False)):
            if outputs:
                before = outputs[-1]
                chunk = before + chunk if self.fusions is None else self.fusions[index - 1](before, chunk)
            outputs.append(clipped_relu(norm(part(chunk, lengths))))
        outputs += chunks[len(self.parts):]  # what passes
        return clipped_relu(self.norm3(self.conv3(torch.cat(outputs, dim=1))) + shortcut)


class FusedTrunk(ResidualTrunk):
    """Stem and four stages; the outputs of some stages, brought to the next one's size, are fused into it."""

    def __init__(self, config: ModelConfig, shape: Shape):
        def make_block(in_channels: int, width: int, stride: int) -> Res2Block:
            return Res2Block(in_channels, width, stride, shape, fused=width >= 4 * config.base_channels)

        super().__init__(config.base_channels, config.num_blocks, make_block, expansion=shape.expansion)
        self.ends = [sum(config.num_blocks[: stage + 1]) - 1 for stage in range(4)]
        widths = [shape.expansion * config.base_channels << stage for stage in range(4)]
        self.first_fused = shape.fused_stages[0]
        self.downsamples = nn.ModuleList(Conv3x3(widths[s], widths[s + 1], 2) for s in shape.fused_stages)
        self.fusions = nn.ModuleList(AttentiveFusion(widths[s + 1]) for s in shape.fused_stages)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """(batch, num_frames, bins) to ((batch, out_channels, ceil(frames / 8), ceil(bins / 8)), lengths there)."""
        x = self.stem_norm(self.stem(features.unsqueeze(1), lengths)).relu()
        fused = before = None
        for index, block in enumerate(self.blocks):
            x = block(x, lengths)
            lengths = halved(lengths, block.stride)
            if index not in self.ends:
                continue
            stage = self.ends.index(index)
            if stage == self.first_fused:
                fused = x
            elif stage > self.first_fused:
                step = stage - self.first_fused - 1
                fused = self.fusions[step](x, self.downsamples[step](fused, before))
            before = lengths
        return fused, lengths


class ERes2Net(ResNet):
    """ERes2Net: the fused stages, statistics over time, one or two embedding layers."""

    @staticmethod
    def make_trunk(config: ModelConfig) -> FusedTrunk:
        """From features to (batch, channels, steps, freq), a step of 8 frames."""
        return FusedTrunk(config, SHAPES[config.architecture])


class Res2Net(ResNet):
    """Res2 blocks alone, of which the last part passes unchanged; statistics over time (WeSpeaker, 3D-Speaker)."""

    @staticmethod
    def make_trunk(config: ModelConfig) -> ResidualTrunk:
        """From features to (batch, channels, steps, freq), a step of 8 frames."""
        shape = SHAPES[config.architecture]
        make_block = partial(Res2Block, shape=shape, fused=False)
        return ResidualTrunk(config.base_channels, config.num_blocks, make_block, expansion=shape.expansion)
