"""What a recording is worth before it becomes an embedding: speech, noise, band, clipping, level, offset.

Every number is defined by samples alone, and each has a source:

* Noise is what the quantile over time of each frequency's power says of it: in each frequency speech is
  silent part of the time, even where a sentence has no pause (V. Stahl, A. Fischer, R. Bippus, "Quantile
  based noise estimation for spectral subtraction and Wiener filtering", ICASSP 2000). What a low quantile
  of fluctuating noise underrates is made good by a factor, as R. Martin does for minima ("Noise power
  spectral density estimation based on optimal smoothing and minimum statistics", IEEE Trans. Speech and
  Audio Processing 9(5), 2001). So noise has to last: a door or a second voice is no noise here.
* Speech is where the power stands out of that noise, over all frequencies (J. Sohn, N. S. Kim, W. Sung, "A
  statistical model-based voice activity detection", IEEE Signal Processing Letters 6(1), 1999, takes the
  same ratio), and is at most 30 dB below the loud parts; pauses under half a second belong to it. The idea
  of a level over active time alone is ITU-T P.56's. Music stands out too: a detector knows better (--vad).
* SNR is the power of speech in that time, without the noise, over the power of the noise.
* Bandwidth is the highest frequency at which the loudest 2 % of the time rise over 70 dB below the spectrum's
  peak and over the rounding of 16 bits. It sees what was once a lower sample rate or a codec's edge; not
  where a poor resampler left mirrored speech, nor where noise was added afterwards.
* Clipped samples are those at the largest or the smallest value, if that value is held for 3 samples at
  least 3 times, whatever the level: a recording made softer after it was clipped stays clipped. An MP3
  made of it afterwards hides it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FRAME_S, HOP_S = 0.032, 0.016
LOWEST_HZ = 80.0               # below it there is rumble and hum, no speech
VOICE_HZ = (150.0, 4000.0)     # where activity is looked for: any line carries it
SLOT_FRAMES = 4                # frames whose power is averaged for the noise
NOISE_QUANTILE = 0.15
# What this quantile of steady noise is of its mean, by the same frames and slots: found on a minute of white noise.
QUANTILE_FACTOR = 0.5030142664909363
ACTIVE_RATIO = 2.0             # of power to noise, averaged over VOICE_HZ
ACTIVE_RANGE_DB = 30.0         # below the loud parts: breath and rooms
SHORTEST_BURST_FRAMES = 3      # a shorter one is a click
LONGEST_PAUSE_S = 0.5
BAND_RANGE_DB = 70.0           # real speech falls by up to 60 dB towards 8 kHz
CLIPPED_RUN, CLIPPED_RUNS = 3, 3
STEP = 1.0 / 32768.0           # of 16 bits
ROUNDING_POWER = STEP ** 2 / 12
MAX_SPECTRUM_VALUES = 5_000_000  # of what quantiles are taken of: long recordings are sampled evenly
_BLOCK_FRAMES = 4096


@dataclass(frozen=True)
class Quality:
    """What was measured on one channel; None where there is no speech to measure."""

    duration_s: float
    speech_s: float             # time with speech, pauses under half a second included
    snr_db: float | None        # speech over noise, both in power
    bandwidth_hz: float | None  # where speech ends
    level_dbfs: float | None    # rms of the time with speech; 0 is a square wave at full scale
    peak_dbfs: float | None     # of the largest magnitude; None: zeros only
    clipped: float              # fraction of samples
    dc_offset: float            # mean, full scale is 1
    silent: float               # fraction of time without any signal: all samples within a step of 16 bits


def measure_quality(samples: np.ndarray, sample_rate: int) -> Quality:
    """Measure one channel of a recording.

    Args:
        samples: (num_samples,) float32, finite, full scale 1; at least one frame of 32 ms.
        sample_rate: in Hz.

    Raises:
        ValueError: less than a frame, or not one channel.

    Deterministic; the same for a recording and its copy at another level, but for the rounding of 16 bits.
    """
    if samples.ndim != 1 or len(samples) < round(FRAME_S * sample_rate):
        raise ValueError(f"samples have shape {samples.shape}; want one channel of {FRAME_S} s or more")
    frequency = np.fft.rfftfreq(round(FRAME_S * sample_rate), 1.0 / sample_rate)
    heard = frequency >= LOWEST_HZ
    slots = collect_slots(samples, sample_rate, heard)
    noise = quantile(slots, NOISE_QUANTILE) / QUANTILE_FACTOR
    noise_power = max(float(noise[heard].sum()), ROUNDING_POWER)
    power, ratio = _follow_power(samples, sample_rate, noise, heard, frequency)
    active = find_activity(power, ratio)
    peak = float(np.abs(samples).max())
    speech_power = float(power[active].mean()) if active.any() else 0.0
    has_speech = speech_power > noise_power
    return Quality(
        duration_s=len(samples) / sample_rate,
        speech_s=min(len(samples) / sample_rate, float(np.count_nonzero(active)) * HOP_S) if has_speech else 0.0,
        snr_db=_decibels((speech_power - noise_power) / noise_power) if has_speech else None,
        bandwidth_hz=find_bandwidth(slots, frequency) if has_speech else None,
        level_dbfs=_decibels(speech_power) if has_speech else None,
        peak_dbfs=2 * _decibels(peak) if peak > 0.0 else None,
        clipped=clipped_fraction(samples),
        dc_offset=float(samples.mean(dtype=np.float64)),
        silent=_silent_fraction(samples, sample_rate),
    )


def quantile(values: np.ndarray, share: float) -> np.ndarray:
    """As ``numpy.quantile`` over the first axis, which imports masked arrays to do it: 20 ms that a command waits."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    ordered = np.partition(values, (low, high), axis=0)
    return ordered[low] + (ordered[high] - ordered[low]) * ordered.dtype.type(place - low)


