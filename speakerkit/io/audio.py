"""One recording -> mono float32 samples at its own rate, checked."""

import logging
import os
from collections import Counter
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.io import containers, pipes, silence
from speakerkit.io.sound_file import (
    UNKNOWN_LENGTH,
    AudioInfo,
    Opened,
    open_recording,
    read_block,
    read_blocks,
    read_damaged,
)

log = logging.getLogger(__name__)

MIN_SAMPLE_RATE = 4000  # Hz
MAX_SAMPLE_RATE = 192000
SEGMENT_SLACK_S = 0.05  # a segment may end so much after its recording, and is trimmed
SHORT_S = 1.0  # below it an embedding says little

# What load_audio lets pass but a user should hear of, once a run and with a count.
NOTES = {
    "streamed": "a WAV header without a data size: read to the end of the file",
    "cut": "truncated, taken as it is (--accept-truncated)",
    "over-range": "float samples beyond -1 to 1",
    "short": f"shorter than {SHORT_S:g} s: the embedding says little",
    "segment-end": f"a segment that ends up to {SEGMENT_SLACK_S:g} s after its recording, trimmed",
}


@dataclass(frozen=True)
class AudioOptions:
    """How recordings are taken, as the commands' audio options say."""

    channel: int | str | None = None     # counted from 0, or "mix" for the mean; None: one channel only
    pcm_rate: int | None = None          # Hz of headerless .pcm files
    min_duration_s: float = 0.3
    max_duration_s: float | None = None  # None: no limit
    accept_truncated: bool = False
    allow_pipes: bool = False

    def __post_init__(self):
        is_number = isinstance(self.channel, int) and not isinstance(self.channel, bool) and self.channel >= 0
        if not (self.channel is None or self.channel == "mix" or is_number):
            raise ValueError(f"channel is {self.channel!r}; want a number from 0 on, or 'mix'")
        if self.pcm_rate is not None and not MIN_SAMPLE_RATE <= self.pcm_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"pcm_rate is {self.pcm_rate}; want {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz")
        if not 0.0 <= self.min_duration_s < float("inf"):
            raise ValueError(f"min_duration_s is {self.min_duration_s}; want 0 or more")
        if self.max_duration_s is not None and not self.max_duration_s >= self.min_duration_s:
            raise ValueError(f"max_duration_s is {self.max_duration_s}; want min_duration_s or more")


def scan_audio(path, options: AudioOptions = AudioOptions()) -> AudioInfo:
    """What the header of a recording says, after the checks that need no decoding.

    Args:
        path: a file, or `command |`, which is only checked to be allowed.
        options: how it is to be taken.

    Raises:
        RecordingError: missing, not-a-file, unreadable, empty, truncated (WAV, Ogg, SPHERE, .pcm),
            unsupported-format, too-short, too-long, channel-not-chosen, bad-sample-rate, pipe-refused.
    """
    if isinstance(path, (str, os.PathLike)) and pipes.is_pipe(os.fspath(path)):
        pipes.check_pipe(os.fspath(path), options.allow_pipes)
        return AudioInfo(0, 0, 0, "PIPE")
    with open_recording(path, options.pcm_rate, options.allow_pipes) as opened:
        check_header(opened, options, Counter())
        check_duration(opened.name, opened.info, opened.info.num_samples, options)
        return opened.info


def load_audio(path, options: AudioOptions = AudioOptions(), start_s: float | None = None,
               end_s: float | None = None, notes: Counter | None = None) -> tuple[np.ndarray, int]:
    """One recording, or a segment of it, as mono samples at its own rate, checked.

    Args:
        path: a file; `command |` where options.allow_pipes; bytes or a binary file object.
        options: channel, lengths and what is accepted.
        start_s: where the segment begins, in seconds; None: at the start.
        end_s: where it ends; None or below 0: at the end.
        notes: counts the NOTES that the recording gives rise to; without it each is logged.

    Returns:
        samples: (num_samples,) float32 in [-1, 1], never silent, all finite.
        sample_rate: in Hz.

    Raises:
        RecordingError: its reason is one of the codes of scan_audio, or not-finite, silent,
            pipe-failed, truncated for FLAC and MP3.
        MachineError: the machine ran out of file handles or memory.
    """
    notes_here: Counter = Counter()
    with open_recording(path, options.pcm_rate, options.allow_pipes) as opened:
        check_header(opened, options, notes_here)
        first, count = segment_span(opened, start_s, end_s, notes_here)
        check_duration(opened.name, opened.info, count, options)
        samples = choose_channel(decode(opened, first, count, options, notes_here), options.channel)
        name, sample_rate = opened.name, opened.info.sample_rate
    check_duration(name, opened.info, len(samples), options)
    if silence.check_samples(samples, sample_rate, name) > 1.0:
        notes_here["over-range"] += 1
    if len(samples) < SHORT_S * sample_rate:
        notes_here["short"] += 1
    if notes is not None:
        notes.update(notes_here)
    else:
        for note in notes_here:
            log.info("%s: %s", name, NOTES[note])
    return samples, sample_rate


