"""Samples -> embedding, with the front end that the model file names."""

import contextlib
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from speakerkit.errors import RecordingError
from speakerkit.features.fbank import num_frames
from speakerkit.features.resample import resample
from speakerkit.io.recordings import Recording
from speakerkit.models import device as devices
from speakerkit.models import model_file
from speakerkit.models.folding import prepare_for_inference
from speakerkit.models.golden import prepare_features
from speakerkit.models.model_file import ModelInfo


@dataclass(frozen=True)
class Extractor:
    """A loaded model, ready to embed one utterance after another. Safe to call from several threads."""

    network: nn.Module
    info: ModelInfo
    path: str
    sha256: str
    device: torch.device
    precision: torch.dtype

    @property
    def embedding_dim(self) -> int:
        """Values an embedding."""
        return self.info.embedding_dim

    @property
    def precision_name(self) -> str:
        """float32 or bfloat16."""
        return devices.precision_name(self.precision)

    @torch.inference_mode()
    def embed_samples(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """The embedding of one whole utterance; the same whatever came before.

        Args:
            samples: (num_samples,) float32 in [-1, 1].
            sample_rate: their rate in Hz; another than the model's is resampled.

        Returns:
            (embedding_dim,) float32, finite, not length-normalised.

        Raises:
            RecordingError: too-short (less than one frame), nan-embedding, zero-embedding; its path
                is "samples".
        """
        fbank = self.info.fbank
        samples = resample(samples, sample_rate, fbank.sample_rate)
        if num_frames(len(samples), fbank) < 1:
            raise RecordingError("samples", "too-short", f"{len(samples)} samples; want at least {fbank.frame_length}")
        features = prepare_features(torch.from_numpy(samples).to(self.device), fbank, self.info.model)
        embedding = self.network(features.to(self.precision))[0].float().cpu().numpy()
        check_embedding(embedding, "samples")
        return embedding


def embed_recording(extractor: Extractor, recording: Recording) -> np.ndarray:
    """The embedding of a recording, the same bytes in any thread and beside any others.

    Returns:
        (embedding_dim,) float32, not length-normalised.

    Raises:
        RecordingError: as embed_samples does, under the recording's name.
    """
    try:
        with devices.one_thread() if extractor.device.type == "cpu" else contextlib.nullcontext():
            return extractor.embed_samples(recording.samples, recording.sample_rate)
    except RecordingError as error:  # the extractor knows samples, not where they are from
        raise RecordingError(recording.name, error.reason, error.detail) from None


def check_embedding(embedding: np.ndarray, path: str) -> None:
    """Refuse what no score may be computed from.

    Raises:
        RecordingError: nan-embedding or zero-embedding.
    """
    if not np.isfinite(embedding).all():
        raise RecordingError(path, "nan-embedding", "the network gave values that aren't finite")
    if not embedding.any():
        raise RecordingError(path, "zero-embedding", "the network gave zeros only")


def load_extractor(model: str | os.PathLike | None, device: str = "auto", precision: str = "auto") -> Extractor:
    """Load a model for extraction; its weights' SHA-256 and golden vector are checked.

    Args:
        model: what ``models.model_file.find_model`` takes.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or bfloat16.

    Raises:
        DataError: no such model, or one that is damaged.
        ConfigError: a device that isn't there.
    """
    loaded = model_file.load_model(model_file.find_model(model), golden=False)
    where = devices.choose_device(device)
    chosen = devices.choose_precision(precision, where)
    network = prepare_for_inference(loaded.network, where, chosen)
    model_file.check_golden(network, loaded.info, loaded.path, devices.precision_name(chosen))
    return Extractor(network, loaded.info, loaded.path, loaded.sha256, where, chosen)
