"""The members of a tar archive, read without trust in who made it.

A reader of our own: `tarfile` takes damage in the middle for the end of an archive, and which
names and kinds it lets pass depends on Python's patch release. Read are ustar, GNU long names and
the paths and sizes of pax headers; links, devices, pipes and sparse files are refused.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from speakerkit.errors import DataError

BLOCK = 512
GZIP_MAGIC = b"\x1f\x8b"
_ZEROS = bytes(BLOCK)
_REGULAR, _FOLDER = (b"0", b"\0", b"7"), b"5"
_GNU_LONG_NAME, _GNU_LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_EXTENSIONS = (_GNU_LONG_NAME, _GNU_LONG_LINK, _PAX, _PAX_GLOBAL)
_REFUSED_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device",
                  b"6": "a named pipe", b"S": "a sparse file"}
_MAX_EXTENSION_BYTES = 1 << 16  # of a long name or a pax header
_MAX_COMPONENT_BYTES = 255      # what Linux file systems take
_MAX_PATH_BYTES = 1024
_MAX_DEPTH = 32                 # folders in a path: thousands of deep paths would use up a file system's entries
_MAX_TIME = 1 << 33
_CHUNK = 1 << 20


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may grow to; beyond it is taken for a bomb."""

    num_files: int = 2_000_000  # and as many folders
    file_bytes: int = 8 << 30
    total_bytes: int = 512 << 30
    ratio: float = 100.0  # unpacked bytes for one of the archive's: speech gives 1 to 3, gzip can reach 1,027
    ratio_from_bytes: int = 64 << 20  # unpacked bytes from which on the ratio is judged


@dataclass(frozen=True)
class Member:
    """A regular file or a folder: its path, checked and relative, and the bytes that follow."""

    parts: tuple[str, ...]
    size: int
    time: int  # of its last change, in seconds since 1970
    is_folder: bool

    @property
    def name(self) -> str:
        """The path as text."""
        return "/".join(self.parts)


