"""Convolutions and means over time: by hand, and in padded batches."""

import pytest
import torch

from speakerkit.models.time_convolution import TimeConv, mean_over_time, segment_means


def test_segment_means_by_hand():
    # 0..249 in stretches of 100: means 49.5 and 149.5; the last 50 steps have 224.5.
    x = torch.arange(250.0)[None, None]
    means = segment_means(x, None, 100)[0, 0]
    assert means.shape == (250,)
    assert [means[i].item() for i in (0, 99, 100, 199, 200, 249)] == [49.5, 49.5, 149.5, 149.5, 224.5, 224.5]


@pytest.mark.parametrize("length", [1, 99, 100, 101, 200, 249])
def test_means_see_nothing_past_the_end(length):
    x = torch.randn(1, 3, 250, generator=torch.Generator().manual_seed(1))
    x[:, :, length:] = 1e6
    lengths = torch.tensor([length])
    alone = x[:, :, :length]
    torch.testing.assert_close(segment_means(x, lengths, 100)[:, :, :length], segment_means(alone, None, 100))
    torch.testing.assert_close(mean_over_time(x, lengths), mean_over_time(alone, None))


@pytest.mark.parametrize("length", [257, 301, 1001])
def test_a_mean_in_bfloat16_is_rounded_once(length):
    """Half of its last place, at most 2^-8 of the value: the number of steps isn't rounded too."""
    x = torch.rand(1, 64, length + 31, generator=torch.Generator().manual_seed(1)).bfloat16() + 0.5
    exact = x[:, :, :length].double().mean(dim=2, keepdim=True)
    found = mean_over_time(x, torch.tensor([length]))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8 * 1.001, atol=0)


@pytest.mark.parametrize("width, stride, dilation", [(1, 1, 1), (3, 1, 1), (3, 1, 4), (5, 2, 1)])
def test_a_convolution_keeps_the_number_of_steps_and_sees_zeros_past_the_end(width, stride, dilation):
    convolution = TimeConv(2, 3, width, stride, dilation)
    x = torch.randn(1, 2, 21, generator=torch.Generator().manual_seed(1))
    alone = convolution(x[:, :, :13])
    assert alone.shape[2] == -(-13 // stride)
    together = convolution(x, torch.tensor([13]))[:, :, : alone.shape[2]]
    torch.testing.assert_close(together, alone)