def _decibels(ratio: float) -> float:
    return float(10.0 * np.log10(ratio))


def power_spectra(samples: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks of (num_frames, num_bins) float32 power: its sum over bins is a frame's mean square, windowed."""
    length, hop = round(FRAME_S * sample_rate), round(HOP_S * sample_rate)
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    scale = np.full(length // 2 + 1, 2.0 / (length * np.square(window).sum()), np.float32)
    scale[0] /= 2.0
    if length % 2 == 0:
        scale[-1] /= 2.0
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    for start in range(0, len(frames), _BLOCK_FRAMES):
        spectrum = np.fft.rfft(frames[start:start + _BLOCK_FRAMES] * window, axis=1)
        yield ((spectrum.real ** 2 + spectrum.imag ** 2) * scale).astype(np.float32)


def collect_slots(samples: np.ndarray, sample_rate: int, heard: np.ndarray) -> np.ndarray:
    """(num_slots, num_bins) power averaged over SLOT_FRAMES, without those that are digital zeros."""
    num_slots = len(samples) / (HOP_S * sample_rate * SLOT_FRAMES)
    step = max(1, int(np.ceil(num_slots * len(heard) / MAX_SPECTRUM_VALUES)))
    kept = []
    for spectra in power_spectra(samples, sample_rate):
        whole = len(spectra) // SLOT_FRAMES * SLOT_FRAMES or len(spectra)
        width = min(SLOT_FRAMES, whole)
        kept.append(spectra[:whole].reshape(-1, width, spectra.shape[1]).mean(axis=1)[::step])
    slots = np.concatenate(kept)
    has_signal = slots[:, heard].sum(axis=1) > 0.01 * ROUNDING_POWER
    return slots[has_signal] if has_signal.any() else slots


def _follow_power(samples: np.ndarray, sample_rate: int, noise: np.ndarray, heard: np.ndarray,
                  frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every frame its power and how far it stands out of the noise, (num_frames,) each."""
    voice = (frequency >= VOICE_HZ[0]) & (frequency <= VOICE_HZ[1])
    floor = np.maximum(noise[voice], ROUNDING_POWER / len(frequency))
    power, ratio = [], []
    for spectra in power_spectra(samples, sample_rate):
        power.append(spectra[:, heard].sum(axis=1))
        ratio.append((spectra[:, voice] / floor).mean(axis=1))
    return np.concatenate(power), np.concatenate(ratio)


def find_activity(power: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Which frames are speech.

    Args:
        power: (num_frames,) of each frame.
        ratio: (num_frames,) to the noise, averaged over frequencies.

    Returns:
        (num_frames,) bool: bursts are there, clicks are not, short pauses are filled.
    """
    loud = quantile(power, 0.95)
    is_active = (ratio > ACTIVE_RATIO) & (power > loud * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)) & (power > STEP ** 2)
    starts, ends = _runs(is_active)
    is_burst = ends - starts >= SHORTEST_BURST_FRAMES
    starts, ends = starts[is_burst], ends[is_burst]
    active = np.zeros(len(power), dtype=bool)
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        is_short_pause = index + 1 < len(starts) and starts[index + 1] - end <= LONGEST_PAUSE_S / HOP_S
        active[start:starts[index + 1] if is_short_pause else end] = True
    return active


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First index and end of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def find_bandwidth(slots: np.ndarray, frequency: np.ndarray) -> float:
    """The highest frequency with signal, in Hz; the middle of its bin, the bins being 31 Hz wide.

    Args:
        slots: (num_slots, num_bins) power.
        frequency: (num_bins,) of each bin.
    """
    loudest = quantile(slots, 0.98)
    least = max(float(loudest.max()) * 10.0 ** (-BAND_RANGE_DB / 10.0), 10.0 * ROUNDING_POWER / len(frequency))
    present = np.flatnonzero(loudest > least)
    return float(frequency[present[-1]]) if len(present) else 0.0


def clipped_fraction(samples: np.ndarray) -> float:
    """The fraction of samples at an end of the range that is held as only clipping holds it.

    Args:
        samples: (num_samples,) float.
    """
    count = 0
    for side in (samples, -samples):
        at_end = side >= side.max() - STEP
        starts, ends = _runs(at_end)
        if side.max() > 0 and np.count_nonzero(ends - starts >= CLIPPED_RUN) >= CLIPPED_RUNS:
            count += int(np.count_nonzero(at_end))
    return count / len(samples)


def _silent_fraction(samples: np.ndarray, sample_rate: int) -> float:
    length = max(2, round(0.02 * sample_rate))
    frames = samples[:len(samples) // length * length].reshape(-1, length)
    return float(np.mean(frames.max(axis=1) - frames.min(axis=1) <= 2 * STEP))
