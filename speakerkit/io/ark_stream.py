"""An archive read from front to back in blocks: keys and records, with lengths checked against the file."""

import os
import re
import stat
from types import TracebackType
from typing import Self

from speakerkit.errors import DataError
from speakerkit.io.ark_records import MAX_HEADER_BYTES, VECTOR_HEADER_BYTES, RecordFault, RecordHeader, parse_header
from speakerkit.io.tables import id_fault

BLOCK_BYTES = 1 << 20  # read at a time from front to back
RANDOM_BLOCK_BYTES = 1 << 12  # where one record is wanted
_MAX_KEY_BYTES = 4096
_AFTER_KEY = re.compile(rb"[ \t\r\n\0]")
_BLANKS = b" \t\r\n"


class ArkStream:
    """A reader of one archive; use it in a `with`.

    Args:
        path: the archive.
        block_bytes: how much is read at a time, at least.

    Attributes:
        path: the archive, for messages.
        size: its length in bytes when it was opened.
    """

    def __init__(self, path: str | os.PathLike, block_bytes: int = BLOCK_BYTES):
        self.path = os.fspath(path)
        self._block_bytes = block_bytes
        self._descriptor, self.size = open_archive(self.path)
        self._buffer = b""
        self._base = 0  # where in the file the buffer begins
        self._position = 0  # in the buffer
        self._is_after_text = True  # blanks may stand before a key at the start and after text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    @property
    def offset(self) -> int:
        """Where in the file the next byte stands."""
        return self._base + self._position

    def seek(self, offset: int) -> None:
        """Go to a place in the file; near ones cost nothing."""
        if self._base <= offset <= self._base + len(self._buffer):
            self._position = offset - self._base
        else:
            self._buffer, self._base, self._position = b"", offset, 0

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the file; the place stays."""
        self._fill(count)
        return self._buffer[self._position:self._position + count]

    def skip(self, count: int) -> None:
        """Pass over bytes that `peek` has shown."""
        self._position += count

    def next_key(self) -> str | None:
        """The key of the next record, or None at the end of the file; afterwards its value is next.

        Raises:
            DataError: no key stands here, or half a key.
        """
        self._fill(_MAX_KEY_BYTES)
        if self._is_after_text:
            self._skip_blanks()
        position = self._position
        if position == len(self._buffer):
            return None
        end = _AFTER_KEY.search(self._buffer, position, position + _MAX_KEY_BYTES)
        if end is None and len(self._buffer) - position < _MAX_KEY_BYTES:
            raise DataError(self.path, f"ends inside a key at byte {self.offset}; truncated")
        raw = self._buffer[position:position + 20 if end is None else end.start()]
        try:
            key = raw.decode("utf-8")
        except UnicodeDecodeError:
            key = ""
        if end is None or end.group() not in (b" ", b"\t") or not key or id_fault(key):
            raise DataError(self.path, f"no key at byte {self.offset}: {raw[:20]!r}; damaged, or no Kaldi archive")
        self._position = end.end()
        return key

    def next_record(self, key: str) -> tuple[RecordHeader, memoryview]:
        """The record that stands here: its header and the bytes of its values.

        Args:
            key: its key, for messages.

        Raises:
            DataError: another type than vector or matrix, or fewer bytes than the header claims.
        """
        start = self.offset
        self._fill(MAX_HEADER_BYTES)
        if self._buffer[self._position:self._position + 1] != b"\0":
            return self._next_text(key, start)
        head = self._buffer[self._position:self._position + VECTOR_HEADER_BYTES]
        if head[3:5] != b"V ":
            head = self._buffer[self._position:self._position + MAX_HEADER_BYTES]
        try:
            header = parse_header(head)
        except RecordFault as fault:
            raise self.fault(key, start, str(fault)) from None
        self._position += len(header.raw)
        left = self.size - self.offset
        if left < header.num_bytes:
            raise self.fault(key, start, f"has {left} of {header.num_bytes} bytes; truncated")
        self._fill(header.num_bytes)
        data = memoryview(self._buffer)[self._position:self._position + header.num_bytes]
        if len(data) < header.num_bytes:
            raise self.fault(key, start, "was cut while it was read")
        self._position += header.num_bytes
        self._is_after_text = False
        return header, data

    def _next_text(self, key: str, start: int) -> tuple[RecordHeader, memoryview]:
        while self._buffer[self._position:self._position + 1] in (b" ", b"\t"):
            self._position += 1
            self._fill(1)
        opening = self._buffer[self._position:self._position + 1]
        if opening != b"[":
            told = "is cut before its value; truncated" if not opening else "is no Kaldi vector or matrix"
            raise self.fault(key, start, told)
        self._position += 1
        searched = 0
        while (end := self._buffer.find(b"]", self._position + searched)) < 0:
            searched = len(self._buffer) - self._position
            if self._base + len(self._buffer) >= self.size:
                raise self.fault(key, start, "has no ']'; truncated")
            self._fill(2 * searched + 1)
        data = memoryview(self._buffer)[self._position:end]
        self._position = end + 1
        self._is_after_text = True
        return RecordHeader("text", (), b"", len(data)), data

    def fault(self, key: str, start: int, message: str) -> DataError:
        """A DataError about the record of `key` whose value begins at byte `start`."""
        return DataError(self.path, f"'{key}' at byte {start} {message}")

    def _skip_blanks(self) -> None:
        while self._position < len(self._buffer) and self._buffer[self._position] in _BLANKS:
            self._position += 1
            self._fill(_MAX_KEY_BYTES)

    def _fill(self, count: int) -> None:
        """Have `count` bytes in the buffer, or all that are left."""
        end = self._base + len(self._buffer)
        missing = count - (len(self._buffer) - self._position)
        if missing <= 0 or end >= self.size:
            return
        blocks = [self._buffer[self._position:]]
        wanted = min(max(missing, self._block_bytes), self.size - end)
        while wanted > 0 and (block := os.pread(self._descriptor, wanted, end)):
            blocks.append(block)
            wanted -= len(block)
            end += len(block)
        self._base += self._position
        self._buffer = b"".join(blocks)
        self._position = 0
        if wanted > 0:  # it became shorter since it was opened
            self.size = end


def open_archive(path: str) -> tuple[int, int]:
    """A descriptor of a regular file and the file's length; DataError for anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe without a writer would wait for ever
            raise DataError(path, "is no regular file; wanted a Kaldi archive")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(path, f"can't be read: {getattr(error, 'strerror', None) or error}".lower()) from error
    return descriptor, os.fstat(descriptor).st_size
