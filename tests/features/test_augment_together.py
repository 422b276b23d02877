"""Chunks that are disturbed side by side come out as each alone."""

import numpy as np
import pytest

from speakerkit.features import augment, augment_together
from speakerkit.features.augment_together import fast_length, room_length


def chunks_of(count, num_samples=9000):
    return (0.1 * np.random.default_rng(count).standard_normal((count, num_samples))).astype(np.float32)


def responses_of(count, lengths=(1, 300, 4000, 20000)):
    generator = np.random.default_rng(count)
    return [generator.standard_normal(lengths[n % len(lengths)]).astype(np.float32) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("longest", [0, 25000], ids=["own length", "one length"])
def test_rooms_are_those_of_each_chunk(count, longest):
    chunks, responses = chunks_of(count), responses_of(count)
    before = chunks.copy()
    alone = [augment.reverberate(*pair) for pair in zip(chunks, responses, strict=True)]
    for kept in (responses, [augment.RoomResponse(response) for response in responses]):
        for _ in range(2):  # a kept spectrum is used again
            heard = augment_together.reverberate(chunks, kept, longest)
            assert heard.dtype == np.float32 and heard.shape == chunks.shape
            np.testing.assert_allclose(heard, alone, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(chunks, before)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_bands_are_those_of_each_chunk(count):
    chunks, generator = chunks_of(count), np.random.default_rng(count)
    bands = [(float(generator.uniform(0, 300)), float(generator.uniform(2000, 8000))) for _ in range(count)]
    limited = augment_together.band_limit(chunks, 16000, bands)
    assert limited.dtype == np.float32
    # Another FFT length rounds the edges to other bins, whose gains are samples of the same curves.
    for row, (low_hz, high_hz), chunk in zip(limited, bands, chunks, strict=True):
        np.testing.assert_allclose(row, augment.band_limit(chunk, 16000, low_hz, high_hz), rtol=0, atol=2e-3)
        exact = augment_together.band_limit(chunk[None], 16000, [(low_hz, high_hz)])[0]
        np.testing.assert_allclose(row, exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize("num_samples", [1, 63, 64, 65, 32560, 43439, 64479])
def test_fast_lengths_hold_the_samples_and_have_small_factors(num_samples):
    length = rest = fast_length(num_samples)
    assert num_samples <= length <= 2 * num_samples + 64 and length % 64 == 0
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    assert rest == 1


def test_no_echo_of_a_room_comes_round_to_the_start():
    assert room_length(1000, 300) >= 1299 and room_length(1000, 10**9) >= 1999
    late = np.eye(1, 8999, 8998, dtype=np.float32)[0]
    chunk = np.zeros((1, 9000), np.float32)
    chunk[0, -1] = 1.0  # all that is heard of it comes after the end
    heard = augment_together.filter_rows(chunk, room_length(9000, 8999), lambda spectra, _: spectra.__imul__(
        augment.RoomResponse(late).spectrum(9000, room_length(9000, 8999))))  # fmt: skip
    np.testing.assert_allclose(heard, 0.0, atol=1e-6)
