"""An audio file, held open: found, judged by its bytes, handed to libsndfile, read in blocks.

Every error of libsndfile is put in our words where it is raised: its exceptions lose their
text on the way between processes, and its error code 0 says "Garbled error message".
"""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import soundfile

from speakerkit.errors import MachineError, RecordingError
from speakerkit.io import containers, pipes, riff
from speakerkit.io.extent import ByteSource, Extent, FileBytes, MemoryBytes

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "NIST")
BLOCK = 2 ** 22  # samples of all channels decoded at a time
SMALL_BLOCK = 1024  # the same where a damaged file is read as far as it goes
BYTES = (bytes, bytearray, memoryview)  # the content of a file, not its name
SOUND_ERRORS = (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError)


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
    source: ByteSource
    extent: Extent
    info: AudioInfo
    open_again: Callable[[], soundfile.SoundFile]  # a fresh decoder: one that has failed stays so


@contextmanager
def open_recording(path, pcm_rate: int | None = None, allow_pipes: bool = False,
                   accept_cut: bool = False) -> Iterator[Opened]:
    """Open a path, a pipe, bytes or a binary file object.

    A file is opened once and every check and the decoder use that one descriptor, so that it
    can't be replaced between them.

    Args:
        path: `str` or `os.PathLike`; `command |`; bytes; an object whose read() gives bytes.
        pcm_rate: Hz, of headerless .pcm files.
        allow_pipes: whether a pipe is run or refused.
        accept_cut: whether a file is opened whose end is seen to be missing.

    Raises:
        RecordingError: it can't be opened, or isn't audio that is read here.
        MachineError: the machine has no more file handles or memory.
        ValueError: `path` is none of these.
    """
    if not isinstance(path, (str, os.PathLike)):
        with open_bytes(*take_bytes(path), pcm_rate, accept_cut) as opened:
            yield opened
        return
    name = os.fspath(path)
    if pipes.is_pipe(name):
        pipes.check_pipe(name, allow_pipes)
        with open_bytes(name, pipes.read_pipe(name), pcm_rate, accept_cut) as opened:
            yield opened
        return
    descriptor = open_file(name)
    try:
        source = FileBytes(name, descriptor)
        extent = find_extent(name, source, accept_cut)
        if needs_mending(extent):
            with open_bytes(name, source.read_at(0, source.size), pcm_rate, accept_cut) as opened:
                yield opened
            return

        def open_again() -> soundfile.SoundFile:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return open_sound(name, descriptor, source, pcm_rate)

        with open_again() as sound:
            yield Opened(name, sound, source, extent, make_info(sound, extent), open_again)
    finally:
        os.close(descriptor)


@contextmanager
def open_bytes(name: str, data: bytes, pcm_rate: int | None, accept_cut: bool) -> Iterator[Opened]:
    """The same of a recording in memory."""
    source = MemoryBytes(data)
    extent = find_extent(name, source, accept_cut)
    mended = mend(data, extent)

    def open_again() -> soundfile.SoundFile:
        return open_sound(name, io.BytesIO(mended), source, pcm_rate)

    with open_again() as sound:
        yield Opened(name, sound, source, extent, make_info(sound, extent), open_again)


def take_bytes(thing) -> tuple[str, bytes]:
    """A name for errors and the content of bytes or of a binary file object."""
    if isinstance(thing, BYTES):
        return file_name(thing), bytes(thing)
    if not hasattr(thing, "read"):
        raise ValueError(f"a recording is a path, bytes or a binary file object, not {type(thing).__name__}")
    try:
        data = thing.read()
    except UnicodeDecodeError:  # a text file over the bytes of a recording
        data = ""
    except OSError as error:
        raise RecordingError(file_name(thing), "unreadable", error.strerror or str(error)) from None
    if not isinstance(data, BYTES):
        raise ValueError(f"the file object gives {type(data).__name__}; open it in binary mode")
    return file_name(thing), bytes(data)


def file_name(thing) -> str:
    """What messages call a path, bytes or a file object."""
    if isinstance(thing, (str, os.PathLike)):
        return os.fspath(thing)
    name = getattr(thing, "name", None)
    return name if isinstance(name, str) else "<bytes>"


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
        raise RecordingError(name, "missing", "a path with a NUL byte or that can't be encoded") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "folder" if stat.S_ISDIR(mode) else "FIFO" if stat.S_ISFIFO(mode) else "device"
        raise RecordingError(name, "not-a-file", f"is a {kind}; want a regular file")
    return descriptor


def describe_missing(name: str) -> str:
    """The path that was tried, in full, and what `~` would have meant."""
    if name.lower().startswith(("http://", "https://")):
        return "no such file; a URL is fetched by embed_url of the Python API only"
    if name.startswith("~"):
        return f"no such file; '~' isn't expanded here: write {os.path.expanduser(name)}"
    return "no such file" if os.path.isabs(name) else f"no such file: {os.path.abspath(name)}"


