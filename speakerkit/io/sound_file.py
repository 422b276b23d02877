"""An audio file, held open: found, judged by its bytes, handed to libsndfile, read in blocks.

Every error of libsndfile is put in our words where it is raised: its exceptions lose their
text on the way between processes, and its error code 0 says "Garbled error message".
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile

from speakerkit.errors import MachineError, RecordingError
from speakerkit.io import containers, pipes

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "NIST")
UNKNOWN_LENGTH = 2 ** 62  # libsndfile's largest count, half: a FLAC without a length
BLOCK = 2 ** 22  # samples of all channels decoded at a time
SMALL_BLOCK = 1024  # where a damaged file is read as far as it goes


@dataclass(frozen=True)
class AudioInfo:
    """What a header says. A pipe that is allowed isn't run: its numbers are 0, its format `PIPE`."""

    sample_rate: int   # Hz
    num_samples: int   # of one channel
    num_channels: int
    format: str        # as soundfile names it; `PCM` for raw .pcm

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate if self.sample_rate else 0.0


@dataclass(frozen=True)
class Opened:
    """A recording that is open: its decoder, its bytes, and how an error names it."""

    name: str
    sound: soundfile.SoundFile
    source: containers.ByteSource
    declared: containers.Declared | None
    info: AudioInfo


@contextmanager
def open_recording(path, pcm_rate: int | None = None, allow_pipes: bool = False) -> Iterator[Opened]:
    """Open a file, a pipe, bytes or a file object; a file is opened once, so that it can't change between checks."""
    if not isinstance(path, (str, os.PathLike)):
        data = bytes(path) if isinstance(path, (bytes, bytearray, memoryview)) else path.read()
        name = getattr(path, "name", None)
        with open_bytes(name if isinstance(name, str) else "<bytes>", data, pcm_rate) as opened:
            yield opened
        return
    name = os.fspath(path)
    if pipes.is_pipe(name):
        pipes.check_pipe(name, allow_pipes)
        with open_bytes(name, pipes.read_pipe(name), pcm_rate) as opened:
            yield opened
        return
    descriptor = open_file(name)
    try:
        source = containers.FileBytes(descriptor, os.fstat(descriptor).st_size)
        declared = find_declared(name, source)
        if declared is not None and declared.size_field is not None:
            data = patch_size(source.read_at(0, source.size), declared)
            with open_bytes(name, data, pcm_rate, declared) as opened:
                yield opened
            return
        with open_sound(name, descriptor, source, pcm_rate) as sound:
            yield Opened(name, sound, source, declared, make_info(sound, source))
    finally:
        os.close(descriptor)


@contextmanager
def open_bytes(name: str, data: bytes, pcm_rate: int | None,
               declared: containers.Declared | None = None) -> Iterator[Opened]:
    """The same of a recording in memory."""
    source = containers.MemoryBytes(data)
    if declared is None:
        declared = find_declared(name, source)
        if declared is not None and declared.size_field is not None:
            data = patch_size(data, declared)
    with open_sound(name, io.BytesIO(data), source, pcm_rate) as sound:
        yield Opened(name, sound, source, declared, make_info(sound, source))


