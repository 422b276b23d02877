"""One recording in whatever form a caller has it -> checked samples with the name that messages use."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import RecordingError, raise_all
from speakerkit.io import audio, samples
from speakerkit.io.audio_stream import AudioStream, StreamFault, open_stream
from speakerkit.io.sound_file import BYTES, file_name, take_bytes

EXCERPT_S = 300.0

_RATE_OF_A_FILE = "sample_rate={!r} is for arrays; a file says its own (headerless .pcm: pcm_rate)"


@dataclass(frozen=True, eq=False)
class Recording:
    """Mono samples, checked, and where they are from."""

    name: str
    samples: np.ndarray  # (num_samples,) float32 in [-1, 1]
    sample_rate: int     # Hz
    notes: Counter = field(default_factory=Counter)  # of audio.NOTES

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate

    @functools.cached_property
    def sha256(self) -> str:
        """Of the samples: the same whatever held them."""
        return hashlib.sha256(self.samples.tobytes()).hexdigest()

    @property
    def excerpt(self) -> np.ndarray:
        """What its quality is measured on: all of it."""
        return self.samples


@dataclass(frozen=True, eq=False)
class LongRecording:
    """A minute or more of mono samples, decoded once to check them, and again in blocks by who embeds them."""

    name: str
    stream: AudioStream
    sha256: str          # of the samples, as Recording's
    excerpt: np.ndarray  # the first EXCERPT_S of them, for a look at their quality
    notes: Counter = field(default_factory=Counter)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.stream.sample_rate

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.stream.num_samples / self.stream.sample_rate

    def keep(self, stream: AudioStream) -> "LongRecording":
        """The same of what a stream keeps of it; StreamFault where it has changed since it was checked."""
        return dataclasses.replace(self, stream=stream, excerpt=_beginning(stream))

    def load(self) -> Recording:
        """All of it, or of what is kept of it, at once."""
        notes: Counter = Counter()
        stream = self.stream
        if stream.stretches is not None:
            try:
                kept = list(stream.blocks(notes))
            except StreamFault:
                raise RecordingError(self.name, "unreadable", "has changed while it was read") from None
            return Recording(self.name, np.concatenate(kept), stream.sample_rate, notes)
        values, rate = audio.load_audio(stream.path, stream.options, stream.start_s, stream.end_s, notes)
        return Recording(self.name, values, rate, notes)


AnyRecording = Recording | LongRecording


def load_recording(thing, sample_rate: float | None = None, options: audio.AudioOptions | None = None,
                   name: str | None = None) -> Recording:
    """A recording from a path, the bytes of a file, a binary file object, a numpy array or a torch tensor.

    Args:
        thing: as said; a file object is read from where it stands to its end, and needn't seek.
        sample_rate: Hz, of an array or tensor; files say theirs.
        options: channel, durations and what is accepted; None: AudioOptions().
        name: what errors and warnings call it; None: its path, else `samples` or `<bytes>`.

    Raises:
        ValueError: none of these, an array without a rate, a rate for a file: the caller's mistake.
        RecordingError: what io.audio.load_audio and io.samples.take_samples raise.
    """
    options = options or audio.AudioOptions()
    if samples.is_samples(thing):
        name = samples.NAME if name is None else name
        return Recording(name, *samples.take_samples(thing, sample_rate, options, name))
    if not is_file_like(thing):
        raise ValueError(f"a recording is a path, bytes, a binary file object, a numpy array or a torch tensor, "
                         f"not {type(thing).__name__}")
    if sample_rate is not None:
        raise ValueError(_RATE_OF_A_FILE.format(sample_rate))
    notes: Counter = Counter()
    values, rate = audio.load_audio(thing, options, notes=notes)
    return Recording(file_name(thing) if name is None else name, values, rate, notes)


def load_or_stream(thing, sample_rate: float | None = None, options: audio.AudioOptions | None = None,
                   name: str | None = None) -> AnyRecording:
    """The same, but a file of a minute or more is checked in blocks, in constant memory, and stays where it is.

    A file object is read to its end; its content, not its samples, is then in memory.

    Raises:
        ValueError, RecordingError: as load_recording does.
    """
    options = options or audio.AudioOptions()
    if not is_file_like(thing) or samples.is_samples(thing) or sample_rate is not None:
        return load_recording(thing, sample_rate, options, name)
    called, source = file_name(thing), thing
    if not isinstance(thing, (str, os.PathLike)):
        called, source = take_bytes(thing)
        thing = io.BytesIO(source)  # a file object is read once
        thing.name = called
    called = called if name is None else name
    return stream_recording(source, options, name=called) or load_recording(thing, None, options, called)


def stream_recording(source: str | os.PathLike | bytes, options: audio.AudioOptions, start_s: float | None = None,
                     end_s: float | None = None, name: str | None = None) -> LongRecording | None:
    """A recording or segment of a minute or more, checked; None: it is shorter, or loading it says what is wrong.

    Args:
        source: a file, or its content.
        options: how it is taken.
        start_s, end_s: where the segment begins and ends, in seconds, as open_stream has them.
        name: what errors call it; None: the path.
    """
    with contextlib.suppress(RecordingError, StreamFault):
        stream = open_stream(source, options, start_s, end_s)
        if stream is not None:
            return _check_long(os.fspath(source) if name is None else name, stream)
    return None


def _check_long(name: str, stream: AudioStream) -> LongRecording:
    digest, notes, excerpt, wanted = hashlib.sha256(), Counter(), [], round(EXCERPT_S * stream.sample_rate)
    for block in stream.blocks(notes):
        digest.update(block)
        if wanted > 0:
            excerpt.append(block[:wanted])
            wanted -= len(excerpt[-1])
    return LongRecording(name, stream, digest.hexdigest(), np.concatenate(excerpt), notes)


def _beginning(stream: AudioStream) -> np.ndarray:
    """The first EXCERPT_S of a stream."""
    blocks, wanted = [], round(EXCERPT_S * stream.sample_rate)
    for block in stream.blocks():
        blocks.append(block[:wanted])
        wanted -= len(blocks[-1])
        if wanted <= 0:
            break
    return np.concatenate(blocks)


def is_file_like(thing) -> bool:
    """Whether something is a path, a file's bytes, or an object that reads."""
    return isinstance(thing, (str, os.PathLike, *BYTES)) or hasattr(thing, "read")


