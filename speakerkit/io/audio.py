"""One recording -> mono float32 samples at its own rate, checked."""

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import RecordingError
from speakerkit.io import containers, flac, mpeg, ogg, pipes, silence
from speakerkit.io.sound_file import AudioInfo, Opened, join, open_file, open_recording, read_samples

log = logging.getLogger(__name__)

MIN_SAMPLE_RATE = 4000  # Hz
MAX_SAMPLE_RATE = 192000
UNKNOWN_LENGTH = 2 ** 62  # half of the largest count that libsndfile has: what it gives for a FLAC without a length
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
        if self.pcm_rate is not None and self.pcm_rate < 1:
            raise ValueError(f"pcm_rate is {self.pcm_rate}; want a rate in Hz")
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
        RecordingError: missing, not-a-file, unreadable, empty, truncated (all but FLAC),
            unsupported-format, too-short, too-long, channel-not-chosen, bad-sample-rate, pipe-refused.
    """
    if isinstance(path, (str, os.PathLike)) and pipes.is_pipe(os.fspath(path)):
        pipes.check_pipe(os.fspath(path), options.allow_pipes)
        return AudioInfo(0, 0, 0, "PIPE")
    with open_recording(path, options.pcm_rate, options.allow_pipes, options.accept_truncated) as opened:
        check_header(opened, options, Counter())
        check_duration(opened.name, opened.info, opened.info.num_samples, options)
        return opened.info


def read_length(path: str | os.PathLike) -> tuple[int, int]:
    """(samples of a channel, sample rate in Hz) by a file's header, as fast as can be; nothing else is checked.

    Raises:
        RecordingError: as scan_audio does, but for too-short and channel-not-chosen.
    """
    name = os.fspath(path)
    descriptor = open_file(name)
    try:
        head = os.read(descriptor, flac.HEAD_BYTES)
    except OSError as error:
        raise RecordingError(name, "unreadable", error.strerror or str(error)) from None
    finally:
        os.close(descriptor)
    found = flac.read_stream_info(head)
    if found is None:
        info = scan_audio(name, AudioOptions(channel="mix", min_duration_s=0.0))
        found = info.num_samples, info.sample_rate
    return found


def load_audio(path, options: AudioOptions = AudioOptions(), start_s: float | None = None,
               end_s: float | None = None, notes: Counter | None = None) -> tuple[np.ndarray, int]:
    """One recording, or a segment of it, as mono samples at its own rate, checked; `load_joined` of one place.

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
            pipe-failed, truncated for FLAC.
        MachineError: the machine ran out of file handles or memory.
    """
    return load_joined([(path, start_s, end_s)], options, notes)


def load_joined(places: Sequence[tuple], options: AudioOptions = AudioOptions(),
                notes: Counter | None = None) -> tuple[np.ndarray, int]:
    """Recordings or segments of them, joined end to end without a gap, as one; checked as one.

    Args:
        places: (path, start_s, end_s) of each part, as load_audio takes them.
        options: how they are taken; the shortest duration is that of the whole.
        notes: as load_audio's.

    Returns:
        samples: (num_samples,) float32 in [-1, 1].
        sample_rate: in Hz, that of every part.

    Raises:
        RecordingError: as load_audio does, with the part's name; bad-sample-rate where parts differ.
    """
    notes_here: Counter = Counter()
    part_options = options if len(places) == 1 else any_length(options)
    parts: list[np.ndarray] = []
    name, sample_rate = "", 0
    for path, start_s, end_s in places:
        with open_recording(path, options.pcm_rate, options.allow_pipes, options.accept_truncated) as opened:
            check_header(opened, options, notes_here)
            if parts:
                check_joint(opened.name, opened.info.sample_rate, name, sample_rate)
            first, count = segment_span(opened, start_s, end_s, notes_here)
            check_duration(opened.name, opened.info, count, part_options)
            parts.append(decode(opened, first, count, options, notes_here))
            name, sample_rate = name or opened.name, opened.info.sample_rate
    samples = join(parts)
    check_duration(name, opened.info, len(samples), options)
    check_sound(samples, sample_rate, name, notes_here)
    if notes is not None:
        notes.update(+notes_here)
    else:
        for note in +notes_here:
            log.info("%s: %s", name, NOTES[note])
    return samples, sample_rate


def any_length(options: AudioOptions) -> AudioOptions:
    """The same options for a part of an utterance, which may be as short as it likes."""
    return dataclasses.replace(options, min_duration_s=0.0)


def check_joint(name: str, sample_rate: int, first_name: str, first_rate: int) -> None:
    """Parts of one utterance must have one rate: resampled apart they would no longer join.

    Raises:
        RecordingError: bad-sample-rate.
    """
    if sample_rate != first_rate:
        raise RecordingError(name, "bad-sample-rate",
                             f"{sample_rate} Hz; is joined to {first_name} of {first_rate} Hz; want one rate")


def read_chunk(path, start_sample: int, num_samples: int, channel: int | str | None = None,
               pcm_rate: int | None = None) -> np.ndarray:
    """A stretch of a recording for training: seeks, reads only what is asked, checks little.

    Args:
        path: a WAV, FLAC or .pcm file (others seek slowly or inexactly).
        start_sample: the first sample.
        num_samples: how many; all must be there, though the file may be cut after them.
        channel: which, counted from 0, or "mix"; None: the recording must have one.
        pcm_rate: Hz, of headerless .pcm files.

    Returns:
        (num_samples,) float32, finite.

    Raises:
        RecordingError: it can't be opened or decoded, ends before, or is not finite.
    """
    with open_recording(path, pcm_rate, accept_cut=True) as opened:
        check_channel(opened.name, opened.info.num_channels, channel)
        chunk, fault, _ = read_samples(opened, start_sample, num_samples, lambda block: choose_channel(block, channel))
        name, sample_rate = opened.name, opened.info.sample_rate
    if fault:
        raise RecordingError(name, "unreadable", f"damaged after sample {start_sample + len(chunk)}: {fault}")
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
    info, extent, name = opened.info, opened.extent, opened.name
    check_rate(name, info.sample_rate)
    check_channel(name, info.num_channels, options.channel)
    if info.num_samples >= UNKNOWN_LENGTH:
        raise RecordingError(name, "unreadable", f"{info.format} without a length; re-encode it: flac --force {name}")
    if info.format == "MP3" and (extent.num_samples or 0) > info.num_samples + mpeg.MAX_SAMPLES_PER_FRAME:
        raise RecordingError(name, "unreadable", "MP3 of variable bit rate without a length (no Xing header); "
                                                 f"re-encode it: {containers.CONVERT}")
    if info.num_samples == 0:
        raise RecordingError(name, "empty", "a header without samples")
    notes["cut"] += bool(extent.cut)
    notes["streamed"] += extent.size_field is not None


def check_rate(name: str, sample_rate: int) -> None:
    """A rate that recordings have."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise RecordingError(name, "bad-sample-rate",
                             f"{sample_rate} Hz; want {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz")


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


