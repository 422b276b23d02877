"""Lines of two ids and perhaps a third field, by the million: the common ground of trials and scores.

Files as programs write them (one separator between fields, no blank lines) go through polars in
blocks. At the first thing that is odd the file is read again line by line, which takes all that
tables may hold and says of everything else where it stands.
"""

import array
import contextlib
import dataclasses
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from speakerkit.errors import DataError, DataErrors, raise_all
from speakerkit.io.files import sha256_file
from speakerkit.io.tables import id_fault, read_lines, split_fields

log = logging.getLogger(__name__)

_MOST_FAULTS = 10_000           # then reading stops: a file of another kind is wrong in every line
_BLOCK_BYTES = 1 << 24
_MAX_ID_CHARS = 65_536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# One line's fields -> (enrol_id, test_id, the third as a number if there is one), or what is wrong with them.
ParseLine = Callable[[list[str]], tuple[str, str, float | None] | str]


@dataclasses.dataclass(frozen=True)
class TrialLines:
    """A file's lines, column by column; place `i` of the arrays is line `i + 1` of the file.

    Attributes:
        name: the file, for messages.
        sha256: of its bytes.
        enrol_ids, test_ids: the different ids, in the order of their first appearance.
        enrol_index, test_index: (num_lines,) int32 places in those lists.
        third: (num_lines,) numbers that stand for the third field; None where there is none.
    """
    name: str
    sha256: str
    enrol_ids: list[str]
    test_ids: list[str]
    enrol_index: np.ndarray
    test_index: np.ndarray
    third: np.ndarray | None

    def pair(self, place: int) -> str:
        """The ids of one line, for messages."""
        return f"'{self.enrol_ids[self.enrol_index[place]]} {self.test_ids[self.test_index[place]]}'"


class _Odd(Exception):
    """Something that the fast reader leaves to the line-by-line reader."""


class _IdColumn:
    """Ids as numbers, in the order of their first appearance."""

    def __init__(self):
        self.numbers: dict[str, int] = {}
        self.index = array.array("i")

    def append(self, name: str) -> None:
        self.index.append(self.numbers.setdefault(name, len(self.numbers)))

    def extend(self, column: pl.Series) -> None:
        """Add a block of categories; their codes mean something within the block only."""
        codes = column.to_physical().to_numpy()
        first = np.full(int(codes.max()) + 1, -1)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal codes the last assignment stays
        used = np.flatnonzero(first >= 0)
        used = used[np.argsort(first[used])]
        numbers = np.empty(len(first), dtype=np.int32)
        names = column.gather(first[used]).cast(pl.String).to_list()
        numbers[used] = [self.numbers.setdefault(name, len(self.numbers)) for name in names]
        self.index.frombytes(numbers[codes].tobytes())

    def to_numpy(self) -> np.ndarray:
        return np.frombuffer(self.index, dtype=np.int32)

    def is_plain(self) -> bool:
        """Whether no id holds what the line-by-line reader refuses or takes for a separator."""
        return all(id_fault(name) is None and len(name) <= _MAX_ID_CHARS for name in self.numbers)


def first_fields(path: str | os.PathLike) -> list[str]:
    """The fields of a file's first line; none where it can't be read as text."""
    try:
        with open(path, "rb") as stream:
            line = stream.readline(4 * _MAX_ID_CHARS).removeprefix(_BYTE_ORDER_MARK)
        return split_fields(line.decode("utf-8").rstrip("\r\n"))
    except (OSError, ValueError):  # UnicodeDecodeError is a ValueError, and so is a NUL in a path
        return []


def read_trial_lines(path: str | os.PathLike, name: str, wanted: str, columns: dict[str, pl.DataType],
                     parse_line: ParseLine) -> TrialLines:
    """Read a file of trials or scores.

    Args:
        path: a regular file.
        name: what messages call it.
        wanted: what a line should be, for messages.
        columns: the fields of its first line for the fast reader: `enrol` and `test` (categories)
            and perhaps `third`; none if that line is odd.
        parse_line: what the line-by-line reader makes of the fields of a line.

    Raises:
        DataError: as `tables.read_lines`; DataErrors: the lines that `parse_line` refuses or whose ids
            are no words, up to 10,000.
    """
    lines = _read_blocks(path, name, columns) if columns and os.path.isfile(path) else None
    return lines or _read_line_by_line(path, name, wanted, parse_line)


