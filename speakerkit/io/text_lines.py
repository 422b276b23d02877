"""Lines of a UTF-8 text file, numbered, and what can be wrong with them before they mean anything."""

import logging
import os
import re
import stat
import sys
from collections.abc import Iterator

from speakerkit.errors import DataError

log = logging.getLogger(__name__)

MAX_LINE_CHARS = 65_536
_FIRST_BYTES = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ARCHIVE_START = re.compile(rb"[^ \t\r\n\0]+ (\0B|PKL|NPY|AUDIO)")
_HANZI = re.compile("[\u4e00-\u9fff]")


def read_lines(path: str | os.PathLike, wanted: str = "'<id> <value>' a line", faults: list[DataError] | None = None,
               max_line_chars: int = MAX_LINE_CHARS) -> Iterator[tuple[int, str]]:
    """Read the lines of a text file; `-` is standard input.

    Args:
        path: a regular file or a pipe; UTF-8, a byte-order mark and CRLF line ends are accepted.
        wanted: what a line should be, for the message about an empty or binary file.
        faults: where faults of single lines go, the line being left out; without it the first is raised.
        max_line_chars: longer lines are a fault.

    Yields:
        (line number from 1, the line without its end), in order. Lines end at `\\n` only, so that no
        other Unicode line break inside an id cuts it in two; blank lines at the end don't count.

    Raises:
        DataError: no such file, not a text file, empty, not UTF-8; a blank line in the middle, a NUL,
            a carriage return inside a line, a line that is too long.
    """
    name = "standard input" if path == "-" else os.fspath(path)
    lines = _decode(name, _read_bytes(path, name, wanted)).split("\n")
    while lines and not lines[-1].strip(" \t\r"):
        lines.pop()
    if not lines:
        raise DataError(name, f"is empty; wanted {wanted}")
    if lines[0].endswith("\r"):
        log.info("%s: lines end in CRLF, read as LF", name)
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        fault = _line_fault(line, max_line_chars)
        if fault is None:
            yield number, line
        elif faults is None:
            raise DataError(name, fault, number)
        else:
            faults.append(DataError(name, fault, number))


def _line_fault(line: str, max_line_chars: int) -> str | None:
    if len(line) > max_line_chars:
        return f"line of {len(line)} characters; at most {max_line_chars} are read"
    if "\0" in line:
        return "NUL byte; wanted text"
    if "\r" in line:
        return "carriage return inside the line; wanted lines that end in LF or CRLF"
    if not line.strip(" \t"):
        return "blank line"
    return None


def _read_bytes(path: str | os.PathLike, name: str, wanted: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):  # <(a shell's pipe) is welcome, /dev/zero is not
            raise DataError(name, f"is a {'folder' if stat.S_ISDIR(kind) else 'device'}; wanted a text file")
        with open(path, "rb") as stream:
            first = stream.read(_FIRST_BYTES)
            _refuse_binary(name, first, wanted)
            return first + stream.read()
    except FileNotFoundError:
        raise DataError(name, "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        raise DataError(name, f"can't be read: {getattr(error, 'strerror', None) or error}".lower()) from error


def _refuse_binary(name: str, first: bytes, wanted: str) -> None:
    """Say it of a large archive before all of it is read."""
    if _ARCHIVE_START.match(first):
        scp = re.sub(r"\.ark$", "", name) + ".scp"
        hint = f" (did you mean {scp}?)" if os.path.exists(scp) else ""
        raise DataError(name, f"binary Kaldi archive; wanted {wanted}{hint}")
    if first.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        raise DataError(name, f"compressed file; unpack it first; wanted {wanted}")


def _decode(name: str, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(name, "looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        column = len(data[start:error.start].decode("utf-8")) + 1
        message = f"byte 0x{data[error.start]:02x} in column {column} is not UTF-8"
        raise DataError(name, message + encoding_hint(data), line) from None


def encoding_hint(data: bytes, cure: str = "convert it: iconv -f GBK -t UTF-8") -> str:
    """What to say after 'is not UTF-8': whether it looks like GBK, and what helps then."""
    try:
        text = data.decode("gbk")
    except UnicodeDecodeError:
        return "; convert the file"
    if not _HANZI.search(text):
        return "; convert the file"
    return f" (the file looks like GBK); {cure}"
