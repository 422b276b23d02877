"""What is fixed of a filterbank before any sample comes: frame counts, window, mel filters. No torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speakerkit.config import FbankConfig

if TYPE_CHECKING:
    import torch

BLOCK_FRAMES = 500  # computed at a time: an hour needs no more memory than its features, and caches are used better
VTLN_LOW_HZ, VTLN_BELOW_NYQUIST_HZ = 100.0, 500.0  # corners of the warp, Kaldi's --vtln-low and --vtln-high
SMALLEST_ENERGY = 1e-10  # SpeechBrain's floor of a mel energy
RANGE_DB = 80.0  # of SpeechBrain's decibels: kept below an utterance's loudest
EPSILON = 1.1920928955078125e-07  # float32 epsilon: the floor of a mel energy before its logarithm


def num_frames(num_samples: "int | torch.Tensor", config: FbankConfig) -> "int | torch.Tensor":
    """Frames that ``num_samples`` samples give; a tensor of lengths gives a tensor.

    With snip_edges: 1 + floor((n - length) / shift), 0 below one frame. Without: round(n / shift).
    SpeechBrain's: 1 + floor(n / shift), 0 without a sample.
    """
    if config.filterbank == "speechbrain":
        return (num_samples + config.frame_shift) // config.frame_shift * (num_samples > 0)
    if config.snip_edges:
        frames = 1 + (num_samples - config.frame_length) // config.frame_shift
        return frames.clamp(min=0) if hasattr(frames, "clamp") else max(frames, 0)
    return (num_samples + config.frame_shift // 2) // config.frame_shift


def chunk_samples(chunk_frames: int, config: FbankConfig) -> int:
    """The fewest samples that give ``chunk_frames`` frames: with snip_edges, or SpeechBrain's."""
    if config.filterbank == "speechbrain":
        return max((chunk_frames - 1) * config.frame_shift, 1)
    return (chunk_frames - 1) * config.frame_shift + config.frame_length


def framed_samples(frames: int, config: FbankConfig) -> int:
    """The samples that so many frames reach over, what lies beyond an utterance's ends counted in."""
    return (frames - 1) * config.frame_shift + config.frame_length


def cut_range(features: np.ndarray, config: FbankConfig) -> np.ndarray:
    """(num_frames, columns) of a whole utterance: SpeechBrain's decibels end RANGE_DB below the loudest."""
    if config.filterbank != "speechbrain":
        return features
    return np.maximum(features, features.max() - np.float32(RANGE_DB))


@dataclass(frozen=True)
class Elementary:
    """Functions of (n,) float32 values whose last bit is the library's own; these are rounded once from float64."""

    log: Callable[[np.ndarray], np.ndarray] = lambda values: _rounded(np.log, values)
    cos: Callable[[np.ndarray], np.ndarray] = lambda values: _rounded(np.cos, values)
    sin: Callable[[np.ndarray], np.ndarray] = lambda values: _rounded(np.sin, values)
    power: Callable[[np.ndarray, float], np.ndarray] = lambda values, exponent: _rounded(
        lambda exact: exact**exponent, values)


def _rounded(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    return function(values.astype(np.float64)).astype(np.float32)


def frame_window(config: FbankConfig, functions: Elementary = Elementary()) -> np.ndarray:
    """(frame_length,) float32; all windows symmetric, as Kaldi's, in the float32 steps of torchaudio's."""
    n = config.frame_length
    phase = np.arange(n, dtype=np.float32) * np.float32(2 * math.pi / (n - 1))
    cosine = functions.cos(phase)
    hann = 0.5 - 0.5 * cosine
    coeff = config.blackman_coeff
    return {
        "povey": functions.power(hann, 0.85),
        "hamming": 0.54 - 0.46 * cosine,
        "hanning": hann,
        "blackman": coeff - 0.5 * cosine + (0.5 - coeff) * functions.cos(2 * phase),
        "sine": functions.sin(0.5 * phase),
        "rectangular": np.ones(n, np.float32),
    }[config.window_type]


def _mel(hz: np.ndarray | float) -> np.ndarray:
    return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (np.exp(mel / 1127.0) - 1.0)


def warp_frequency(hz: np.ndarray, warp: float, config: FbankConfig) -> np.ndarray:
    """Where a frequency lies for a vocal tract of another length (Kaldi's VtlnWarpFreq, mel-computations.cc).

    Args:
        hz: frequencies in ``config``'s band.
        warp: the factor; in the middle of the band f becomes f / warp. 1.1 moves the filters down,
            so the features are those of formants 10 % higher; the pitch stays what it was.

    Returns:
        Frequencies in the band, rising with ``hz``: piecewise linear, fixed at the band's edges,
        with its corners where Kaldi's default options have them (100 Hz, 500 Hz below Nyquist).
    """
    low, high = config.low_freq, config.upper_freq
    first = max(VTLN_LOW_HZ, 1.01 * low) * max(1.0, warp)
    last = min(config.sample_rate / 2 - VTLN_BELOW_NYQUIST_HZ, 0.99 * high) * min(1.0, warp)
    return np.interp(hz, [low, first, last, high], [low, first / warp, last / warp, high])


def mel_filters(config: FbankConfig, vtln_warp: float = 1.0, functions: Elementary = Elementary()) -> np.ndarray:
    """Triangular filters (fft_length / 2 + 1, num_mel_bins), float32; the Nyquist bin has weight 0 as in Kaldi.

    Kaldi's get_mel_banks in the float32 steps of torchaudio's: rounding on the mel scale moves a weight by up to
    1.4e-5, and a network trained on filters has learned those. With ``vtln_warp`` the filters' corners lie at
    ``warp_frequency`` of where they lay.
    """
    num_bins, count = config.fft_length // 2, config.num_mel_bins
    low, high = _mel(config.low_freq), _mel(config.upper_freq)
    edges = np.float32(low) + np.arange(count + 2, dtype=np.float32) * np.float32((high - low) / (count + 1))
    if vtln_warp != 1.0:
        edges = _mel(warp_frequency(_hertz(edges), vtln_warp, config)).astype(np.float32)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.arange(num_bins, dtype=np.float32) * np.float32(config.sample_rate / config.fft_length)
    bins = (np.float32(1127.0) * functions.log(np.float32(1.0) + hertz / np.float32(700.0)))[:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = np.maximum(np.float32(0.0), np.minimum(rising, falling))
    return np.concatenate([filters, np.zeros((config.fft_length // 2 + 1 - num_bins, count), np.float32)])
