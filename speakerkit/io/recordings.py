"""One recording in whatever form a caller has it -> checked samples with the name that messages use."""

import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from speakerkit.io import audio, samples
from speakerkit.io.sound_file import BYTES, file_name


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
        raise ValueError(f"sample_rate={sample_rate!r} is for arrays; a file says its own (headerless .pcm: pcm_rate)")
    notes: Counter = Counter()
    values, rate = audio.load_audio(thing, options, notes=notes)
    return Recording(file_name(thing) if name is None else name, values, rate, notes)


def is_file_like(thing) -> bool:
    """Whether something is a path, a file's bytes, or an object that reads."""
    return isinstance(thing, (str, os.PathLike, *BYTES)) or hasattr(thing, "read")
