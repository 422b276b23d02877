"""Kaldi-compatible log-mel filterbank: the only place that computes one.

Follows Kaldi's feature-window.cc and mel-computations.cc: per frame dither, DC removal,
pre-emphasis, window, zero-padding, |DFT|^2, triangular filters on the mel scale
1127 ln(1 + f / 700), floor, natural logarithm. torchaudio's compliance.kaldi.fbank and
kaldi-native-fbank compute the same numbers; the tests hold all three together.
"""

import functools
import math

import torch

from speakerkit.config import FbankConfig
from speakerkit.features.dither import Dither, draw_dither
from speakerkit.features.framing import (
    BLOCK_FRAMES,
    EPSILON,
    Elementary,
    chunk_samples,
    frame_window,
    mel_filters,
    num_frames,
    warp_frequency,
)
from speakerkit.features.speechbrain_fbank import compute_speechbrain_fbank

__all__ = ["chunk_samples", "compute_fbank", "mel_filters", "num_frames", "warp_frequency"]

TORCH = Elementary(  # window and filters come out as torchaudio's, to the bit
    log=lambda values: torch.from_numpy(values).log().numpy(),
    cos=lambda values: torch.from_numpy(values).cos().numpy(),
    sin=lambda values: torch.from_numpy(values).sin().numpy(),
    power=lambda values, exponent: torch.from_numpy(values).pow(exponent).numpy(),
)


@functools.lru_cache(maxsize=64)
def _constants(config: FbankConfig, device: torch.device, vtln_warp: float) -> tuple[torch.Tensor, list[tuple]]:
    """The window, and the filters in two halves: (first bin, last bin + 1, weights between) of each.

    The lower filters are narrow and the upper ones see no low bin, so half of all products are with zeros.
    """
    window = torch.from_numpy(frame_window(config, TORCH)).to(device, torch.float32)
    filters = torch.from_numpy(mel_filters(config, vtln_warp, TORCH)).to(device, torch.float32)
    halves = []
    for part in filters.tensor_split(2, dim=1):
        used = part.any(dim=1).nonzero()[:, 0].tolist() or [0]
        halves.append((used[0], used[-1] + 1, part[used[0] : used[-1] + 1].contiguous()))
    return window, halves


def _cut_frames(
    samples: torch.Tensor, lengths: torch.Tensor | None, config: FbankConfig, first: int, last: int
) -> torch.Tensor:
    """Frames first..last - 1 of the samples, (..., last - first, frame_length).

    Without snip_edges they are centred on multiples of the shift, and beyond either end of the
    signal lies its mirror image.
    """
    if config.snip_edges:
        stretch = samples[..., first * config.frame_shift : (last - 1) * config.frame_shift + config.frame_length]
        return stretch.unfold(-1, config.frame_length, config.frame_shift)
    if lengths is None:
        lengths = torch.full(samples.shape[:-1], samples.shape[-1], device=samples.device)
    start = config.frame_shift // 2 - config.frame_length // 2
    at = (
        torch.arange(first, last, device=samples.device)[:, None] * config.frame_shift
        + start
        + torch.arange(config.frame_length, device=samples.device)
    )  # (last - first, frame_length)
    period = 2 * lengths[..., None, None]
    at = at.expand(*samples.shape[:-1], *at.shape).remainder(period)
    at = torch.where(at < lengths[..., None, None], at, period - 1 - at)
    return samples.gather(-1, at.flatten(-2)).unflatten(-1, (last - first, config.frame_length))