def check_sound(samples: np.ndarray, sample_rate: int, name: str, notes: Counter) -> None:
    """The checks of samples themselves, whatever held them; counts what is let pass."""
    notes["over-range"] += silence.check_samples(samples, sample_rate, name) > 1.0
    notes["short"] += len(samples) < SHORT_S * sample_rate


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


def seeks_exactly(opened: Opened) -> bool:
    """Whether a sample can be gone to: Ogg and MP3 seek with more trust in the file than it deserves, and some WAV
    codecs can't seek."""
    return opened.sound.seekable() and opened.info.format not in ("OGG", "MP3")


def decode(opened: Opened, first: int, count: int, options: AudioOptions, notes: Counter) -> np.ndarray:
    """(count,) float32 of the chosen channel; fewer only where a truncated recording is accepted."""
    info, name = opened.info, opened.name
    if info.format == "OGG" and not opened.extent.cut and (damage := ogg.find_damage(opened.source)):
        raise RecordingError(name, "unreadable", f"damaged: {damage}")
    begin = first if seeks_exactly(opened) else 0
    wanted = first + count - begin
    samples, fault, is_cut = read_samples(opened, begin, wanted, lambda block: choose_channel(block, options.channel))
    place = f"{begin + len(samples)} of {info.num_samples} samples"
    if fault and not is_cut:
        raise RecordingError(name, "unreadable", f"damaged after {place}: {fault}")
    slack = mpeg.MAX_SAMPLES_PER_FRAME if info.format == "MP3" else 0  # without a Xing header it is an estimate
    if len(samples) + slack < wanted:
        if not options.accept_truncated:
            raise RecordingError(name, "truncated", place)
        notes["cut"] = 1
    return samples[first - begin:]
