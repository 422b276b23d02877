"""A model's golden vector: the embedding of a fixed two-second signal, kept in its file and checked at load."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import DataError

if TYPE_CHECKING:  # a model that runs without torch is checked without it
    import torch
    from torch import nn

SECONDS = 2.0
SEED = 1
LEAST_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.9}  # int8: of weights as drawn it is less sure


class GoldenError(DataError):
    """A model that gives another embedding for its golden signal than the one its file holds."""


def golden_signal(sample_rate: int) -> np.ndarray:
    """(2 s * sample_rate,) float32: seeded noise that swells and fades over a hum, the same on every machine."""
    count = int(SECONDS * sample_rate)
    time = np.arange(count) / sample_rate
    noise = np.random.default_rng(SEED).random(count) - 0.5
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 3.0 * time)
    hum = sum(np.sin(2 * np.pi * 120.0 * k * time) / k for k in range(1, 20))
    return (0.2 * swell * (noise + 0.3 * hum)).astype(np.float32)


def prepare_features(
    samples: "torch.Tensor",
    fbank: FbankConfig,
    model: ModelConfig,
    vtln_warp: float = 1.0,
    lengths: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """Features as the network wants them, of one utterance or of a padded batch.

    Args:
        samples: (num_samples,), or (batch, num_samples) with ``lengths``, at the fbank's rate.
        fbank, model: what the model file says.
        vtln_warp: through a longer (under 1) or shorter vocal tract, as ``compute_fbank`` says.
        lengths: (batch,) int64 true numbers of samples.

    Returns:
        (1 or batch, num_frames, columns); frames past an utterance's end mean nothing.

    Dither, where a model asks for it, is drawn from one fixed seed for each utterance: an embedding never
    depends on what came before, nor on what lies beside it.
    """
    import torch

    from speakerkit.features.fbank import compute_fbank
    from speakerkit.features.framing import num_frames
    from speakerkit.features.mean_norm import subtract_mean

    if lengths is not None and fbank.dither > 0:
        alone = [prepare_features(row[:length], fbank, model, vtln_warp)[0]
                 for row, length in zip(samples, lengths.tolist(), strict=True)]
        return torch.nn.utils.rnn.pad_sequence(alone, batch_first=True)
    if lengths is not None:
        features = compute_fbank(samples, fbank, lengths, vtln_warp=vtln_warp)
        return subtract_mean(features, num_frames(lengths, fbank)) if model.mean_norm else features
    dither = torch.Generator(samples.device).manual_seed(0) if fbank.dither > 0 else None
    features = compute_fbank(samples, fbank, generator=dither, vtln_warp=vtln_warp)
    return (subtract_mean(features) if model.mean_norm else features).unsqueeze(0)


def golden_embedding(network: "nn.Module", fbank: FbankConfig, model: ModelConfig) -> np.ndarray:
    """(embedding_dim,) float32 of the golden signal, on the network's device and in its precision."""
    import torch

    weight = next(network.parameters())
    with torch.inference_mode():
        samples = torch.from_numpy(golden_signal(fbank.sample_rate)).to(weight.device)
        features = prepare_features(samples, fbank, model).to(weight.dtype)
        return network(features)[0].float().cpu().numpy()


def compare_golden(
    embedding: np.ndarray, stored: Sequence[float], path: str | os.PathLike, precision: str
) -> float:
    """Cosine between an embedding of the golden signal and the one that a file holds.

    Raises:
        GoldenError: it is below what the precision allows: weights that need more, are damaged, or a machine that
            computes wrongly.
    """
    ours, stored = embedding.astype(np.float64), np.array(stored)
    fits = len(stored) == len(ours)
    cosine = float(ours @ stored / max(np.linalg.norm(ours) * np.linalg.norm(stored), 1e-30)) if fits else 0.0
    if not cosine >= LEAST_COSINE[precision]:
        raise GoldenError(
            path,
            f"gives another embedding for its golden signal: cosine {cosine:.7f}; "
            f"want at least {LEAST_COSINE[precision]} in {precision}",
        )
    return cosine
