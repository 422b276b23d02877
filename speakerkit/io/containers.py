"""What the bytes of an audio file declare, read without decoding: is all of it there?

libsndfile takes a WAV, an Ogg or a SPHERE file that was cut short for a shorter recording and
says nothing, so the lengths in the headers are compared with the bytes present here.
"""

import os
import struct
from dataclasses import dataclass
from typing import Protocol

STREAMED_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFF024)  # data sizes written where the length wasn't known
HEADER_BYTES = 64
OGG_MAX_PAGE = 65307
MAX_CHUNKS = 1000


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

    def __init__(self, descriptor: int, size: int):
        self.descriptor = descriptor
        self.size = size

    def read_at(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        return os.pread(self.descriptor, count, offset)


@dataclass(frozen=True)
class Declared:
    """What a header says of its audio data, beside what is there."""

    data_offset: int
    declared_bytes: int | None  # None: written to a pipe, the length wasn't known
    present_bytes: int
    size_field: int | None = None  # where a streamed WAV keeps its data size

    @property
    def is_truncated(self) -> bool:
        """Fewer bytes than the header declares."""
        return self.declared_bytes is not None and self.present_bytes < self.declared_bytes


def read_declared(source: ByteSource) -> Declared | None:
    """The audio data that a WAV, RF64 or SPHERE header declares; None for other containers."""
    head = source.read_at(0, HEADER_BYTES)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return walk_riff(source, ">" if head[:4] == b"RIFX" else "<")
    if head[:8] == b"NIST_1A\n":
        return read_sphere(source)
    return None


def walk_riff(source: ByteSource, order: str) -> Declared | None:
    """Find the data chunk of a WAV file; None if there is none (libsndfile then says what is wrong)."""
    offset, long_size = 12, None
    for _ in range(MAX_CHUNKS):
        header = source.read_at(offset, 8)
        if len(header) < 8:
            return None
        name, size = struct.unpack(order + "4sI", header)
        if name == b"ds64":  # RF64 and BW64 keep the long sizes here
            long_size = struct.unpack(order + "Q", source.read_at(offset + 16, 8).ljust(8, b"\0"))[0]
        if name == b"data":
            return declare_data(source, offset, size, long_size, order)
        offset += 8 + size + (size & 1)
    return None


def declare_data(source: ByteSource, offset: int, size: int, long_size: int | None, order: str) -> Declared:
    """What the data chunk at `offset` declares."""
    present = max(0, source.size - offset - 8)
    if size == 0xFFFFFFFF and long_size:
        return Declared(offset + 8, long_size, min(present, long_size))
    if size == 0 and is_chunk_list(source, offset + 8, order):
        return Declared(offset + 8, 0, 0)
    if size in STREAMED_SIZES:
        return Declared(offset + 8, None, present, offset + 4)
    return Declared(offset + 8, size, min(present, size))


def is_chunk_list(source: ByteSource, offset: int, order: str) -> bool:
    """Whether what follows an empty data chunk is further chunks up to the end, or nothing."""
    for _ in range(MAX_CHUNKS):
        if offset >= source.size:
            return offset in (source.size, source.size + 1)
        header = source.read_at(offset, 8)
        if len(header) < 8:
            return False
        name, size = struct.unpack(order + "4sI", header)
        if not name.isascii() or not name.decode("ascii").isprintable():
            return False
        offset += 8 + size + (size & 1)
    return False


def read_sphere(source: ByteSource) -> Declared | None:
    """What the text header of a NIST SPHERE file declares; None where a field is missing."""
    try:
        header_bytes = int(source.read_at(8, 8))
        lines = source.read_at(0, min(header_bytes, 65536)).split(b"\n")
        fields = {words[0]: words[2] for words in (line.split() for line in lines) if len(words) == 3}
        declared = (int(fields[b"sample_count"]) * int(fields.get(b"channel_count", b"1"))
                    * int(fields.get(b"sample_n_bytes", b"2")))
    except (ValueError, KeyError):
        return None
    if b"shorten" in fields.get(b"sample_coding", b""):
        return None
    return Declared(header_bytes, declared, min(declared, max(0, source.size - header_bytes)))


def ogg_ends(source: ByteSource) -> bool:
    """Whether an Ogg file ends in a whole page that says it is the last of its stream."""
    start = max(0, source.size - 2 * OGG_MAX_PAGE)
    tail = source.read_at(start, source.size - start)
    place = tail.rfind(b"OggS")
    while place >= 0:
        page = tail[place:]
        num_segments = page[26] if len(page) > 26 else 0
        length = 27 + num_segments + sum(page[27:27 + num_segments])
        if page[4:5] == b"\0" and len(page) >= 27 + num_segments:
            return bool(page[5] & 4) and len(page) >= length
        place = tail.rfind(b"OggS", 0, place)
    return False


def describe_unknown(head: bytes) -> str:
    """What a file that libsndfile can't read seems to be, and what would help."""
    supported = "want WAV, FLAC, OGG/Opus, MP3 or raw .pcm"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<")):
        return f"looks like HTML or XML, not audio: it begins {head[:32]!r}; {supported}"
    for is_it, name in (
        (head[4:8] == b"ftyp", "M4A/MP4 (AAC)"),
        (head[:2] in (b"\xff\xf1", b"\xff\xf9"), "AAC"),
        (head[:4] == b"\x1a\x45\xdf\xa3", "WebM/Matroska"),
        (head[:5] == b"#!AMR", "AMR"),
        (head[:4] == b"\x30\x26\xb2\x75", "WMA/ASF"),
        (head[:4] == b"RIFF" and head[8:12] == b"AVI ", "AVI"),
    ):
        if is_it:
            return f"is {name}; {supported}: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"
    if head[:2] == b"\x1f\x8b" or head[:4] == b"PK\x03\x04":
        return f"is a gzip or zip archive; {supported}"
    return f"begins {head[:16]!r}, which no audio format does; {supported}"
