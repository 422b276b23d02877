"""Disturbances of several chunks at once: scipy transforms four signals side by side in the time of one.

Each row is what ``augment``'s function of the same name makes of it alone.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft

from speakerkit.features.augment import RoomResponse, band_gains, match_level

SIDE_BY_SIDE = 4
LENGTH_STEP = 64  # FFT lengths of many factors 2 take up to a third less time than the next of factors 2, 3, 5


def fast_length(num_samples: int) -> int:
    """An FFT length of at least so many samples that is transformed fast."""
    return LENGTH_STEP * scipy.fft.next_fast_len(-(-num_samples // LENGTH_STEP), real=True)


def room_length(num_samples: int, longest: int) -> int:
    """The FFT length of chunks in rooms whose longest response has so many samples."""
    return fast_length(num_samples + min(num_samples, longest) - 1)


def reverberate(
    samples: np.ndarray, responses: Sequence[np.ndarray | RoomResponse], longest: int = 0
) -> np.ndarray:
    """Chunks heard in rooms: convolved, as long as before and at the same rms.

    Args:
        samples: (num_chunks, num_samples) float32.
        responses: of each, the direct sound at index 0; kept ones keep their spectrum.
        longest: samples of the longest response that will ever come: then all have one FFT length.

    Returns:
        (num_chunks, num_samples) float32.
    """
    rooms = [r if isinstance(r, RoomResponse) else RoomResponse(r) for r in responses]
    num_samples = samples.shape[1]
    length = room_length(num_samples, max(longest, *(len(room.samples) for room in rooms)))

    def convolve(spectra: np.ndarray, first: int) -> None:
        for spectrum, room in zip(spectra, rooms[first:], strict=False):
            spectrum *= room.spectrum(num_samples, length)

    heard = filter_rows(samples, length, convolve)
    return np.stack([match_level(row, dry) for row, dry in zip(heard, samples, strict=True)])


def band_limit(samples: np.ndarray, sample_rate: int, bands_hz: Sequence[tuple[float, float]]) -> np.ndarray:
    """Chunks of which a band passes, as through a telephone; see ``augment.band_limit``.

    Args:
        samples: (num_chunks, num_samples) float32.
        sample_rate: in Hz.
        bands_hz: lower and upper edge, of each.

    Returns:
        (num_chunks, num_samples) float32.
    """
    length = fast_length(samples.shape[1] + int(0.02 * sample_rate))

    def pass_band(spectra: np.ndarray, first: int) -> None:
        for spectrum, (low_hz, high_hz) in zip(spectra, bands_hz[first:], strict=False):
            spectrum *= band_gains(length, sample_rate, low_hz, high_hz)

    return filter_rows(samples, length, pass_band)


def filter_rows(
    rows: np.ndarray, length: int, change: Callable[[np.ndarray, int], None]
) -> np.ndarray:
    """Rows with their spectra changed.

    Args:
        rows: (num_rows, num_samples) float32.
        length: of the FFT; zeros follow the samples.
        change: is given the spectra (at most SIDE_BY_SIDE, length // 2 + 1) complex64 to write to, and the
            number of the first row among them; spectra past the last row are silence.
    """
    changed = np.empty_like(rows)
    for first in range(0, len(rows), SIDE_BY_SIDE):
        part = rows[first:first + SIDE_BY_SIDE]
        count = len(part)
        if 1 < count < SIDE_BY_SIDE:  # two or three would be transformed one after the other
            part = np.concatenate([part, np.zeros((SIDE_BY_SIDE - count, part.shape[1]), np.float32)])
        spectra = scipy.fft.rfft(part, length)
        change(spectra, first)
        inverse = scipy.fft.irfft(spectra, length, overwrite_x=True)
        changed[first:first + count] = inverse[:count, :rows.shape[1]]
    return changed
