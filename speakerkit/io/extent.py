"""How far a recording reaches by its own account, and the bytes that tell it."""

import os
from dataclasses import dataclass
from typing import Protocol

from speakerkit.errors import RecordingError


@dataclass(frozen=True)
class Extent:
    """What a container says of its own length, beside what is there.

    libsndfile takes a WAV, an Ogg, an MP3 or a SPHERE file that was cut short for a shorter
    recording and says nothing, so this is read without it.
    """

    cut: str = ""                    # how the end is seen to be missing; '' where it isn't
    num_samples: int | None = None   # of one channel, where the container shows it better than libsndfile
    size_field: int | None = None    # a WAV written to a pipe: where its data size should stand
    data_bytes: int | None = None    # and what it should be
    usable_bytes: int | None = None  # an Ogg without its end: how much of it is whole pages


class ByteSource(Protocol):
    """Bytes that can be read at any place."""

    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on."""


class MemoryBytes:
    """A recording held in memory."""

    def __init__(self, data: bytes):
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        return self.data[offset:offset + count]


class FileBytes:
    """A recording in an open file, whose own position is left alone."""

    def __init__(self, name: str, descriptor: int):
        self.name = name
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on.

        Raises:
            RecordingError: unreadable, where the disk fails.
        """
        try:
            return os.pread(self.descriptor, count, offset)
        except OSError as error:
            raise RecordingError(self.name, "unreadable", f"at byte {offset}: {error.strerror}") from None