def compute_fbank(
    samples: torch.Tensor,
    config: FbankConfig,
    lengths: torch.Tensor | None = None,
    generator: Dither | None = None,
    vtln_warp: float = 1.0,
) -> torch.Tensor:
    """Log-mel filterbank energies of one utterance or of a padded batch, by the same arithmetic.

    Args:
        samples: (num_samples,) or (batch, num_samples) float32 in [-1, 1], on any device.
        config: its options; samples are multiplied by ``waveform_scale`` first.
        lengths: (batch,) true numbers of samples of a padded batch; only without snip_edges do
            they matter to the valid frames. Frames past ``num_frames(lengths)`` are meaningless.
        generator: draws the dither, as ``draw_dither`` takes it; needed when ``config.dither`` > 0.
        vtln_warp: as if the vocal tract were longer (under 1) or shorter; see ``warp_frequency``.

    Returns:
        (..., num_frames, num_columns) float32: natural logarithms of energies where
        ``use_log_fbank``; the energy column first, or last with ``htk_compat``.

    Raises:
        ValueError: fewer samples than one frame, another dtype or shape, dither without a generator.
    """
    if samples.dtype != torch.float32 or samples.dim() not in (1, 2):
        raise ValueError(
            f"samples are {samples.dtype} of shape {tuple(samples.shape)}; want float32 (n,) or (batch, n)"
        )
    total = num_frames(samples.shape[-1], config)
    if total < 1:
        raise ValueError(f"{samples.shape[-1]} samples are less than one frame of {config.frame_length}")
    if config.dither > 0 and generator is None:
        raise ValueError(f"dither {config.dither} needs a generator")
    if config.filterbank == "speechbrain":
        return compute_speechbrain_fbank(samples, config, lengths, vtln_warp)
    blocks = []
    for first in range(0, total, BLOCK_FRAMES):
        frames = _cut_frames(samples, lengths, config, first, min(first + BLOCK_FRAMES, total))
        blocks.append(_frames_to_fbank(frames, config, generator, vtln_warp))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-2)


def _frames_to_fbank(
    frames: torch.Tensor, config: FbankConfig, generator: Dither | None, vtln_warp: float
) -> torch.Tensor:
    """(..., num_frames, frame_length) samples in [-1, 1] to (..., num_frames, num_columns)."""
    window, filters = _constants(config, frames.device, vtln_warp)
    frames = frames * config.waveform_scale  # a copy: what follows is in place
    if config.dither > 0:
        frames.add_(draw_dither(frames.shape, generator, frames.device), alpha=config.dither)
    if config.remove_dc_offset:
        frames -= frames.mean(dim=-1, keepdim=True)
    energy = _log_energy(frames, config) if config.use_energy and config.raw_energy else None
    padded = _windowed(frames, window, config)
    if config.use_energy and not config.raw_energy:
        energy = _log_energy(padded[..., : config.frame_length], config)
    spectrum = torch.view_as_real(torch.fft.rfft(padded)).square_()
    spectrum = spectrum[..., 0] + spectrum[..., 1]  # a sum over two is ten times as slow
    if not config.use_power:
        spectrum = spectrum.sqrt_()
    mel = torch.cat([spectrum[..., first:last] @ part for first, last, part in filters], dim=-1)
    if config.use_log_fbank:
        mel = mel.clamp_(min=EPSILON).log_()
    if energy is None:
        return mel
    columns = [mel, energy] if config.htk_compat else [energy, mel]
    return torch.cat(columns, dim=-1)


def _windowed(frames: torch.Tensor, window: torch.Tensor, config: FbankConfig) -> torch.Tensor:
    """(..., num_frames, fft_length): pre-emphasised, windowed, and zeros to the end.

    Before a frame's first sample lies, as in Kaldi, the same once more. Product and difference are each rounded, as
    torchaudio's are: in one step (torch.sub's alpha) the quiet bins come out up to 1.5e-3 away from its.
    """
    length = config.frame_length
    padded = frames.new_empty(*frames.shape[:-1], config.fft_length)
    padded[..., length:] = 0.0
    inside = padded[..., :length]
    torch.mul(frames[..., :-1], config.preemphasis, out=inside[..., 1:])
    torch.mul(frames[..., :1], config.preemphasis, out=inside[..., :1])
    torch.sub(frames, inside, out=inside).mul_(window)
    return padded


def _log_energy(frames: torch.Tensor, config: FbankConfig) -> torch.Tensor:
    """(..., num_frames, 1): the logarithm of each frame's energy, floored."""
    energy = frames.square().sum(dim=-1, keepdim=True).clamp(min=EPSILON).log()
    return energy.clamp(min=math.log(config.energy_floor)) if config.energy_floor > 0 else energy
