"""Recordings decoded and resampled by workers, their samples in memory that the parent shares with them."""

import contextlib
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.features.resample import resample
from speakerkit.jobs import utterance_embedding

# Of audio whose batches are cut together: a part, and what its recordings may have more than their headers say;
# 237 MB at 16 kHz. In smaller windows more of each batch is padding.
WINDOW_S = 3700.0
WINDOWS = 2  # in memory: one is embedded while the next is decoded
SLACK = 32  # samples that a recording may have more than its header says, resampling included


@dataclass(frozen=True)
class DecodeTask:
    """One utterance, and where its samples go."""

    task: utterance_embedding.Task
    sample_rate: int  # the model's
    window: int
    first: int  # of the samples kept for it in the window's memory
    room: int  # how many those are; 0: it is too long
    read_alone: bool  # not here, but by the parent in blocks


@dataclass
class Decoded:
    """What a worker gives back for one utterance."""

    num_samples: int = 0  # to be embedded, at the model's rate
    samples: np.ndarray | None = None  # where they have no room in the shared memory
    error: RecordingError | None = None
    sample_rate: int = 0
    duration_s: float = 0.0
    speech_s: float = 0.0
    notes: Counter = field(default_factory=Counter)


class SampleStore:
    """The samples of WINDOWS windows, in memory that processes forked later share."""

    def __init__(self, sample_rate: int):
        self.capacity = int(WINDOW_S * sample_rate)
        self.memory = [np.frombuffer(mmap.mmap(-1, 4 * self.capacity), np.float32) for _ in range(WINDOWS)]

    def place(self, task: DecodeTask) -> np.ndarray:
        """The samples kept for a task: a view."""
        return self.memory[task.window % WINDOWS][task.first : task.first + task.room]


_store: SampleStore | None = None  # of this process; workers inherit it by fork


@contextlib.contextmanager
def shared_samples(sample_rate: int) -> Iterator[None]:
    """While this lasts there is memory that workers forked meanwhile write to."""
    global _store
    _store = SampleStore(sample_rate)
    try:
        yield
    finally:
        _store = None


def cut_windows(
    parts: Iterable[Sequence[utterance_embedding.Task]], sample_rate: int, in_blocks: bool
) -> Iterator[list[DecodeTask]]:
    """Windows of at most WINDOW_S of audio, none of them over the end of a part.

    So a run that goes on where another stopped forms the same batches, and the same bytes.

    Args:
        parts: utterances, in the list's order.
        sample_rate: the model's.
        in_blocks: whether the model takes long recordings block by block.
    """
    number, capacity = 0, int(WINDOW_S * sample_rate)
    for part in parts:
        window, used = [], 0
        for task in part:
            read_alone = in_blocks and utterance_embedding.is_long(task) and task[2] > WINDOW_S
            room = 0 if read_alone else int(task[2] * sample_rate) + SLACK
            room = room if room <= capacity else 0
            if window and used + room > capacity:
                yield window
                number, window, used = number + 1, [], 0
            window.append(DecodeTask(task, sample_rate, number, used, room, read_alone))
            used += room
        if window:
            yield window
            number += 1


def decode(task: DecodeTask) -> Decoded:
    """Read, choose and resample one utterance, in a worker."""
    if task.read_alone:
        return Decoded()
    utterance, options, _ = task.task
    notes: Counter = Counter()
    try:
        samples, speech, rate = utterance_embedding.load_speech(utterance, options, notes)
    except RecordingError as error:  # the detector knows samples, not where they are from
        return Decoded(error=RecordingError(utterance.path, error.reason, error.detail), notes=notes)
    found = Decoded(0, None, None, rate, len(samples) / rate, len(speech) / rate, notes)
    speech = resample(speech, rate, task.sample_rate)
    found.num_samples = len(speech)
    if _store is not None and len(speech) <= task.room:
        _store.place(task)[: len(speech)] = speech
    else:
        found.samples = speech
    return found


def samples_of(task: DecodeTask, decoded: Decoded) -> np.ndarray:
    """(num_samples,) float32 that a worker has decoded; a view that its window's successor overwrites."""
    return _store.place(task)[: decoded.num_samples] if decoded.samples is None else decoded.samples


def describe_task(task: DecodeTask) -> str:
    """For the message about a worker that died."""
    return utterance_embedding.describe_task(task.task)