def load_all(items: Sequence[tuple], options: audio.AudioOptions | None = None) -> list[AnyRecording]:
    """All of several recordings, given as (thing, sample_rate, name), or all that is wrong with them.

    Args:
        items: as said; long ones stay where they are, as load_or_stream has it.
        options: how they are taken.

    Raises:
        ValueError: as load_recording does.
        RecordingError, DataErrors: those that can't be used.
    """
    loaded: list[AnyRecording] = []
    faults: list[RecordingError] = []
    for thing, rate, name in items:
        try:
            loaded.append(load_or_stream(thing, rate, options, name))
        except RecordingError as error:
            faults.append(error)
    raise_all(faults)
    return loaded


def label_all(things: Sequence, sample_rate: float | Sequence[float | None] | None) -> list[tuple]:
    """(thing, sample_rate, name) of several recordings; what has no name of its own is called by its place.

    Args:
        things: what load_recording takes.
        sample_rate: Hz, one for all arrays among them, or one for each of the things.

    Raises:
        ValueError: something that is no recording, or rates that don't fit.
    """
    for place, thing in enumerate(things):
        if not samples.is_samples(thing) and not is_file_like(thing):
            raise ValueError(f"item {place} is {type(thing).__name__}; want a path, bytes, a binary file object, or "
                             "an array with sample_rate=")
    if isinstance(sample_rate, (list, tuple)):
        if len(sample_rate) != len(things):
            raise ValueError(f"{len(sample_rate)} sample rates for {len(things)} recordings")
        rates = list(sample_rate)
    elif sample_rate is not None and things and not any(map(samples.is_samples, things)):
        raise ValueError(_RATE_OF_A_FILE.format(sample_rate))
    else:
        rates = [sample_rate if samples.is_samples(thing) else None for thing in things]
    names = [f"recordings[{place}]" if samples.is_samples(thing) or isinstance(thing, BYTES) else None
             for place, thing in enumerate(things)]
    return list(zip(things, rates, names, strict=True))
