"""Chunks that change speed side by side come out as soxr makes each alone."""

import numpy as np
import pytest

from speakerkit.features.resample import chunk_span, speed_chunk
from speakerkit.features.resample_together import change_speeds, is_transformed, transform_lengths

LENGTH = 6000  # samples of a chunk
NOISE = (0.1 * np.random.default_rng(1).standard_normal(20000)).astype(np.float32)


def read(start, speed):
    """The stretch around a chunk, and its lead."""
    first, count = chunk_span(LENGTH, speed, start, len(NOISE))
    return NOISE[first : first + count], start - first


def last_start(speed):
    return len(NOISE) - int(np.ceil(LENGTH * speed))


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.5, 0.45, 2.0, 1.05])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_chunks_are_those_of_soxr(speed, count):
    places = np.linspace(5, last_start(speed), count).astype(int).tolist()  # up to the recording's last sample
    stretches, leads = zip(*(read(start, speed) for start in places), strict=True)
    changed = change_speeds(stretches, speed, LENGTH, leads)
    assert changed.dtype == np.float32 and changed.shape == (count, LENGTH)
    for row, stretch, lead in zip(changed, stretches, leads, strict=True):
        alone = speed_chunk(stretch, speed, LENGTH, lead)
        assert len(alone) >= LENGTH - 1  # soxr's length may come out one short
        # -120 dB of the noise's own level: the rounding of two float32 computations
        assert np.abs(row[: len(alone)] - alone).max() < 1e-6


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_from_a_recordings_first_sample_on_the_rest_is_soxrs(speed):
    """soxr settles for three samples on a recording that begins with a jump."""
    stretch, lead = read(0, speed)
    changed, alone = change_speeds([stretch], speed, LENGTH, [lead])[0], speed_chunk(stretch, speed, LENGTH, lead)
    assert lead == 0
    assert np.abs(changed - alone)[3:].max() < 1e-6
    assert np.abs(changed - alone).max() < 0.02 * NOISE.std()


def test_the_end_of_a_chunk_does_not_reach_its_start():
    """The transform goes round: a click in the last sample must not be heard in the first ones."""
    stretch = np.zeros_like(read(0, 0.9)[0])
    stretch[-1] = 1.0
    assert np.abs(change_speeds([stretch], 0.9, LENGTH, [0])[0, : LENGTH // 2]).max() < 1e-6


@pytest.mark.parametrize("speed, is_so", [(0.9, True), (1.1, True), (1.0, True), (0.5 * 0.9, True), (1.1 * 3, True),
                                          (44100 / 16000, False), (0.9137, False)])
def test_fractions_of_small_numbers_are_transformed(speed, is_so):
    assert is_transformed(speed) is is_so


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.45, 2.0])
def test_transforms_are_as_far_apart_as_the_speed(speed):
    num_in, num_out = transform_lengths(speed, LENGTH)
    assert num_in / num_out == pytest.approx(speed, rel=1e-12)
    assert num_in >= LENGTH * speed + 2 * 297
