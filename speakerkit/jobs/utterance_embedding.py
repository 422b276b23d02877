"""One utterance to its embedding, in whichever process: the model that is loaded there, once."""

import contextlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.io import audio
from speakerkit.io.audio_stream import LONG_S, StreamFault, open_stream
from speakerkit.jobs.utterances import Utterance, load_utterance


@dataclass
class Embedded:
    """What a worker gives back for one utterance."""

    embedding: np.ndarray | None = None
    error: RecordingError | None = None
    sample_rate: int = 0
    duration_s: float = 0.0
    speech_s: float = 0.0  # what of it was embedded
    notes: Counter = field(default_factory=Counter)


Task = tuple[Utterance, audio.AudioOptions, float]  # with its length in seconds, as the header says it

_choice = None  # the model of this process and how it is run
_extractor = None  # the same, loaded; workers inherit it by fork where the library allows that
_detector = None


def embed_utterance(task: Task) -> Embedded:
    """One utterance by itself, in a worker; its length decides how it is read."""
    from speakerkit.inference.extractor import embed_stream

    utterance, options, _ = task
    notes: Counter = Counter()
    try:
        stream = None
        if is_long(task) and loaded_extractor().runner.in_parts:
            stream = open_stream(utterance.path, options, utterance.start_s, utterance.end_s)
        if stream is not None:
            with contextlib.suppress(StreamFault):  # loading it at once says what is wrong
                duration_s = stream.num_samples / stream.sample_rate
                if _detector is not None:
                    stream = _detector.keep_speech_of_stream(stream, options.min_duration_s)
                embedding = embed_stream(loaded_extractor(), stream, utterance.path, notes)
                speech_s = stream.num_samples / stream.sample_rate
                return Embedded(embedding, None, stream.sample_rate, duration_s, speech_s, notes)
            notes.clear()
        samples, speech, rate = load_speech(utterance, options, notes)
        embedding = loaded_extractor().embed_samples(speech, rate)
        return Embedded(embedding, None, rate, len(samples) / rate, len(speech) / rate, notes)
    except RecordingError as error:  # the extractor knows samples, not where they are from
        return Embedded(error=RecordingError(utterance.path, error.reason, error.detail), notes=notes)


def is_long(task: Task) -> bool:
    """Whether a recording is read in blocks, never as a whole, by a model that can be run in parts."""
    utterance, _, seconds = task
    return seconds >= LONG_S and not utterance.joined


def load_speech(
    utterance: Utterance, options: audio.AudioOptions, notes: Counter
) -> tuple[np.ndarray, np.ndarray, int]:
    """An utterance's samples, what of them is to be embedded, and their rate."""
    samples, rate = load_utterance(utterance, options, notes)
    speech = samples if _detector is None else _detector.keep_speech(samples, rate, options.min_duration_s)
    return samples, speech, rate


def describe_task(task: Task) -> str:
    """For the message about a worker that died."""
    return task[0].path


def choose_model(model, device: str, precision: str, backend: str, nj: int, vad: bool):
    """Model and library; loaded in this process, with one thread, where workers forked from here may share it.

    Args:
        model, device, precision, backend: as ``inference.backends.choose_backend`` takes them.
        nj: worker processes that will follow.
        vad: whether a detector chooses what of a recording is speech.
    """
    global _choice, _extractor, _detector
    from speakerkit.inference.backends import choose_backend

    _choice, _extractor = choose_backend(model, device, precision, backend, forks=nj > 1), None
    if nj == 1 or _choice.backend != "openvino":  # whose threads a fork would lose
        set_up(_choice)
        loaded_extractor()
    if vad:
        from speakerkit.inference.speech_detector import load_detector

        _detector = load_detector()
    else:
        _detector = None
    return _choice


def set_up(choice) -> None:
    """One thread a process, and memory that is kept; what a worker needs to load the model itself."""
    global _choice
    from speakerkit.models import device

    _choice = choice
    device.keep_freed_memory()
    if choice.backend == "torch":
        import torch

        torch.set_num_threads(1)


def loaded_extractor():
    """The extractor of this process, loaded when the first utterance comes."""
    global _extractor
    from speakerkit.inference.loading import start_extractor
    from speakerkit.models import device

    if _extractor is None:
        _extractor = start_extractor(_choice)
        device.release_freed_memory()
    return _extractor
