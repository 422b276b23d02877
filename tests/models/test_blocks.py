import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from speakerkit.models.blocks import Conv3x3, ResidualBlock, time_mask

TRAIN_NARROW = """
import torch
from torch import nn
from speakerkit.models.blocks import ResidualBlock
block = ResidualBlock({channels}, 16, 2, False, nn.BatchNorm2d).to(memory_format=torch.channels_last)
x = torch.randn(16, {channels}, 60, 40).to(memory_format=torch.channels_last).requires_grad_()
for _ in range(4):
    block(x).sum().backward()
"""


@pytest.mark.parametrize("channels", [4, 8])
def test_narrow_blocks_train_without_damage_to_memory(channels):
    # Heap checks make glibc end the process where a convolution writes past its memory.
    checks = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "85"}
    program = [sys.executable, "-c", TRAIN_NARROW.format(channels=channels)]
    ran = subprocess.run(program, env=checks, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()


@pytest.mark.parametrize("pre_activation", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 7, 8])
def test_strided_shortcut_is_a_strided_convolution(pre_activation, frames):
    block = ResidualBlock(3, 5, 2, pre_activation, nn.BatchNorm2d).eval()
    x = torch.randn(2, 3, frames, 10)
    strided = nn.Conv2d(3, 5, 1, stride=2, bias=False)
    strided.weight = block.shortcut[0].weight
    torch.testing.assert_close(block.shortcut[0](x[:, :, ::2, ::2]), strided(x))


def test_same_padding_is_tensorflows():
    # Ones over kernel ones count the inputs under each window. Length 5 pads (1, 1), length 4 pads (0, 1).
    convolution = Conv3x3(1, 1, stride=2, same_padding=True)
    nn.init.ones_(convolution.weight)
    counts = convolution(torch.ones(1, 1, 5, 4))[0, 0]
    assert counts.tolist() == [[2 * 3, 2 * 2], [3 * 3, 3 * 2], [2 * 3, 2 * 2]]


def test_mask_marks_valid_steps():
    assert time_mask(torch.tensor([1, 3]), 3)[:, 0, :, 0].tolist() == [[True, False, False], [True, True, True]]