def find_extent(name: str, source: ByteSource, accept_cut: bool) -> Extent:
    """What the container says of its length; refuses what has no bytes or, unless it is accepted, no end.

    This comes before libsndfile, whose MP3 decoder writes on stderr about such files.
    """
    if source.size == 0:
        raise RecordingError(name, "empty", "0 bytes")
    if is_raw(name, source.read_at(0, containers.HEADER_BYTES)):
        extent = Extent(cut=f"{source.size} bytes end inside a 16-bit sample" if source.size % 2 else "")
    else:
        extent = containers.read_extent(source) or Extent()
    if extent.cut and not accept_cut:
        raise RecordingError(name, "truncated", extent.cut)
    return extent


def needs_mending(extent: Extent) -> bool:
    """Whether libsndfile would read nothing of a file that has something to read."""
    return extent.size_field is not None or extent.usable_bytes is not None


def mend(data: bytes, extent: Extent) -> bytes:
    """A streamed WAV with the size that its header lacks, a cut Ogg without its broken page."""
    if extent.size_field is not None:
        return riff.patch_size(data, extent)
    return data if extent.usable_bytes is None else data[:extent.usable_bytes]


def open_sound(name: str, file: int | io.BytesIO, source: ByteSource,
               pcm_rate: int | None) -> soundfile.SoundFile:
    """Hand an open file to libsndfile, and put its refusal in our words."""
    head = source.read_at(0, containers.HEADER_BYTES)
    try:
        if is_raw(name, head):
            if pcm_rate is None:
                raise RecordingError(name, "bad-sample-rate", "a .pcm file has no header; give its rate: --pcm-rate HZ")
            return soundfile.SoundFile(file, samplerate=pcm_rate, channels=1, format="RAW",
                                       subtype="PCM_16", endian="LITTLE", closefd=False)
        sound = soundfile.SoundFile(file, closefd=False)
    except SOUND_ERRORS as error:
        reason, detail = containers.describe_refusal(source, sound_error(error))
        raise RecordingError(name, reason, detail) from None
    if sound.format not in FORMATS:
        detail = f"is {sound.format_info}; {containers.WANTED_FORMATS}"
        sound.close()
        raise RecordingError(name, "unsupported-format", detail)
    return sound


def is_raw(name: str, head: bytes) -> bool:
    """Whether a file is headerless 16-bit PCM: by its name, unless it carries a WAV header after all."""
    return name.lower().endswith(".pcm") and not riff.is_wave(head)


def sound_error(error: Exception) -> str:
    """libsndfile's own words in one line; its kind, where the text itself can't be made."""
    try:
        text = str(getattr(error, "error_string", None) or error)
    except (TypeError, ValueError):
        text = type(error).__name__
    return " ".join(text.split())


def make_info(sound: soundfile.SoundFile, extent: Extent) -> AudioInfo:
    """What libsndfile says of an open file, and the container's own count where that is better.

    SPHERE's stops before trailing junk; that of MP3's frames replaces an estimate (an estimate
    that is too low is refused by the caller: libsndfile would stop there).
    """
    kind = "PCM" if sound.format == "RAW" else sound.format
    num_samples = sound.frames
    if extent.num_samples is not None:
        num_samples = min(num_samples, extent.num_samples)
    return AudioInfo(sound.samplerate, num_samples, sound.channels, kind)


def read_samples(opened: Opened, start: int, count: int,
                 pick: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, str, bool]:
    """Decode in blocks, so that a header that lies about the length costs no memory.

    Args:
        opened: its decoder stands at sample 0.
        start: the first sample.
        count: how many.
        pick: makes one channel, (n,), of a block, (n, num_channels).

    Returns:
        samples: (at most count,) float32.
        fault: what libsndfile said where it stopped, '' if it said nothing.
        is_cut: with a fault: the end can't be decoded either, so the file is cut, not damaged inside.
    """
    size = max(1, BLOCK // opened.info.num_channels)
    try:
        return read_blocks(opened.sound, start, count, pick, size), "", False
    except SOUND_ERRORS as error:
        fault = sound_error(error)
    parts: list[np.ndarray] = []
    try:
        with opened.open_again() as sound:
            read_blocks(sound, start, count, pick, SMALL_BLOCK, parts)
    except (RecordingError, *SOUND_ERRORS):
        pass  # expected: here it is damaged
    is_cut = True
    try:
        with opened.open_again() as sound:
            sound.seek(opened.info.num_samples - 1)
            is_cut = len(sound.read(1)) == 0
    except (RecordingError, *SOUND_ERRORS):
        pass  # expected of a file without its end
    return join(parts), fault, is_cut


def read_blocks(sound: soundfile.SoundFile, start: int, count: int, pick: Callable[[np.ndarray], np.ndarray],
                size: int, parts: list[np.ndarray] | None = None) -> np.ndarray:
    """(at most count,) float32; what was read before an error is left in `parts`."""
    parts = [] if parts is None else parts
    if start > 0:
        sound.seek(start)
    done = 0
    while done < count:
        block = sound.read(min(size, count - done), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        parts.append(pick(block))
        done += len(block)
    return join(parts)


def join(parts: list[np.ndarray]) -> np.ndarray:
    """Parts end to end; the one part itself where there is one."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
