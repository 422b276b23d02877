"""SpeechBrain's filterbank, which its published models need: no Kaldi in it.

Frames centred on multiples of the shift with zeros beyond both ends, a periodic Hamming window, no
pre-emphasis; triangles that are symmetric in Hz; decibels, cut 80 dB below the utterance's loudest value.
"""

import functools
import math

import torch

from speakerkit.config import FbankConfig
from speakerkit.features.framing import BLOCK_FRAMES, RANGE_DB, SMALLEST_ENERGY, warp_frequency


def periodic_hamming(length: int) -> torch.Tensor:
    """(length,) float32: SpeechBrain's window."""
    return torch.hamming_window(length)


def symmetric_filters(config: FbankConfig, vtln_warp: float = 1.0) -> torch.Tensor:
    """SpeechBrain's triangular filters (frame_length // 2 + 1, num_mel_bins), in float32 from the first step on.

    Centres lie evenly on the scale 2595 log10(1 + f / 700); a triangle's two feet are both as far from its
    centre as the centre before it. Filters worked out in float64 are up to 1e-5 of a peak away from these, which
    deep networks turn into as much of an embedding: published weights were learned with these.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (config.low_freq, config.upper_freq))
    edges = 700 * (10 ** (torch.linspace(low, high, config.num_mel_bins + 2) / 2595) - 1)
    if vtln_warp != 1.0:
        edges = torch.from_numpy(warp_frequency(edges.numpy(), vtln_warp, config)).float()
    centre, width = edges[1:-1], edges.diff()[:-1]
    bins = torch.linspace(0, config.sample_rate // 2, config.frame_length // 2 + 1)
    slope = (bins[:, None] - centre) / width
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)


@functools.lru_cache(maxsize=64)
def _constants(config: FbankConfig, device: torch.device, vtln_warp: float) -> tuple[torch.Tensor, torch.Tensor]:
    return periodic_hamming(config.frame_length).to(device), symmetric_filters(config, vtln_warp).to(device)


def compute_speechbrain_fbank(
    samples: torch.Tensor, config: FbankConfig, lengths: torch.Tensor | None = None, vtln_warp: float = 1.0
) -> torch.Tensor:
    """Decibels of mel energies of one utterance or of a padded batch; ``fbank.compute_fbank`` calls it.

    Args:
        samples: (num_samples,) or (batch, num_samples) float32 in [-1, 1].
        config: with ``filterbank`` "speechbrain".
        lengths: (batch,) true numbers of samples; frames past theirs are meaningless.
        vtln_warp: as ``fbank.compute_fbank`` says.

    Returns:
        (..., num_frames, num_mel_bins) float32.
    """
    window, mel = _constants(config, samples.device, vtln_warp)
    samples = samples * config.waveform_scale
    if lengths is not None:
        samples = samples * (torch.arange(samples.shape[-1], device=samples.device) < lengths[:, None])
    half = config.frame_length // 2
    padded = torch.nn.functional.pad(samples, (half, half))
    frames = padded.unfold(-1, config.frame_length, config.frame_shift)
    blocks = [
        torch.view_as_real(torch.fft.rfft(block * window)).square().sum(dim=-1) @ mel
        for block in frames.split(BLOCK_FRAMES, dim=-2)
    ]
    decibels = 10.0 * torch.cat(blocks, dim=-2).clamp_(min=SMALLEST_ENERGY).log10_()
    valid = decibels
    if lengths is not None:
        steps = torch.arange(decibels.shape[-2], device=samples.device)
        valid = decibels.masked_fill((steps > lengths[:, None] // config.frame_shift)[..., None], -torch.inf)
    return decibels.maximum(valid.amax(dim=(-2, -1), keepdim=True) - RANGE_DB)
