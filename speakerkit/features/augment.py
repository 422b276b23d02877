"""What a recording may go through before it is heard: noise, rooms, bands, levels.

Functions on one channel of samples, (num_samples,) float32 in [-1, 1], that return a new array
of the same length. All randomness comes from the numpy Generator given to them.
"""

import functools
import itertools

import numpy as np
import scipy.fft

SPEED_OF_SOUND = 343.0  # m/s
ROOM_BANDS_HZ = (0.0, 250.0, 1000.0, 4000.0)  # lower edges of the bands that decay on their own
ROOM_BAND_DECAY = (1.15, 1.0, 0.85, 0.55)     # of rt60 in each: walls and air absorb treble first
NUM_REFLECTIONS = 6


def coloured_noise(num_samples: int, tilt: float, generator: np.random.Generator) -> np.ndarray:
    """Noise whose power falls as 1/f**tilt: 0 white, 1 pink, 2 brown; rms 1.

    Args:
        num_samples: its length.
        tilt: slope of the power spectrum; negative for noise that rises.
        generator: the source of randomness.

    Returns:
        (num_samples,) float32 with mean 0.

    Raises:
        ValueError: fewer than 2 samples.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples is {num_samples}; want 2 or more")
    length = scipy.fft.next_fast_len(num_samples, real=True)
    spectrum = random_spectrum(length, generator)
    spectrum *= tilt_gains(len(spectrum), tilt)
    noise = scipy.fft.irfft(spectrum, length, overwrite_x=True)[:num_samples]
    noise -= noise.mean()
    return noise / rms(noise)


def random_spectrum(length: int, generator: np.random.Generator) -> np.ndarray:
    """(length // 2 + 1,) complex64: that of white noise of ``length`` samples, but for a factor; one FFT less."""
    return generator.standard_normal(2 * (length // 2 + 1), dtype=np.float32).view(np.complex64)


def tilt_gains(num_bins: int, tilt: float) -> np.ndarray:
    """(num_bins,) float32 amplitude 1/f**(tilt/2), nothing at 0 Hz."""
    gains = np.exp(np.float32(-tilt / 2) * log_bins(num_bins))  # a sixth of the time of a power
    gains[0] = 0.0
    return gains


@functools.lru_cache(maxsize=8)
def log_bins(num_bins: int) -> np.ndarray:
    """(num_bins,) float32 logarithms of 1, 1, 2, 3, ...; not to be written to."""
    logs = np.log(np.maximum(np.arange(num_bins), 1)).astype(np.float32)
    logs.flags.writeable = False
    return logs


def take_noise(noise: np.ndarray, num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """A stretch of `num_samples` from a random place of a noise, which goes round if too short.

    Args:
        noise: (n,) float32, n >= 1.
        num_samples: the wanted length.
        generator: draws the place.
    """
    if len(noise) == 0:
        raise ValueError("noise has no samples; want 1 or more")
    if len(noise) >= num_samples:
        start = int(generator.integers(len(noise) - num_samples + 1))
        return noise[start:start + num_samples]
    start = int(generator.integers(len(noise)))
    return np.resize(np.roll(noise, -start), num_samples)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech and noise together, the noise `snr_db` below the speech in rms.

    Args:
        samples: (num_samples,) float32.
        noise: (num_samples,) float32 of any level.
        snr_db: 20 log10(rms(samples) / rms(added noise)).

    Raises:
        ValueError: the lengths differ.

    Silent samples or a silent noise have no ratio; the samples come back as they are.
    """
    if len(samples) != len(noise):
        raise ValueError(f"noise has {len(noise)} samples, the speech {len(samples)}; want as many (take_noise)")
    speech_level, noise_level = rms(samples), rms(noise)
    if speech_level == 0.0 or noise_level == 0.0:
        return samples.copy()
    return samples + np.float32(speech_level / noise_level * 10.0 ** (-snr_db / 20.0)) * noise


def synthetic_room_response(sample_rate: int, rt60_s: float, drr_db: float,
                            generator: np.random.Generator) -> np.ndarray:
    """A made-up room: the direct sound at index 0, a few early reflections, a decaying tail.

    Args:
        sample_rate: in Hz.
        rt60_s: seconds in which the tail falls by 60 dB around 500 Hz; treble falls faster.
        drr_db: energy of the direct sound over that of all else.
        generator: draws the reflections and the tail.

    Returns:
        (rt60_s * sample_rate,) float32, the direct sound 1.0 and the largest.

    Raises:
        ValueError: rt60_s outside 0.02 to 10.
    """
    if not 0.02 <= rt60_s <= 10.0:
        raise ValueError(f"rt60_s is {rt60_s}; want 0.02 to 10")
    num_samples = int(rt60_s * sample_rate)
    late = room_tail(num_samples, sample_rate, rt60_s, generator)
    # The tail begins where the first walls answer: a distance of 0.5 to 4 m, there and back.
    onset = min(num_samples // 4, int(generator.uniform(1.0, 8.0) / SPEED_OF_SOUND * sample_rate))
    late[:max(1, onset)] = 0.0
    early_end = min(num_samples, onset + int(0.05 * sample_rate))
    places = generator.integers(max(1, onset), max(2, early_end), NUM_REFLECTIONS)
    late_level = rms(late)
    signs = generator.choice(np.array([-1.0, 1.0], np.float32), NUM_REFLECTIONS)
    strength = generator.uniform(4.0, 12.0, NUM_REFLECTIONS) * late_level
    late[places] += (signs * strength * np.exp(-6.9 * places / num_samples)).astype(np.float32)
    energy = float(np.dot(late, late))
    response = late * np.float32(np.sqrt(10.0 ** (-drr_db / 10.0) / max(energy, 1e-20)))
    np.clip(response, -0.98, 0.98, out=response)  # at negative drr a reflection may top the direct sound
    response[0] = 1.0
    return response


def room_tail(num_samples: int, sample_rate: int, rt60_s: float, generator: np.random.Generator) -> np.ndarray:
    """(num_samples,) float32 noise that decays by 60 dB in rt60_s, each band at its own pace."""
    length = scipy.fft.next_fast_len(num_samples, real=True)
    spectrum = random_spectrum(length, generator)
    spectrum *= np.float32(np.sqrt(length / 2))  # each sample of variance 1
    edges = [min(len(spectrum), int(np.ceil(hz * length / sample_rate))) for hz in ROOM_BANDS_HZ] + [len(spectrum)]
    bands = np.zeros((len(ROOM_BAND_DECAY), len(spectrum)), np.complex64)
    for band, (first, last) in enumerate(itertools.pairwise(edges)):
        bands[band, first:last] = spectrum[first:last]
    noises = scipy.fft.irfft(bands, length, overwrite_x=True)[:, :num_samples]
    rates = np.float32(-np.log(1000.0) / (rt60_s * sample_rate)) / np.array(ROOM_BAND_DECAY, np.float32)
    noises *= np.exp(rates[:, None] * np.arange(num_samples, dtype=np.float32))
    return noises.sum(axis=0)


def reverberate(samples: np.ndarray, response: "np.ndarray | RoomResponse") -> np.ndarray:
    """Samples heard in a room: convolved, as long as before and at the same rms.

    Args:
        samples: (num_samples,) float32.
        response: (m,) float32 room response, the direct sound at index 0; or a kept one.
    """
    num_samples = len(samples)
    response = response if isinstance(response, RoomResponse) else RoomResponse(response)
    length = scipy.fft.next_fast_len(num_samples + min(num_samples, len(response.samples)) - 1, real=True)
    spectrum = scipy.fft.rfft(samples, length)
    spectrum *= response.spectrum(num_samples, length)
    return match_level(scipy.fft.irfft(spectrum, length, overwrite_x=True)[:num_samples], samples)


class RoomResponse:
    """A room response that is used again and again: its spectrum is kept, for chunks are all of one length.

    Args:
        samples: (m,) float32, the direct sound at index 0.
    """

    def __init__(self, samples: np.ndarray):
        self.samples = samples
        self._kept: tuple[tuple[int, int], np.ndarray] | None = None

    def spectrum(self, num_samples: int, length: int) -> np.ndarray:
        """(length // 2 + 1,) complex64 of its first ``num_samples``; of the last call's sizes it is there already."""
        if self._kept is None or self._kept[0] != (num_samples, length):
            self._kept = (num_samples, length), scipy.fft.rfft(self.samples[:num_samples], length)
        return self._kept[1]


def band_limit(samples: np.ndarray, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """What a telephone or a low-rate codec lets through: a band with soft edges, zero phase.

    Args:
        samples: (num_samples,) float32.
        sample_rate: in Hz.
        low_hz: lower edge, where the gain is one half; 0 keeps all below.
        high_hz: upper edge, likewise; at or above the Nyquist frequency all is kept.

    Raises:
        ValueError: the edges leave no band.
    """
    if not 0.0 <= low_hz < high_hz:
        raise ValueError(f"band is {low_hz} to {high_hz} Hz; want 0 <= low < high")
    num_samples = len(samples)
    margin = int(0.02 * sample_rate)  # silence after the end, so that the end doesn't ring into the start
    length = scipy.fft.next_fast_len(num_samples + margin, real=True)
    spectrum = scipy.fft.rfft(samples, length)
    spectrum *= band_gains(length, sample_rate, low_hz, high_hz)
    return scipy.fft.irfft(spectrum, length, overwrite_x=True)[:num_samples]


def band_gains(length: int, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """(length // 2 + 1,) float32: raised-cosine edges, a tenth of the edge frequency to each side."""
    bins_per_hz = length / sample_rate
    gains = np.ones(length // 2 + 1, np.float32)
    if low_hz > 0.0:
        first, edge = rising_edge(low_hz, max(20.0, 0.1 * low_hz), bins_per_hz)
        gains[:first] = 0.0
        gains[first:first + len(edge)] *= edge[:len(gains) - first]
    if high_hz < sample_rate / 2:
        first, edge = rising_edge(high_hz, 0.1 * high_hz, bins_per_hz)
        edge = edge[:len(gains) - first]
        gains[first:first + len(edge)] *= 1.0 - edge
        gains[first + len(edge):] = 0.0
    return gains


def rising_edge(centre_hz: float, half_width_hz: float, bins_per_hz: float) -> tuple[int, np.ndarray]:
    """Half a cosine from 0 to 1 around a frequency: its first bin, and the gains from there on."""
    first = max(0, int(np.ceil((centre_hz - half_width_hz) * bins_per_hz)))
    last = int((centre_hz + half_width_hz) * bins_per_hz)
    position = (np.arange(first, last + 1) / bins_per_hz - centre_hz) / half_width_hz
    return first, (0.5 + 0.5 * np.sin(0.5 * np.pi * position)).astype(np.float32)


def change_gain(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Louder or softer by `gain_db` decibels; may leave [-1, 1]."""
    return samples * np.float32(10.0 ** (gain_db / 20.0))


def soft_clip(samples: np.ndarray, drive: float) -> np.ndarray:
    """An overdriven input: tanh bends what is loud, the rms is kept.

    Args:
        samples: (num_samples,) float32.
        drive: the peak before the bend: 1 hardly touches, 5 crushes.

    Raises:
        ValueError: drive is not above 0.
    """
    if not drive > 0.0:
        raise ValueError(f"drive is {drive}; want more than 0")
    peak = float(np.max(np.abs(samples), initial=0.0))
    if peak == 0.0:
        return samples.copy()
    return match_level(np.tanh(samples * np.float32(drive / peak)), samples)


def match_level(changed: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """`changed` with the rms of `samples`."""
    level = rms(changed)
    if level == 0.0:
        return changed
    return changed * np.float32(rms(samples) / level)


def rms(samples: np.ndarray) -> float:
    """Root of the mean square; 0.0 of no samples."""
    if len(samples) == 0:
        return 0.0
    return float(np.sqrt(np.dot(samples, samples) / len(samples)))