class TarStream:
    """The bytes of a tar file, gzipped or not, counted against the limits."""

    def __init__(self, path: str | os.PathLike, raw: BinaryIO, limits: UnpackLimits,
                 progress: Callable[[int], None] | None = None):
        self.path = path
        self.limits = limits
        self.num_files = 0
        self.num_folders = 0
        self.place = "at its start"
        self._raw = raw
        self._num_bytes = 0
        self._progress = progress
        is_gzipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        self._stream = gzip.GzipFile(fileobj=raw, mode="rb") if is_gzipped else raw

    def fault(self, message: str) -> DataError:
        """What is wrong, as an error that names the archive."""
        return DataError(self.path, message)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; DataError where the archive ends before, is damaged or passes a limit."""
        data = self._read_some(size)
        if len(data) < size:
            raise self.fault(f"cut or still being written: it ends {self.place}")
        return data

    def finish(self) -> None:
        """Read what follows the end mark: only zeros may; gzip's checksum over everything is tested by this."""
        self.place = f"behind its {self.num_files} files"
        while data := self._read_some(_CHUNK):
            if data.strip(b"\0"):
                raise self.fault("damaged: data follow the end mark")

    def _read_some(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except EOFError:
            raise self.fault(f"cut or still being written: the gzip stream ends {self.place}") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise self.fault(f"damaged {self.place}: {error}") from None
        except OSError as error:
            raise self.fault(f"can't be read {self.place}: {error.strerror}") from None
        self._num_bytes += len(data)
        read = self._raw.tell()
        if self._progress is not None:
            self._progress(read)
        limits = self.limits
        if self._num_bytes > limits.total_bytes:
            raise self.fault(f"unpacks to more than {limits.total_bytes:,} bytes")
        if self._num_bytes > max(limits.ratio_from_bytes, limits.ratio * read):
            ratio = self._num_bytes / read
            raise self.fault(f"unpacks to {ratio:.0f} times its size {self.place}; at most {limits.ratio:g} is taken")
        return data


def read_members(stream: TarStream) -> Iterator[Member]:
    """Every regular file and folder of a tar stream, in its order; whoever iterates reads `size` bytes of each.

    Raises:
        DataError: cut or damaged anywhere, a link, device, pipe or sparse file, an absolute or odd name
            or one with '..', more or larger files than the limits allow.
    """
    long_name, pax = None, {}
    while (block := stream.read(BLOCK)) != _ZEROS:
        header = _Header(stream, block)
        if header.kind in _EXTENSIONS:
            data = _read_extension(stream, header)
            if header.kind == _GNU_LONG_NAME:
                long_name = data.split(b"\0")[0]
            elif header.kind == _PAX:
                pax = _parse_pax(stream, data)
            elif header.kind == _PAX_GLOBAL and _parse_pax(stream, data):
                raise stream.fault("a pax header sets a path or size for all files; that is not taken")
            continue
        yield from _one_member(stream, header, pax.get("path", long_name or header.name), pax.get("size"))
        long_name, pax = None, {}
    if stream.read(BLOCK) != _ZEROS:
        raise stream.fault(f"damaged {stream.place}: half an end mark")
    stream.finish()


def _one_member(stream: TarStream, header: "_Header", raw_name: bytes, pax_size: bytes | None) -> Iterator[Member]:
    name = _printable(raw_name)
    if header.kind in _REFUSED_KINDS:
        raise stream.fault(f"'{name}' is {_REFUSED_KINDS[header.kind]}; only regular files are unpacked")
    is_folder = header.kind == _FOLDER or (header.kind == b"\0" and raw_name.endswith(b"/"))
    if not is_folder and header.kind not in _REGULAR:
        raise stream.fault(f"'{name}' is of the unknown kind {header.kind!r}; only regular files are unpacked")
    fault, parts = _check_name(raw_name)
    if not fault and not parts and not is_folder:
        fault = "names no file"
    if fault:
        raise stream.fault(f"member '{name}' {fault}")
    size = header.size if pax_size is None else int(pax_size)
    if is_folder:
        size = 0  # some writers give a folder the size of what is in it; no data follow
    if size > stream.limits.file_bytes:
        raise stream.fault(f"'{name}' has {size:,} bytes; at most {stream.limits.file_bytes:,} are taken")
    stream.num_files += not is_folder
    stream.num_folders += is_folder
    if max(stream.num_files, stream.num_folders) > stream.limits.num_files:
        raise stream.fault(f"holds more than {stream.limits.num_files:,} {'folders' if is_folder else 'files'}")
    stream.place = f"in '{name}'"
    yield Member(parts, size, header.time, is_folder)
    stream.read(-size % BLOCK)
    stream.place = f"after '{name}', file {stream.num_files:,}"


class _Header:
    """The fields of one 512-byte header that are used here."""

    def __init__(self, stream: TarStream, block: bytes):
        total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        self.size = _parse_number(block[124:136])
        if _parse_number(block[148:156]) != total or self.size is None:
            is_start = stream.place == "at its start"
            raise stream.fault("is no tar archive" if is_start else f"damaged {stream.place}: no header follows")
        self.time = min(_parse_number(block[136:148]) or 0, _MAX_TIME)
        self.kind = block[156:157]
        self.name = block[:100].split(b"\0")[0]
        prefix = block[345:500].split(b"\0")[0]
        if block[257:263] == b"ustar\0" and prefix:  # GNU's own format keeps other things there
            self.name = prefix + b"/" + self.name


def _parse_number(field: bytes) -> int | None:
    """Octal text, or GNU's base 256; None if it is neither or negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    return int(text or b"0", 8) if all(c in b"01234567" for c in text) else None


def _read_extension(stream: TarStream, header: _Header) -> bytes:
    if header.size > _MAX_EXTENSION_BYTES:
        raise stream.fault(f"a name or pax header of {header.size:,} bytes {stream.place}; "
                           f"at most {_MAX_EXTENSION_BYTES:,} are taken")
    data = stream.read(header.size)
    stream.read(-header.size % BLOCK)
    return data


def _parse_pax(stream: TarStream, data: bytes) -> dict[str, bytes]:
    """Path and size from '<length> <key>=<value>\\n' records; the other keys don't matter here."""
    found = {}
    while data.strip(b"\0"):
        digits = data.split(b" ", 1)[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, equals, value = data[len(digits) + 1:length - 1].partition(b"=")
        is_size = value.isdigit() and len(value) < 20
        if not equals or data[length - 1:length] != b"\n" or (key == b"size" and not is_size):
            raise stream.fault(f"damaged {stream.place}: a pax header that can't be read")
        if key.startswith(b"GNU.sparse"):
            raise stream.fault(f"a sparse file {stream.place}; only regular files are unpacked")
        if key in (b"path", b"size"):
            found[key.decode()] = value
        data = data[length:]
    return found


def _check_name(raw: bytes) -> tuple[str | None, tuple[str, ...]]:
    """(what is wrong with a member's name or None, its parts)."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "has a name that is not UTF-8", ()
    if not name.isprintable() or "\\" in name:
        return "has a name with a control or invisible character or a backslash", ()
    if name.startswith("/"):
        return "has an absolute path", ()
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        return "has '..' in its path", ()
    if len(parts) > _MAX_DEPTH:
        return f"has a path of {len(parts)} folders; at most {_MAX_DEPTH} are taken", ()
    if len(raw) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_COMPONENT_BYTES for part in parts):
        return f"has a name longer than {_MAX_COMPONENT_BYTES} bytes, or a path longer than {_MAX_PATH_BYTES}", ()
    return None, parts


def _printable(raw: bytes) -> str:
    """A name for messages: nothing in it can move the cursor, and it isn't long."""
    text = raw.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 100 else f"{text[:97]}..."
