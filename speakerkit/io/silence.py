"""Is there anything to hear? What the samples of one recording must be before they are used.

The silence rule: a recording is silent when less than MIN_ACTIVE_S of it is above ACTIVE_RMS,
measured in frames of FRAME_S seconds after each frame's own mean is removed. A level alone
would let one click through, and the mean of the whole would let a step of the offset through.

The constants come from 2,500 read utterances (1.6 to 20 s, close and far microphones): the
fifth loudest frame of the quietest of them has an rms of 0.015, so speech passes down to about
1/250 of its level (-48 dB), while dither of one 16-bit step (rms 3.05e-5) stays 6 dB below.
"""

import numpy as np

from speakerkit.errors import RecordingError

FRAME_S = 0.02
ACTIVE_RMS = 2.0 / 32768.0  # two 16-bit steps, -84 dB below full scale
MIN_ACTIVE_S = 0.1
MAX_PEAK = 64.0  # above it the samples are surely in the 16-bit scale, not loud


def active_seconds(samples: np.ndarray, sample_rate: int) -> float:
    """How long the recording is louder than ACTIVE_RMS, in seconds.

    Args:
        samples: (num_samples,) float in [-1, 1].
        sample_rate: in Hz.
    """
    frame_length = max(2, round(FRAME_S * sample_rate))
    num_frames = len(samples) // frame_length
    frames = samples[:num_frames * frame_length].reshape(num_frames, frame_length)
    mean = frames.mean(axis=1, dtype=np.float64)
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / frame_length - mean ** 2
    return float(np.count_nonzero(power > ACTIVE_RMS ** 2)) * frame_length / sample_rate


def check_samples(samples: np.ndarray, sample_rate: int, path: str) -> float:
    """Refuse samples that can't give an embedding: not finite, in another scale, or silent.

    Args:
        samples: (num_samples,) float32 of one channel, after any mixing.
        sample_rate: in Hz.
        path: what the error names.

    Returns:
        The largest magnitude.

    Raises:
        RecordingError: not-finite (with the place), unsupported-format (a float file in the
            16-bit scale), silent.
    """
    low, high = float(samples.min()), float(samples.max())  # NaN passes through min and max
    peak = max(high, -low)  # in this order: -0.0 would be told as -0
    if not np.isfinite(low) or not np.isfinite(high):
        raise_not_finite(samples, sample_rate, path)
    if peak > MAX_PEAK:
        raise RecordingError(path, "unsupported-format",
                             f"peak is {peak:.6g}, float samples in the 16-bit scale; want -1 to 1 (divide by 32768)")
    active = active_seconds(samples, sample_rate)
    if active < MIN_ACTIVE_S:
        raise RecordingError(path, "silent", f"{active:.2f} s above the noise of 16-bit rounding; "
                                             f"wanted at least {MIN_ACTIVE_S:g} s (peak {peak:.2g})")
    return peak


def raise_not_finite(samples: np.ndarray, sample_rate: int, path: str) -> None:
    """Name the first sample that is NaN or infinite, if there is one."""
    bad = np.flatnonzero(~np.isfinite(samples))
    if len(bad):
        raise RecordingError(path, "not-finite",
                             f"sample {bad[0]} ({bad[0] / sample_rate:.4f} s) is {samples[bad[0]]}")