def open_file(name: str) -> int:
    """A descriptor of a regular file."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # NONBLOCK: a FIFO would wait for ever
    except (FileNotFoundError, NotADirectoryError):
        raise RecordingError(name, "missing", describe_missing(name)) from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise MachineError(f"{name}: {error.strerror}") from None
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise RecordingError(name, "not-a-file", "is a device or a socket; want a regular file") from None
        raise RecordingError(name, "unreadable", error.strerror or str(error)) from None
    except ValueError:
        raise RecordingError(name, "missing", "a path with a NUL byte") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "folder" if stat.S_ISDIR(mode) else "FIFO" if stat.S_ISFIFO(mode) else "device"
        raise RecordingError(name, "not-a-file", f"is a {kind}; want a regular file")
    return descriptor


def describe_missing(name: str) -> str:
    """The path that was tried, in full, and what `~` would have meant."""
    if name.startswith("~"):
        return f"no such file; '~' isn't expanded here: write {os.path.expanduser(name)}"
    return "no such file" if os.path.isabs(name) else f"no such file: {os.path.abspath(name)}"


def find_declared(name: str, source: containers.ByteSource) -> containers.Declared | None:
    """What the header declares; refuses what has no bytes."""
    if source.size == 0:
        raise RecordingError(name, "empty", "0 bytes")
    return containers.read_declared(source)


def patch_size(data: bytes, declared: containers.Declared) -> bytes:
    """A WAV that was written to a pipe, with the size of its data filled in."""
    order = "big" if data[:4] == b"RIFX" else "little"
    place = declared.size_field
    size = min(declared.present_bytes, 0xFFFFFFFE)
    return data[:place] + size.to_bytes(4, order) + data[place + 4:]


def open_sound(name: str, file, source: containers.ByteSource, pcm_rate: int | None) -> soundfile.SoundFile:
    """Hand an open file to libsndfile, and put its refusal in our words."""
    head = source.read_at(0, containers.HEADER_BYTES)
    try:
        if is_raw(name, head):
            if pcm_rate is None:
                raise RecordingError(name, "bad-sample-rate", "a .pcm file has no header; give its rate: --pcm-rate HZ")
            return soundfile.SoundFile(file, samplerate=pcm_rate, channels=1, format="RAW",
                                       subtype="PCM_16", endian="LITTLE", closefd=False)
        sound = soundfile.SoundFile(file, closefd=False)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise RecordingError(name, *describe_refusal(head, error)) from None
    if sound.format not in FORMATS:
        detail = f"is {sound.format_info}; want WAV, FLAC, OGG/Opus, MP3 or raw .pcm"
        sound.close()
        raise RecordingError(name, "unsupported-format", detail)
    return sound


def is_raw(name: str, head: bytes) -> bool:
    """Whether a file is headerless 16-bit PCM: by its name, unless it carries a WAV header after all."""
    return name.lower().endswith(".pcm") and not (head[:4] == b"RIFF" and head[8:12] == b"WAVE")


def describe_refusal(head: bytes, error: Exception) -> tuple[str, str]:
    """Reason code and detail for a file that libsndfile doesn't open."""
    known = (head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE") \
        or head[:4] in (b"fLaC", b"OggS") or head[:8] == b"NIST_1A\n" or head[:3] == b"ID3"
    if known:
        return "unreadable", f"its header is damaged: {sound_error(error)}"
    return "unsupported-format", containers.describe_unknown(head)


def sound_error(error: Exception) -> str:
    """libsndfile's own words, in one line. Its error text can itself fail, and then its kind must do."""
    try:
        text = str(getattr(error, "error_string", None) or error)
    except Exception:  # the message is all that is lost
        text = type(error).__name__
    return " ".join(text.split())


def make_info(sound: soundfile.SoundFile, source: containers.ByteSource) -> AudioInfo:
    """What libsndfile says of an open file."""
    kind = "PCM" if sound.format == "RAW" else sound.format
    return AudioInfo(sound.samplerate, sound.frames, sound.channels, kind)


def read_block(opened: Opened, start: int, count: int) -> np.ndarray:
    """(at most count, num_channels) float32 from sample `start` on.

    Raises:
        RecordingError: libsndfile can't seek there or decode it.
    """
    try:
        if opened.sound.tell() != start:
            opened.sound.seek(start)
        return opened.sound.read(count, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise RecordingError(opened.name, "unreadable", f"at sample {start}: {sound_error(error)}") from None


def read_blocks(opened: Opened, start: int, count: int) -> list[np.ndarray]:
    """The same in blocks, so that a header that lies about the length costs no memory."""
    blocks, done = [], 0
    size = max(1, BLOCK // opened.info.num_channels)
    while done < count:
        block = read_block(opened, start + done, min(size, count - done))
        if len(block) == 0:
            break
        blocks.append(block)
        done += len(block)
    return blocks


def read_damaged(opened: Opened, start: int, count: int,
                 error: RecordingError) -> tuple[list[np.ndarray], str, str]:
    """What can be read of a stream that fails, and whether its end is missing or its middle is damaged."""
    blocks, done = [], 0
    try:
        opened.sound.seek(start)
        while done < count:
            block = read_block(opened, start + done, min(SMALL_BLOCK, count - done))
            if len(block) == 0:
                break
            blocks.append(block)
            done += len(block)
    except (RecordingError, soundfile.SoundFileError, RuntimeError):
        pass  # expected: this is where it is damaged
    place = f"{start + done} of {opened.info.num_samples} samples"
    try:
        tail = read_block(opened, opened.info.num_samples - 1, 1)
    except RecordingError:
        tail = np.zeros((0, 1))
    if len(tail):
        return blocks, "unreadable", f"damaged after {place}: {error.detail}"
    return blocks, "truncated", place
