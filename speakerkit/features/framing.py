"""What is fixed of a filterbank before any sample comes: frame counts, window, mel filters. No torch."""

import math
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


def frame_window(config: FbankConfig) -> np.ndarray:
    """(frame_length,) float64; all windows symmetric, as Kaldi's."""
    n = config.frame_length
    phase = 2 * math.pi * np.arange(n) / (n - 1)
    hann = 0.5 - 0.5 * np.cos(phase)
    coeff = config.blackman_coeff
    return {
        "povey": hann**0.85,
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "hanning": hann,
        "blackman": coeff - 0.5 * np.cos(phase) + (0.5 - coeff) * np.cos(2 * phase),
        "sine": np.sin(0.5 * phase),
        "rectangular": np.ones(n),
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


def mel_filters(config: FbankConfig, vtln_warp: float = 1.0) -> np.ndarray:
    """Triangular filters (fft_length / 2 + 1, num_mel_bins), float64; the Nyquist bin has weight 0 as in Kaldi.

    With ``vtln_warp`` the filters' corners lie at ``warp_frequency`` of where they lay.
    """
    num_bins = config.fft_length // 2
    edges = np.linspace(_mel(config.low_freq), _mel(config.upper_freq), config.num_mel_bins + 2)
    if vtln_warp != 1.0:
        edges = _mel(warp_frequency(_hertz(edges), vtln_warp, config))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(config.sample_rate / config.fft_length * np.arange(num_bins))[:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return np.concatenate([filters, np.zeros((config.fft_length // 2 + 1 - num_bins, config.num_mel_bins))])
