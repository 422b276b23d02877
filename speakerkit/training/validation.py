"""The equal error rate on held-out trials while training."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import DataError
from speakerkit.features.resample import resample
from speakerkit.io import audio
from speakerkit.models.golden import prepare_features
from speakerkit.scoring.cosine import cosine_scores
from speakerkit.scoring.metrics import compute_metrics


@dataclass(frozen=True)
class ValidationSet:
    """Features of whole utterances, as the network wants them, and the trials between them."""

    features: list[torch.Tensor]  # (1, num_frames, bins) each
    enrol_index: np.ndarray  # (num_trials,) into features
    test_index: np.ndarray
    is_target: np.ndarray  # (num_trials,) bool
    trials_path: str


def load_features(
    path: str,
    start_s: float | None,
    end_s: float | None,
    fbank: FbankConfig,
    model: ModelConfig,
    options: audio.AudioOptions,
) -> torch.Tensor:
    """(1, num_frames, bins) of one recording or a segment of it."""
    samples, rate = audio.load_audio(path, options, start_s, end_s)
    samples = torch.from_numpy(resample(samples, rate, fbank.sample_rate))
    return prepare_features(samples, fbank, model)


@torch.inference_mode()
def validation_metrics(network: nn.Module, data: ValidationSet, precision: torch.dtype) -> dict[str, int | float]:
    """What ``scoring.metrics.compute_metrics`` says of the network as it stands, one utterance at a time.

    Raises:
        DataError: an embedding that isn't finite, or zero.
    """
    weight = next(network.parameters())
    was_training = network.training
    network.eval()
    rows = []
    for features in data.features:
        with torch.autocast(weight.device.type, precision, enabled=precision != torch.float32):
            rows.append(network(features.to(weight.device))[0].float().cpu().numpy())
    network.train(was_training)
    embeddings = np.stack(rows)
    norms = np.linalg.norm(embeddings, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        raise DataError(data.trials_path, "validation: an embedding is not finite or zero")
    scores = cosine_scores(embeddings, embeddings, data.enrol_index, data.test_index)
    return compute_metrics(scores, data.is_target)
