"""Speed changes of several chunks at once, by FFT: half of soxr's time, and its filter.

A chunk with the margins that ``resample.chunk_span`` reads goes round in a transform of num_in samples and comes out
of one of num_out, as far apart as the speed; the gain of each frequency is what soxr does to an impulse.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import scipy.fft

from speakerkit.features.augment_together import SIDE_BY_SIDE, fast_length
from speakerkit.features.resample import CHUNK_MARGIN, convert

MADE_BY = "transforms of whole chunks"  # another way is other low bits in every sample
MOST_SHARES = 64  # of a speed as a fraction: FFT lengths are multiples of both of its numbers


@functools.cache
def is_transformed(speed: float) -> bool:
    """Whether a speed is a fraction of small numbers, as 0.9 and 1.1 are; others stay soxr's."""
    fraction = Fraction(speed).limit_denominator(MOST_SHARES)
    return abs(fraction - Fraction(speed)) < 1e-9 and max(fraction.numerator, fraction.denominator) <= MOST_SHARES


def change_speeds(
    stretches: Sequence[np.ndarray], speed: float, num_output: int, leads: Sequence[int]
) -> np.ndarray:
    """Chunks of speed-perturbed recordings: what ``resample.speed_chunk`` gives of each, to -120 dB.

    Args:
        stretches: of each recording the (n,) float32 samples that ``resample.chunk_span`` told to read.
        speed: the factor, one that ``is_transformed``.
        num_output: length of a chunk.
        leads: how many samples of each lie before its chunk's start.

    Returns:
        (num_chunks, num_output) float32; silence where a recording ends before.
    """
    num_in, num_out = transform_lengths(speed, num_output)
    gains, changed = speed_gains(num_in, num_out), np.empty((len(stretches), num_output), np.float32)
    for first in range(0, len(stretches), SIDE_BY_SIDE):
        part = stretches[first:first + SIDE_BY_SIDE]
        rows = np.zeros((1 if len(part) == 1 else SIDE_BY_SIDE, num_in), np.float32)
        for row, stretch in zip(rows, part, strict=False):
            row[:len(stretch)] = stretch
        spectra = scipy.fft.rfft(rows, overwrite_x=True)[:, :len(gains)]
        spectra *= gains
        outputs = scipy.fft.irfft(spectra, num_out, overwrite_x=True)  # silence above what the input has
        for row, (output, lead) in enumerate(zip(outputs, leads[first:], strict=False)):
            begin = int(lead / speed + 1e-6)  # as speed_chunk has it
            changed[first + row] = output[begin:begin + num_output]
    return changed


@functools.cache
def transform_lengths(speed: float, num_output: int) -> tuple[int, int]:
    """Lengths of the transforms before and after, whose ratio is the speed.

    They hold a chunk with its margins. Where a recording begins or ends there are fewer, and silence enough that
    the filter doesn't reach round.
    """
    fraction = Fraction(speed).limit_denominator(MOST_SHARES)
    needed = num_output * speed + 2 * CHUNK_MARGIN + 2
    shares = fast_length(int(np.ceil(needed / fraction.numerator)))
    return shares * fraction.numerator, shares * fraction.denominator


@functools.lru_cache(maxsize=16)
def speed_gains(num_in: int, num_out: int) -> np.ndarray:
    """(min(num_in, num_out) // 2 + 1,) float32: what soxr does to each frequency, and the ratio of the lengths."""
    impulse = np.zeros(num_in, np.float32)
    impulse[num_in // 2] = 1.0
    heard = np.roll(convert(impulse, num_in, num_out), -(num_out // 2))  # centred on 0: its spectrum is real
    gains = scipy.fft.rfft(heard.astype(np.float64)).real[:min(num_in, num_out) // 2 + 1].astype(np.float32)
    gains.flags.writeable = False
    return gains