def read_chunk(path, start_sample: int, num_samples: int, channel: int | None = None) -> np.ndarray:
    """A stretch of a recording for training: seeks, reads only what is asked, checks little.

    Args:
        path: a WAV or FLAC file (others seek slowly or inexactly).
        start_sample: the first sample.
        num_samples: how many; all must be there.
        channel: which, counted from 0; None: the recording must have one.

    Returns:
        (num_samples,) float32, finite.

    Raises:
        RecordingError: it can't be opened or decoded, ends before, or is not finite.
    """
    with open_recording(path) as opened:
        check_channel(opened.name, opened.info.num_channels, channel)
        chunk = choose_channel(read_block(opened, start_sample, num_samples), channel)
        name, sample_rate = opened.name, opened.info.sample_rate
    if len(chunk) != num_samples:
        raise RecordingError(name, "truncated",
                             f"{num_samples} samples from {start_sample} on wanted, {len(chunk)} there")
    silence.raise_not_finite(chunk, sample_rate, name)
    return chunk


def say_notes(notes: Counter) -> None:
    """Log what was counted, one line a kind."""
    for note, count in sorted(notes.items()):
        log.warning("%d recording%s: %s", count, "" if count == 1 else "s", NOTES[note])


def check_header(opened: Opened, options: AudioOptions, notes: Counter) -> None:
    """The checks that need no decoding: rate, channels, whether all of the file is there."""
    info, name = opened.info, opened.name
    if not MIN_SAMPLE_RATE <= info.sample_rate <= MAX_SAMPLE_RATE:
        raise RecordingError(name, "bad-sample-rate",
                             f"{info.sample_rate} Hz; want {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz")
    check_channel(name, info.num_channels, options.channel)
    if info.num_samples >= UNKNOWN_LENGTH:
        raise RecordingError(name, "unreadable", f"{info.format} without a length; re-encode it: flac --force {name}")
    if opened.declared is not None and opened.declared.declared_bytes is None:
        notes["streamed"] += 1
    cut = describe_cut(opened)
    if cut and not options.accept_truncated:
        raise RecordingError(name, "truncated", cut)
    if cut:
        notes["cut"] += 1
    if info.num_samples == 0:
        raise RecordingError(name, "empty", "a header without samples")


def describe_cut(opened: Opened) -> str:
    """How the container shows that its end is missing; '' if it doesn't."""
    declared, source = opened.declared, opened.source
    if declared is not None and declared.is_truncated:
        return f"{declared.present_bytes} of {declared.declared_bytes} data bytes"
    if opened.info.format == "PCM" and source.size % 2:
        return f"{source.size} bytes end inside a 16-bit sample"
    if opened.info.format == "OGG" and not containers.ogg_ends(source):
        return "its last Ogg page is missing"
    return ""


def check_channel(name: str, num_channels: int, channel: int | str | None) -> None:
    """One channel must be there or be chosen."""
    if channel is None and num_channels > 1:
        raise RecordingError(name, "channel-not-chosen",
                             f"{num_channels} channels; give --channel N (0 to {num_channels - 1}) or --channel mix")
    if isinstance(channel, int) and channel >= num_channels:
        raise RecordingError(name, "channel-not-chosen",
                             f"no channel {channel} among {num_channels}; they are counted from 0")


def choose_channel(samples: np.ndarray, channel: int | str | None) -> np.ndarray:
    """(num_samples, num_channels) -> (num_samples,): one of them, or their mean."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    if channel == "mix":
        return samples.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(samples[:, channel or 0])


def check_duration(name: str, info: AudioInfo, num_samples: int, options: AudioOptions) -> None:
    """Neither too short nor too long."""
    if num_samples == 0:
        raise RecordingError(name, "empty", "no samples")
    duration_s = num_samples / info.sample_rate
    if duration_s < options.min_duration_s:
        raise RecordingError(name, "too-short", f"{duration_s:.3f} s; wanted at least {options.min_duration_s:g} s")
    if options.max_duration_s is not None and duration_s > options.max_duration_s:
        raise RecordingError(name, "too-long", f"{duration_s:.1f} s; wanted at most {options.max_duration_s:g} s")


def segment_span(opened: Opened, start_s: float | None, end_s: float | None, notes: Counter) -> tuple[int, int]:
    """First sample and length of a segment; an end a little after the recording's is trimmed."""
    total, rate = opened.info.num_samples, opened.info.sample_rate
    start = 0.0 if start_s is None else start_s
    end = total / rate if end_s is None or end_s < 0 else end_s
    if not 0.0 <= start < end < float("inf"):
        raise RecordingError(opened.name, "too-short", f"segment {start:g} to {end:g} s; want 0 <= start < end")
    if end > total / rate + SEGMENT_SLACK_S or start >= total / rate:
        raise RecordingError(opened.name, "too-short",
                             f"segment {start:g} to {end:g} s, but the recording ends at {total / rate:.3f} s")
    if end > total / rate:
        notes["segment-end"] += 1
    first = round(start * rate)
    return first, min(total, round(end * rate)) - first


def decode(opened: Opened, first: int, count: int, options: AudioOptions, notes: Counter) -> np.ndarray:
    """(count, num_channels) float32; fewer only where a truncated recording is accepted."""
    whole = opened.info.format in ("OGG", "MP3") and first > 0  # their seeking isn't exact to the sample
    begin = 0 if whole else first
    wanted = first + count - begin
    try:
        blocks = read_blocks(opened, begin, wanted)
    except RecordingError as error:
        blocks, reason, detail = read_damaged(opened, begin, wanted, error)
        if reason != "truncated" or not options.accept_truncated:
            raise RecordingError(opened.name, reason, detail) from None
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
    if len(samples) < wanted:
        if not options.accept_truncated:
            raise RecordingError(opened.name, "truncated" if len(samples) else "empty",
                                 f"{begin + len(samples)} of {opened.info.num_samples} samples")
        notes["cut"] = 1
    return samples[first - begin:]
