"""Kaldi's filterbank without torch: the steps of ``fbank``, for the libraries that run a model's graph.

A graph computes the DFT as a matrix, and takes two to three times as long.
"""

import functools
import math

import numpy as np

from speakerkit.config import FbankConfig
from speakerkit.features.framing import EPSILON, frame_window, mel_filters

# Frames computed at a time: they stay in a core's cache, and products are so small that BLAS starts no threads.
FRAMES = 50


@functools.lru_cache(maxsize=64)
def _constants(config: FbankConfig) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """The window, and the filters in two halves: first bin, last bin + 1, weights between. See ``fbank._constants``."""
    halves = []
    for part in np.array_split(mel_filters(config), 2, axis=1):
        used = np.flatnonzero(part.any(axis=1)) if part.any() else np.zeros(1, int)
        halves.append((used[0], used[-1] + 1, np.ascontiguousarray(part[used[0] : used[-1] + 1])))
    return frame_window(config), halves


def compute_framed_fbank(samples: np.ndarray, config: FbankConfig) -> np.ndarray:
    """Log-mel filterbank energies of samples cut as with snip_edges, without dither.

    Args:
        samples: (num_samples,) float32 in [-1, 1], at least one frame; what lies beyond an utterance's ends is the
            caller's to add.
        config: its options, with ``filterbank`` "kaldi".

    Returns:
        (1 + floor((num_samples - frame_length) / frame_shift), num_columns) float32, as ``fbank.compute_fbank``'s
        to rounding.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, config.frame_length)[:: config.frame_shift]
    features = np.empty((len(frames), config.num_columns), np.float32)
    padded = np.zeros((FRAMES, config.fft_length), np.float32)
    with np.errstate(all="ignore"):  # what isn't finite stays so, and is refused as an embedding
        for first in range(0, len(frames), FRAMES):
            last = min(first + FRAMES, len(frames))
            _frames_to_fbank(frames[first:last], padded[: last - first], config, features[first:last])
    return features


def _frames_to_fbank(frames: np.ndarray, padded: np.ndarray, config: FbankConfig, features: np.ndarray) -> None:
    """Write (num_frames, num_columns); ``padded`` is (num_frames, fft_length), zero behind the frames."""
    window, halves = _constants(config)
    frames = frames * np.float32(config.waveform_scale)
    if config.remove_dc_offset:
        frames -= frames.mean(axis=1, keepdims=True)
    inside = padded[:, : config.frame_length]
    np.multiply(frames[:, :-1], np.float32(config.preemphasis), out=inside[:, 1:])
    np.multiply(frames[:, :1], np.float32(config.preemphasis), out=inside[:, :1])
    np.subtract(frames, inside, out=inside)
    inside *= window
    place = int(config.use_energy and not config.htk_compat)
    mel = features[:, place : place + config.num_mel_bins]
    if config.use_energy:
        column = 0 if place else config.num_mel_bins
        features[:, column] = _log_energy(frames if config.raw_energy else inside, config)
    spectrum = np.fft.rfft(padded)
    parts = np.square(spectrum.view(spectrum.real.dtype))
    power = (parts[:, ::2] + parts[:, 1::2]).astype(np.float32, copy=False)  # float64 before numpy 2
    if not config.use_power:
        power = np.sqrt(power)
    np.concatenate([power[:, first:last] @ part for first, last, part in halves], axis=1, out=mel)
    if config.use_log_fbank:
        np.log(np.maximum(mel, np.float32(EPSILON), out=mel), out=mel)


def _log_energy(frames: np.ndarray, config: FbankConfig) -> np.ndarray:
    """(num_frames,): the logarithm of each frame's energy, floored."""
    energy = np.log(np.maximum(np.square(frames).sum(axis=1), np.float32(EPSILON)))
    return np.maximum(energy, np.float32(math.log(config.energy_floor))) if config.energy_floor > 0 else energy
