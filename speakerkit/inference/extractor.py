"""Samples -> embedding, with the front end that the model file names."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.features.framing import num_frames
from speakerkit.features.resample import resample, resample_blocks
from speakerkit.inference.choice import Choice
from speakerkit.inference.long_recordings import Blocks, embed_long, is_long
from speakerkit.inference.whole_recordings import check_room
from speakerkit.io.audio_stream import LONG_S, AudioStream, StreamFault
from speakerkit.io.recordings import AnyRecording, LongRecording
from speakerkit.models import device as devices
from speakerkit.models.model_info import ModelInfo


class Runner(Protocol):
    """What a library that runs a model is asked for; with ``in_parts`` also what ``long_recordings.Parts`` is."""

    in_parts: bool

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """(num_samples,) float32 at the model's rate, at least one frame, to (embedding_dim,) float32."""


@dataclass(frozen=True)
class Extractor:
    """A loaded model, ready to embed one utterance after another. Safe to call from several threads."""

    runner: Runner
    choice: Choice
    golden_cosine: float  # to the embedding of a fixed signal that the file holds

    @property
    def info(self) -> ModelInfo:
        """What the model file says of itself."""
        return self.choice.info

    @property
    def path(self) -> str:
        """The model file."""
        return self.choice.path

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole model file."""
        return self.choice.sha256

    @property
    def backend(self) -> str:
        """torch, onnx or openvino."""
        return self.choice.backend

    @property
    def device(self) -> str:
        """cpu, cuda or cuda:N."""
        return self.choice.device

    @property
    def precision_name(self) -> str:
        """float32, bfloat16 or, of a quantised model, int8."""
        return self.choice.precision

    @property
    def embedding_dim(self) -> int:
        """Values an embedding."""
        return self.info.embedding_dim

    def embed_samples(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """The embedding of one whole utterance; the same whatever came before.

        Args:
            samples: (num_samples,) float32 in [-1, 1].
            sample_rate: their rate in Hz; another than the model's is resampled.

        Returns:
            (embedding_dim,) float32, finite, not length-normalised.

        Raises:
            RecordingError: too-short (less than one frame), too-long (more than memory holds, of a network that
                sees a recording whole), nan-embedding, zero-embedding; its path is "samples".

        What is longer than some 20 s is run in overlapping stretches where the architecture allows it:
        the same embedding, and memory that doesn't grow.
        """
        fbank = self.info.fbank
        samples = resample(samples, sample_rate, fbank.sample_rate)
        if num_frames(len(samples), fbank) < 1:
            raise RecordingError("samples", "too-short", f"{len(samples)} samples; want at least {fbank.frame_length}")
        if is_long(len(samples), fbank):
            if self.runner.in_parts:
                return self.embed_blocks(lambda: [samples])
            if self.device == "cpu":
                check_room(self.info.model, len(samples) / fbank.sample_rate)
        embedding = self.runner.embed(samples)
        check_embedding(embedding, "samples")
        return embedding

    def embed_blocks(self, blocks: Blocks) -> np.ndarray:
        """The same of a recording that comes in stretches, in constant memory.

        Args:
            blocks: called for each of two passes, gives the samples at the model's rate, one after another.

        Raises:
            RecordingError: as ``embed_samples``, and what ``blocks`` raises.
        """
        if not self.runner.in_parts:
            return self.embed_samples(np.concatenate(list(blocks())), self.info.fbank.sample_rate)
        embedding = embed_long(self.runner, self.info, blocks)
        check_embedding(embedding, "samples")
        return embedding


def embed_recording(extractor: Extractor, recording: AnyRecording) -> np.ndarray:
    """The embedding of a recording, the same bytes in any thread and beside any others.

    Returns:
        (embedding_dim,) float32, not length-normalised.

    Raises:
        RecordingError: as embed_samples does, under the recording's name; unreadable, where a long one has changed
            since it was checked.
    """
    if isinstance(recording, LongRecording):
        if extractor.runner.in_parts:
            try:
                return embed_stream(extractor, recording.stream, recording.name, Counter())
            except StreamFault:
                raise RecordingError(recording.name, "unreadable", "has changed while it was read") from None
        recording = recording.load()
    try:
        with _as_in_a_worker(extractor):
            return extractor.embed_samples(recording.samples, recording.sample_rate)
    except RecordingError as error:  # the extractor knows samples, not where they are from
        raise RecordingError(recording.name, error.reason, error.detail) from None


def embed_stream(extractor: Extractor, stream: AudioStream, name: str, notes: Counter) -> np.ndarray:
    """The embedding of a long recording, decoded once for its mean and once for its embedding, in constant memory.

    One of which little is kept is embedded as a short one is.

    Args:
        extractor: of a model that can be run in parts.
        stream: the recording.
        name: what errors call it.
        notes: counts the NOTES that the recording gives rise to.

    Raises:
        RecordingError: as embed_samples does, under ``name``.
        StreamFault: something is wrong with the samples.
    """
    model_rate = extractor.info.fbank.sample_rate
    passes = iter([notes])  # counted once

    def blocks() -> Iterator[np.ndarray]:
        return resample_blocks(stream.blocks(next(passes, None)), stream.sample_rate, model_rate)

    try:
        with _as_in_a_worker(extractor):
            if stream.num_samples < LONG_S * stream.sample_rate:
                return extractor.embed_samples(np.concatenate(list(stream.blocks(notes))), stream.sample_rate)
            return extractor.embed_blocks(blocks)
    except RecordingError as error:
        raise RecordingError(name, error.reason, error.detail) from None


def _as_in_a_worker(extractor: Extractor) -> contextlib.AbstractContextManager:
    uses_torch = extractor.backend == "torch" and extractor.device == "cpu"
    return devices.one_thread() if uses_torch else contextlib.nullcontext()


def check_embedding(embedding: np.ndarray, path: str) -> None:
    """Refuse what no score may be computed from.

    Raises:
        RecordingError: nan-embedding or zero-embedding.
    """
    if not np.isfinite(embedding).all():
        raise RecordingError(path, "nan-embedding", "the network gave values that aren't finite")
    if not embedding.any():
        raise RecordingError(path, "zero-embedding", "the network gave zeros only")
