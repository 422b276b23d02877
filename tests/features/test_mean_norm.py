"""Mean normalisation over time."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.features.mean_norm import subtract_mean


def test_by_hand():
    features = torch.tensor([[1.0, 10.0], [3.0, 20.0]])
    assert subtract_mean(features).tolist() == [[-1.0, -5.0], [1.0, 5.0]]
    assert features.tolist() == [[1.0, 10.0], [3.0, 20.0]]


def test_one_frame_is_zero():
    assert subtract_mean(torch.tensor([[4.0, -2.0]])).tolist() == [[0.0, 0.0]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_a_padded_batch_is_one_by_one(lengths):
    generator = torch.Generator().manual_seed(sum(lengths))
    batch = torch.full((len(lengths), max(lengths) + 3, 5), torch.nan)  # what is padded with must not matter
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = torch.randn(length, 5, generator=generator)
    together = subtract_mean(batch, torch.tensor(lengths))
    for row, raw, length in zip(together, batch, lengths, strict=True):
        torch.testing.assert_close(row[:length], subtract_mean(raw[:length]), rtol=0, atol=1e-6)
        assert row[:length].mean(dim=0).abs().max() < 1e-6
