"""Stretches of a 16-bit PCM WAV read where they lie, without a decoder: a tenth of the time of opening one."""

import os
import struct
from dataclasses import dataclass

import numpy as np

from speakerkit.io import riff
from speakerkit.io.audio import choose_channel, read_chunk
from speakerkit.io.extent import FileBytes
from speakerkit.io.sound_file import open_file

PCM = 1  # wFormatTag
TYPE = np.dtype("<i2")


@dataclass(frozen=True)
class PcmWave:
    """Where the samples of a 16-bit PCM WAV lie, and what its file was when they were found."""

    path: str
    offset: int  # bytes
    num_samples: int  # of one channel
    num_channels: int
    stamp: tuple[int, int]  # size in bytes, time of the last change in ns

    def read(self, first: int, count: int, channel: int | str | None = None) -> np.ndarray:
        """(count,) float32 of the chosen channel, from sample ``first`` on: as ``audio.read_chunk`` gives them.

        A file that has changed since, and a stretch or channel that it lacks, are left to ``read_chunk``.

        Raises:
            RecordingError: what ``read_chunk`` refuses.
        """
        is_there = first >= 0 and 0 < count <= self.num_samples - first
        is_chosen = self.num_channels == 1 or channel == "mix" or isinstance(channel, int)
        data = self._bytes(first, count) if is_there and is_chosen else None
        if data is None or isinstance(channel, int) and channel >= self.num_channels:
            return read_chunk(self.path, first, count, channel)
        samples = np.frombuffer(data, TYPE) * np.float32(1 / 32768)
        return samples if self.num_channels == 1 else choose_channel(samples.reshape(count, -1), channel)

    def _bytes(self, first: int, count: int) -> bytes | None:
        """Those of a stretch; None of a file that isn't what it was."""
        width = self.num_channels * TYPE.itemsize
        descriptor = open_file(self.path)
        try:
            if stamp_of(descriptor) != self.stamp:
                return None
            data = os.pread(descriptor, count * width, self.offset + first * width)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return data if len(data) == count * width else None


def stamp_of(descriptor: int) -> tuple[int, int]:
    """Size in bytes and time of the last change of an open file: what tells that it is another one."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def find_pcm_wave(path: str) -> PcmWave | None:
    """Where the samples of a WAV lie; None of any but 16-bit PCM, little-endian, with all of its data.

    Raises:
        RecordingError: the file can't be opened or read.
    """
    descriptor = open_file(path)
    try:
        source = FileBytes(path, descriptor)
        found = riff.find_chunks(source) if source.read_at(0, 4) == b"RIFF" else {}
        if not {b"fmt ", b"data"} <= set(found):
            return None
        begin, num_bytes = found[b"data"]
        head = source.read_at(found[b"fmt "][0], 16)
        kind, num_channels, _, _, width, bits = struct.unpack("<HHIIHH", head) if len(head) == 16 else (0,) * 6
        is_plain = (kind, bits, width) == (PCM, 16, TYPE.itemsize * num_channels) and num_channels > 0
        if not is_plain or num_bytes in riff.STREAMED_SIZES or begin + num_bytes > source.size:
            return None
        return PcmWave(path, begin, num_bytes // width, num_channels, stamp_of(descriptor))
    finally:
        os.close(descriptor)
