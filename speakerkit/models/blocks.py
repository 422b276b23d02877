"""What the ResNets share: convolutions that keep padding exact in padded batches, and the residual block.

Tensors are (batch, channels, time, frequency). ``lengths`` is (batch,) valid time steps of a padded
batch, or None when nothing is padded. Everything that looks at neighbours in time sets what lies
past ``lengths`` to zero first, so an utterance sees the zeros it would see alone. A ReLU is made in the memory of
what it is of, which no gradient needs: batch norm's is computed from its input.
"""

import torch
import torch.nn.functional as F
from torch import nn


def time_mask(lengths: torch.Tensor, num_steps: int) -> torch.Tensor:
    """(batch, 1, num_steps, 1) bool: True where a step belongs to the utterance."""
    steps = torch.arange(num_steps, device=lengths.device)
    return (steps < lengths[:, None])[:, None, :, None]


def halved(lengths: torch.Tensor | None, stride: int) -> torch.Tensor | None:
    """Lengths after a 3x3 or 1x1 convolution of stride 1 or 2: ceil(n / stride)."""
    return lengths if lengths is None or stride == 1 else (lengths + 1) // 2


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """x in float32, or in float64 where it is already: statistics lose too much in half precision."""
    return x if x.dtype == torch.float64 else x.float()


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution whose output has ceil(n / stride) steps on both axes.

    ``same_padding`` pads as TensorFlow's "same" does: at stride 2 an even length only at its end,
    an odd one on both sides. Otherwise one step on every side. The output shapes agree, the values
    don't: with 80 mel bins the windows lie one step apart at each of the three halvings.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int | tuple[int, int] = 1, same_padding: bool = False
    ):
        super().__init__(in_channels, out_channels, 3, stride=stride, bias=False)
        self.same_padding = same_padding and stride == 2

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        if lengths is not None:
            x = x * time_mask(lengths, x.shape[2])
        if not self.same_padding:
            return F.conv2d(x, self.weight, self.bias, self.stride, 1)
        x = F.pad(x, (x.shape[3] % 2, 1))  # frequency
        if lengths is None:
            x = F.pad(x, (0, 0, x.shape[2] % 2, 1))  # time
        else:  # each utterance by its own parity, in one batch
            odd = (lengths % 2 == 1)[:, None, None, None]
            x = torch.where(odd, F.pad(x, (0, 0, 1, 1)), F.pad(x, (0, 0, 0, 2)))
        return F.conv2d(x, self.weight, self.bias, self.stride)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Post-activation (WeSpeaker, 3D-Speaker): conv, norm, ReLU, conv, norm, + shortcut, ReLU.
    Pre-activation (the reference): norm, ReLU, conv, norm, ReLU, conv, + shortcut of the raw
    input, and nothing after the sum. CAM++'s blocks halve the frequency axis only (``keep_time``).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, pre_activation: bool, norm, keep_time: bool = False
    ):
        super().__init__()
        self.pre_activation, self.stride, self.time_stride = pre_activation, stride, 1 if keep_time else stride
        strides = (1, stride) if keep_time else stride
        self.conv1 = Conv3x3(in_channels, out_channels, strides, same_padding=pre_activation)
        self.norm1 = norm(in_channels if pre_activation else out_channels)
        self.conv2 = Conv3x3(out_channels, out_channels)
        self.norm2 = norm(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), norm(out_channels))

    @property
    def folds(self) -> list[tuple[str, str]]:
        """(convolution, the norm that follows it); in pre-activation blocks the first norm follows a sum."""
        pairs = [("conv1", "norm2")] if self.pre_activation else [("conv1", "norm1"), ("conv2", "norm2")]
        return pairs + ([] if self.shortcut is None else [("shortcut.0", "shortcut.1")])

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        # The 1x1 convolution's stride is taken by slicing: in torch 2.15 the gradient of a strided
        # 1x1 float32 convolution of fewer than 16 channels, channels last, writes past its memory on a CPU.
        strided = x[:, :, :: self.time_stride, :: self.stride]
        shortcut = x if self.shortcut is None else self.shortcut(strided)
        after = halved(lengths, self.time_stride)
        if self.pre_activation:
            x = self.conv1(F.relu(self.norm1(x), inplace=True), lengths)
            return self.conv2(F.relu(self.norm2(x), inplace=True), after) + shortcut
        x = F.relu(self.norm1(self.conv1(x, lengths)), inplace=True)
        return F.relu(self.norm2(self.conv2(x, after)) + shortcut, inplace=True)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions to four times the width, each with a norm, and a shortcut (He et al., 2016)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        out_channels = self.expansion * width
        self.stride = self.time_stride = stride
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = Conv3x3(width, width, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    @property
    def folds(self) -> list[tuple[str, str]]:
        """(convolution, the norm that follows it)."""
        pairs = [(f"conv{i}", f"norm{i}") for i in (1, 2, 3)]
        return pairs + ([] if self.shortcut is None else [("shortcut.0", "shortcut.1")])

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x[:, :, :: self.stride, :: self.stride])
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x, lengths)), inplace=True)
        return F.relu(self.norm3(self.conv3(x)) + shortcut, inplace=True)


class ResidualTrunk(nn.Module):
    """Stem and four stages of residual blocks; channels double and both axes halve from stage to stage.

    ``make_block`` is called with (in_channels, width, stride); its blocks have ``expansion`` times the width.
    """

    folds = (("stem", "stem_norm"),)

    def __init__(self, base_channels: int, num_blocks: tuple[int, ...], make_block, norm=nn.BatchNorm2d,
                 expansion: int = 1):
        super().__init__()
        self.stem = Conv3x3(1, base_channels)
        self.stem_norm = norm(base_channels)
        blocks, channels = [], base_channels
        for stage, count in enumerate(num_blocks):
            width = base_channels << stage
            for index in range(count):
                blocks.append(make_block(channels, width, 2 if stage > 0 and index == 0 else 1))
                channels = expansion * width
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = channels

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None):
        """(batch, num_frames, bins) to ((batch, out_channels, ceil(frames / 8), ceil(bins / 8)), lengths there)."""
        x = F.relu(self.stem_norm(self.stem(features.unsqueeze(1), lengths)), inplace=True)
        for block in self.blocks:
            x = block(x, lengths)
            lengths = halved(lengths, block.time_stride)
        return x, lengths
