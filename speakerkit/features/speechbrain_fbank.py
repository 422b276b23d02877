"""SpeechBrain's filterbank, which its published models need: no Kaldi in it.

Frames centred on multiples of the shift with zeros beyond both ends, a periodic Hamming window, no
pre-emphasis; triangles that are symmetric in Hz; decibels, cut 80 dB below the utterance's loudest value.
"""

import functools

import torch

from speakerkit.config import FbankConfig
from speakerkit.features.framing import BLOCK_FRAMES, RANGE_DB, SMALLEST_ENERGY, periodic_hamming, symmetric_filters


@functools.lru_cache(maxsize=64)
def _constants(config: FbankConfig, device: torch.device, vtln_warp: float) -> tuple[torch.Tensor, torch.Tensor]:
    window = torch.from_numpy(periodic_hamming(config.frame_length)).to(device, torch.float32)
    return window, torch.from_numpy(symmetric_filters(config, vtln_warp)).to(device, torch.float32)


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
