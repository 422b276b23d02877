"""One recording in whatever form to its embedding: the bytes that extract-embeddings writes, long ones in blocks."""

import contextlib
import io
import os
from collections import Counter
from collections.abc import Callable

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.inference.extractor import Extractor, embed_recording, embed_stream
from speakerkit.io.audio import AudioOptions
from speakerkit.io.audio_stream import StreamFault, open_stream
from speakerkit.io.recordings import (
    AnyRecording,
    Recording,
    is_file_like,
    load_or_stream,
    load_recording,
    stream_recording,
)
from speakerkit.io.samples import is_samples
from speakerkit.io.sound_file import file_name, take_bytes
from speakerkit.jobs.utterances import Utterance, load_utterance

Listener = Callable[[AnyRecording], AnyRecording]  # what is made of a loaded recording before it is embedded


def embed_thing(extractor: Extractor, thing, sample_rate: float | None, options: AudioOptions, name: str | None = None,
                hear: Listener | None = None) -> tuple[np.ndarray, Counter]:
    """The embedding of what ``io.recordings.load_recording`` takes, and the notes it gives rise to.

    A file's content that is given as bytes or by a file object is decoded in blocks too; the bytes stay as they are.

    Raises:
        ValueError, RecordingError: as ``load_recording`` and ``embed_recording`` do.
    """
    if hear is None and sample_rate is None and is_file_like(thing) and not is_samples(thing):
        source = thing
        if not isinstance(thing, (str, os.PathLike)):
            called, source = take_bytes(thing)
            thing = io.BytesIO(source)  # a file object is read once
            thing.name = called
        embedded = _embed_long(extractor, source, options, name=file_name(thing) if name is None else name)
        if embedded is not None:
            return embedded
    if hear is None:
        recording = load_recording(thing, sample_rate, options, name)
    else:
        recording = hear(load_or_stream(thing, sample_rate, options, name))
    return embed_recording(extractor, recording), recording.notes


def embed_utterance(extractor: Extractor, utterance: Utterance, options: AudioOptions,
                    hear: Listener | None = None) -> tuple[np.ndarray, Counter]:
    """The same of an utterance of a list."""
    place, recording = (utterance.path, options, utterance.start_s, utterance.end_s), None
    if hear is None and not utterance.joined:
        embedded = _embed_long(extractor, *place)
        if embedded is not None:
            return embedded
    elif not utterance.joined:
        recording = stream_recording(*place)
    if recording is None:
        notes: Counter = Counter()
        recording = Recording(utterance.path, *load_utterance(utterance, options, notes), notes)
    recording = recording if hear is None else hear(recording)
    return embed_recording(extractor, recording), recording.notes


def _embed_long(extractor: Extractor, source: str | os.PathLike | bytes, options: AudioOptions,
                start_s: float | None = None, end_s: float | None = None,
                name: str | None = None) -> tuple[np.ndarray, Counter] | None:
    """The embedding of a recording in blocks; None where it is short, or loading it at once says what is wrong."""
    if not extractor.runner.in_parts:
        return None
    try:
        stream = open_stream(source, options, start_s, end_s)
        if stream is None:
            return None
        notes: Counter = Counter()
        with contextlib.suppress(StreamFault):
            return embed_stream(extractor, stream, os.fspath(source) if name is None else name, notes), notes
    except RecordingError as error:
        if error.reason in ("nan-embedding", "zero-embedding"):
            raise
    return None
