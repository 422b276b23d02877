"""A long recording in blocks, checked as ``audio.load_audio`` checks it, in constant memory."""

import bisect
import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.io import audio, mpeg, ogg, pipes, silence
from speakerkit.io.sound_file import SOUND_ERRORS, Opened, needs_mending, open_recording

LONG_S = 60.0  # shorter recordings are read at once
BLOCK_S = 10.0


class StreamFault(Exception):
    """Something is wrong with the samples; ``load_audio`` says what."""


@dataclass(frozen=True)
class AudioStream:
    """A recording, or a segment of one, whose header has been checked."""

    path: str | bytes  # or a file's content
    options: audio.AudioOptions
    start_s: float | None
    end_s: float | None
    sample_rate: int
    num_samples: int
    stretches: tuple[tuple[int, int], ...] | None = None  # first sample and end of what is kept; None: all

    def keep(self, stretches: Sequence[tuple[int, int]]) -> "AudioStream":
        """The same without what lies outside of stretches, which are in order and don't overlap."""
        return dataclasses.replace(self, stretches=tuple(stretches),
                                   num_samples=sum(end - start for start, end in stretches))

    def blocks(self, notes: Counter | None = None) -> Iterator[np.ndarray]:
        """(at most BLOCK_S, ) float32 of the chosen channel, from the start at every call.

        Args:
            notes: counts the NOTES that the recording gives rise to, when its end is reached.

        What isn't kept is decoded and checked as well.

        Raises:
            StreamFault: cut, damaged, silent, not finite: what ``load_audio`` would refuse.
        """
        notes_here: Counter = Counter()
        with open_recording(self.path, self.options.pcm_rate, self.options.allow_pipes) as opened:
            audio.check_header(opened, self.options, notes_here)
            first, count = audio.segment_span(opened, self.start_s, self.end_s, notes_here)
            peak, active_s, place = 0.0, 0.0, 0
            for block in _decode(opened, first, count, self.options.channel):
                low, high = float(block.min()), float(block.max())
                if not np.isfinite(low) or not np.isfinite(high):
                    raise StreamFault("not finite")
                peak = max(peak, -low, high)
                active_s += silence.active_seconds(block, self.sample_rate)
                yield from self._kept(block, place)
                place += len(block)
        if peak > silence.MAX_PEAK or active_s < silence.MIN_ACTIVE_S:
            raise StreamFault("silent or in another scale")
        notes_here["over-range"] += peak > 1.0
        if notes is not None:
            notes.update(+notes_here)

    def _kept(self, block: np.ndarray, place: int) -> Iterator[np.ndarray]:
        """What of a block is kept that begins at a sample of the recording."""
        if self.stretches is None:
            yield block
            return
        for number in range(bisect.bisect_right(self.stretches, place, key=lambda stretch: stretch[1]),
                            len(self.stretches)):
            start, end = self.stretches[number]
            if start >= place + len(block):
                return
            yield block[max(0, start - place):end - place]


def open_stream(path: str | os.PathLike | bytes, options: audio.AudioOptions, start_s: float | None = None,
                end_s: float | None = None) -> AudioStream | None:
    """A recording as a stream, where it is long and can be one; None where it is to be loaded at once.

    Args:
        path: a file, or its content; a pipe is never a stream, for it would run twice.
        options: how it is taken; nothing cut is accepted of a stream.
        start_s: where the segment begins, in seconds; None: at the start.
        end_s: where it ends; None or below 0: at the end.

    Raises:
        RecordingError: what ``audio.load_audio`` refuses by the header.
    """
    path = path if isinstance(path, bytes) else os.fspath(path)
    if (isinstance(path, str) and pipes.is_pipe(path)) or options.accept_truncated:
        return None
    with open_recording(path, options.pcm_rate, options.allow_pipes) as opened:
        audio.check_header(opened, options, Counter())
        _, count = audio.segment_span(opened, start_s, end_s, Counter())
        audio.check_duration(opened.name, opened.info, count, options)
        if count < LONG_S * opened.info.sample_rate or needs_mending(opened.extent):
            return None
        return AudioStream(path, options, start_s, end_s, opened.info.sample_rate, count)


def _decode(opened: Opened, first: int, count: int, channel: int | str | None) -> Iterator[np.ndarray]:
    """Blocks of whole frames of the silence rule, so that their active seconds add up to the whole's."""
    info = opened.info
    if info.format == "OGG" and ogg.find_damage(opened.source):
        raise StreamFault("damaged")
    frame = max(2, round(silence.FRAME_S * info.sample_rate))
    size = max(1, round(BLOCK_S * info.sample_rate) // frame) * frame
    can_seek = audio.seeks_exactly(opened)
    slack = mpeg.MAX_SAMPLES_PER_FRAME if info.format == "MP3" else 0
    try:
        if can_seek and first > 0:
            opened.sound.seek(first)
        skip = 0 if can_seek else first
        while skip > 0 and (passed := len(opened.sound.read(min(size, skip), dtype="float32", always_2d=True))):
            skip -= passed
        done = 0
        while done < count:
            block = opened.sound.read(min(size, count - done), dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            done += len(block)
            yield audio.choose_channel(block, channel)
    except SOUND_ERRORS as error:
        raise StreamFault("can't be decoded") from error
    if done + slack < count:
        raise StreamFault("ends early")