def _read_blocks(path: str | os.PathLike, name: str, columns: dict[str, pl.DataType]) -> TrialLines | None:
    """The whole file through polars, or None if anything in it is odd."""
    enrol, test, thirds, digest = _IdColumn(), _IdColumn(), [], hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in _whole_lines(stream, digest):
                if not enrol.index:
                    has_crlf = b"\r" in block[:block.find(b"\n")]
                frame = _parse_block(block, columns)
                enrol.extend(frame["enrol"])
                test.extend(frame["test"])
                if "third" in columns:
                    thirds.append(frame["third"].to_physical().to_numpy())
    except (_Odd, OSError, pl.exceptions.PolarsError):
        return None
    third = np.concatenate(thirds) if thirds else None
    if not (enrol.index and enrol.is_plain() and test.is_plain() and (third is None or np.isfinite(third).all())):
        return None
    if has_crlf:
        log.info("%s: lines end in CRLF, read as LF", name)
    return TrialLines(name, digest.hexdigest(), list(enrol.numbers), list(test.numbers), enrol.to_numpy(),
                      test.to_numpy(), third)


def _whole_lines(stream, digest) -> Iterator[bytes]:
    """Blocks that end where a line ends; every byte goes into the digest."""
    rest = b""
    while data := stream.read(_BLOCK_BYTES):
        digest.update(data)
        cut = data.rfind(b"\n") + 1
        if cut == 0 and len(data) == _BLOCK_BYTES:
            raise _Odd("a line longer than a block")
        if cut:
            yield rest + data[:cut]
            rest = b""
        rest += data[cut:]
    if rest:
        yield rest


def _parse_block(block: bytes, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        raise _Odd("a carriage return inside a line, which polars drops at the end of a field")
    separator = "\t" if b"\t" in block[:block.find(b"\n")] else " "
    frame = pl.read_csv(block, separator=separator, has_header=False, quote_char=None, schema=columns)
    num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    # A missing field, a doubled separator and a blank line all leave a null or change the count.
    if frame.height != num_lines or any(frame.null_count().row(0)):
        raise _Odd("a line without its fields")
    return frame


def _read_line_by_line(path: str | os.PathLike, name: str, wanted: str, parse_line: ParseLine) -> TrialLines:
    enrol, test, third = _IdColumn(), _IdColumn(), array.array("d")
    faults: list[DataError] = []
    for number, line in read_lines(path, wanted, faults):
        parsed = parse_line(split_fields(line))
        fault = parsed if isinstance(parsed, str) else _new_id_fault(enrol, parsed[0]) or _new_id_fault(test, parsed[1])
        if fault is None:
            enrol.append(parsed[0])
            test.append(parsed[1])
            if parsed[2] is not None:
                third.append(parsed[2])
        else:
            faults.append(DataError(name, fault, number))
        if len(faults) >= _MOST_FAULTS:
            break
    raise_all(faults)
    return TrialLines(name, sha256_file(path), list(enrol.numbers), list(test.numbers), enrol.to_numpy(),
                      test.to_numpy(), np.frombuffer(third) if third else None)


def _new_id_fault(column: _IdColumn, name: str) -> str | None:
    return None if name in column.numbers else id_fault(name)


@contextlib.contextmanager
def readable_twice(path: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """(path to open, name for messages): standard input (`-`) and pipes are copied to a temporary file first."""
    path = os.fspath(path)
    is_pipe = path == "-" or (os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode))
    if not is_pipe:
        yield path, path
        return
    name = "standard input" if path == "-" else path
    with tempfile.NamedTemporaryFile(prefix="speakerkit-") as copy:
        with contextlib.ExitStack() as stack:
            source = sys.stdin.buffer if path == "-" else stack.enter_context(open(path, "rb"))
            shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        try:
            yield copy.name, name
        except DataErrors as errors:
            raise DataErrors([DataError(name, fault.message, fault.line) for fault in errors.faults]) from None
        except DataError as error:
            raise DataError(name, error.message, error.line) from None
