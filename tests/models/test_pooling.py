"""Statistics pooling: by hand, masked, and where variances go wrong."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.models.pooling import pool_over_time, pool_over_time_and_frequency

# (1 utterance, 1 channel, 2 steps, 2 frequencies)
X = torch.tensor([[[[1.0, 10.0], [3.0, 30.0]]]])


def test_over_time_by_hand():
    # Means 2 and 20; unbiased variances 2 and 200.
    pooled = pool_over_time(X, None, 0.0)
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 20.0, 2.0 ** 0.5, 200.0 ** 0.5]]))


def test_over_time_and_frequency_by_hand():
    # Mean 11; the population's variance: (100 + 1 + 64 + 361) / 4.
    pooled = pool_over_time_and_frequency(X, None, 0.0)
    torch.testing.assert_close(pooled, torch.tensor([[11.0, 131.5 ** 0.5]]))


def test_channels_come_before_frequencies():
    x = torch.arange(6.0).reshape(1, 2, 1, 3).expand(1, 2, 4, 3)
    assert pool_over_time(x, None, 1e-4).tolist()[0][:6] == [0, 1, 2, 3, 4, 5]


def test_one_step_has_no_spread():
    x = X[:, :, :1]
    torch.testing.assert_close(pool_over_time(x, None, 1e-6), torch.tensor([[1.0, 10.0, 1e-3, 1e-3]]))
    torch.testing.assert_close(pool_over_time(X, torch.tensor([1]), 1e-6), torch.tensor([[1.0, 10.0, 1e-3, 1e-3]]))


@pytest.mark.parametrize("pool, floor", [(pool_over_time, 1e-7), (pool_over_time, 0.0),
                                         (pool_over_time_and_frequency, 1e-12)])
def test_a_constant_channel_has_a_finite_slope(pool, floor):
    x = torch.full((2, 3, 5, 4), 0.25, requires_grad=True)
    pool(x, None, floor).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("pool, floor", [(pool_over_time, 1e-7), (pool_over_time_and_frequency, 1e-12)])
def test_a_large_mean_does_not_drown_the_spread(pool, floor):
    """The difference of two large sums would lose all digits here."""
    x = torch.randn(1, 4, 200, 5, generator=torch.Generator().manual_seed(1))
    near, far = pool(x, None, floor), pool(x + 1000.0, None, floor)
    half = near.shape[1] // 2
    torch.testing.assert_close(far[:, half:], near[:, half:], rtol=1e-3, atol=0)


@pytest.mark.parametrize("pool, floor", [(pool_over_time, 1e-7), (pool_over_time_and_frequency, 1e-12)])
def test_half_precision_is_pooled_in_float32(pool, floor):
    x = torch.randn(2, 3, 50, 4, generator=torch.Generator().manual_seed(1)).bfloat16()
    pooled = pool(x, None, floor)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, pool(x.float(), None, floor), rtol=0, atol=0)


@pytest.mark.parametrize("pool, floor", [(pool_over_time, 1e-7), (pool_over_time_and_frequency, 1e-12)])
def test_a_padded_batch_is_one_by_one(pool, floor):
    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    def check(lengths):
        x = torch.full((len(lengths), 3, max(lengths) + 2, 4), torch.nan)  # what is padded with must not matter
        generator = torch.Generator().manual_seed(sum(lengths))
        for row, length in zip(x, lengths, strict=True):
            row[:, :length] = torch.randn(3, length, 4, generator=generator)
        together = pool(x, torch.tensor(lengths), floor)
        for pooled, row, length in zip(together, x, lengths, strict=True):
            torch.testing.assert_close(pooled, pool(row[None, :, :length], None, floor)[0], rtol=1e-5, atol=1e-6)

    check()
