"""Where a record lies: scp lines of '<id> <archive>:<offset>', and reading what they point at.

The bytes before an offset must be the id: a line cut from `:52` to `:5` otherwise gives another
utterance's values. A path that a shell would run is refused, never opened.
"""

import functools
import os
import re
from typing import NamedTuple

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.io.ark_records import MAX_HEADER_BYTES, RecordFault, RecordHeader, decode, parse_header
from speakerkit.io.ark_stream import RANDOM_BLOCK_BYTES, ArkStream, open_archive
from speakerkit.io.tables import read_table, resolve_path

_MAX_SHOWN_KEY_BYTES = 80


class ArkLocation(NamedTuple):
    """Where one record lies.

    Attributes:
        ark_path: the archive.
        offset: of the record's value, behind its key; None for a file that is one value without a key.
        line: the line of the scp that says so.
        scp_path: that scp.
    """
    ark_path: str
    offset: int | None
    line: int | None = None
    scp_path: str | None = None

    def fault(self, message: str) -> DataError:
        """A DataError at the scp's line, or at the archive where there is no scp."""
        if self.scp_path is None:
            return DataError(self.ark_path, message)
        return DataError(self.scp_path, message, self.line)


def read_scp(path: str | os.PathLike) -> dict[str, ArkLocation]:
    """Read '<id> <archive>:<offset>' lines.

    Returns:
        id -> ArkLocation, in the file's order. A relative archive is taken from the working folder,
        else from the scp's folder.

    Raises:
        DataError: every faulty line: what read_table refuses, a shell pipe, standard input, `~`.
    """
    table = read_table(path, "archive:offset")
    find_archive = functools.cache(lambda ark_path: resolve_path(ark_path, table.path))
    faults, locations = [], {}
    for key, value in table.values.items():
        fault = _path_fault(value)
        if fault is not None:
            faults.append(table.fault(key, fault))
            continue
        ark_path, offset = _split_offset(value)
        locations[key] = ArkLocation(find_archive(ark_path), offset, table.lines[key], table.path)
    raise_all(faults)
    return locations


def _path_fault(value: str) -> str | None:
    if value.startswith("|") or value.endswith("|"):
        return f"'{value}' is a shell pipe; wanted an archive and an offset"
    if value == "-":
        return "'-' is standard input; wanted an archive and an offset"
    if value.startswith("~"):
        return f"'{value}' begins with '~'; write {os.path.expanduser(value)}"
    return None


def _split_offset(value: str) -> tuple[str, int | None]:
    """Archive and offset; a file that is really called `x.ark:5` is that file."""
    ark_path, colon, digits = value.rpartition(":")
    if not (colon and digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        return value, None
    if value in _files_with_offset_names(ark_path):
        return value, None
    return ark_path, int(digits)


@functools.lru_cache(maxsize=256)  # one look at the folder for each archive instead of one for each line
def _files_with_offset_names(ark_path: str) -> frozenset[str]:
    folder, name = os.path.split(ark_path)
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return frozenset()
    return frozenset(os.path.join(folder, found) for found in names if found.startswith(f"{name}:"))


def read_matrix(location: ArkLocation, key: str) -> np.ndarray:
    """The matrix at a location.

    Args:
        location: from read_scp.
        key: the id that must stand before it.

    Returns:
        (rows, columns) float32.

    Raises:
        DataError: no such archive, another key, a vector, a type that is no matrix, cut data.
    """
    array = read_array(location, key)
    if array.ndim != 2:
        raise location.fault(f"'{key}' in {location.ark_path} is a vector; wanted a matrix")
    return array


def read_array(location: ArkLocation, key: str) -> np.ndarray:
    """The vector or matrix at a location, float32; raises as read_matrix does."""
    with ArkStream(location.ark_path, RANDOM_BLOCK_BYTES) as stream:
        return read_from_stream(stream, location, key)


def read_from_stream(stream: ArkStream, location: ArkLocation, key: str) -> np.ndarray:
    """The vector or matrix at a location of an open archive, float32; raises as read_matrix does."""
    _go_behind_key(stream, location, key)
    start = stream.offset
    header, data = stream.next_record(key)
    try:
        array = decode(header, data)
    except RecordFault as fault:
        raise stream.fault(key, start, str(fault)) from None
    return to_float32(array)


def to_float32(array: np.ndarray) -> np.ndarray:
    """The same values as float32; what is too large becomes inf, for the finite checks to find."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _go_behind_key(stream: ArkStream, location: ArkLocation, key: str) -> None:
    if location.offset is None:
        stream.seek(0)
        return
    wanted = key.encode() + b" "
    start = max(location.offset - max(len(wanted), _MAX_SHOWN_KEY_BYTES), 0)
    if location.offset >= stream.size:
        raise location.fault(f"offset {location.offset} lies past the end of {stream.path} ({stream.size} bytes)")
    stream.seek(start)
    before = stream.peek(location.offset - start)
    stream.skip(len(before))
    if not before.endswith(wanted):
        raise location.fault(_key_fault(before, location, key))


def _key_fault(before: bytes, location: ArkLocation, key: str) -> str:
    found = re.search(rb"([^\x00-\x20\x7f]+) $", before)
    holds = f"'{found.group(1).decode(errors='replace')}'" if found else "no key"
    return f"offset {location.offset} in {location.ark_path} holds {holds}, wanted '{key}'"


def read_matrix_shape(location: ArkLocation, key: str) -> tuple[int, int]:
    """(rows, columns) of the matrix at a location, from its header alone; raises as read_matrix does."""
    descriptor, size = open_archive(location.ark_path)
    try:
        header, _ = _read_header(descriptor, size, location, key)
    finally:
        os.close(descriptor)
    if header is None:
        return read_matrix(location, key).shape
    return header.shape


def read_matrix_rows(location: ArkLocation, key: str, start: int, stop: int) -> np.ndarray:
    """Rows start..stop of the matrix at a location; reads only those where rows lie together.

    Args:
        location: from read_scp.
        key: the id that must stand before it.
        start: first row, from 0.
        stop: row after the last.

    Returns:
        (stop - start, columns) float32.

    Raises:
        DataError: as read_matrix.
        ValueError: the matrix has no such rows.

    A Kaldi-compressed matrix is read whole, for it lies by columns, and only those rows are decoded.
    """
    descriptor, size = open_archive(location.ark_path)
    try:
        header, values_at = _read_header(descriptor, size, location, key)
        if header is None:
            return _rows_of_text(location, key, start, stop)
        _check_rows(header.shape[0], start, stop, key)
        rows = slice(start, stop)
        if header.kind in ("FM", "DM"):
            row_bytes = header.num_bytes // header.shape[0]
            values_at += start * row_bytes
            header = header._replace(shape=(stop - start, header.shape[1]), num_bytes=(stop - start) * row_bytes)
            rows = slice(None)
        data = os.pread(descriptor, header.num_bytes, values_at)
    finally:
        os.close(descriptor)
    if len(data) < header.num_bytes:
        raise location.fault(f"{location.ark_path} was cut while it was read")
    return to_float32(decode(header, data, rows))


def _rows_of_text(location: ArkLocation, key: str, start: int, stop: int) -> np.ndarray:
    matrix = read_matrix(location, key)
    _check_rows(matrix.shape[0], start, stop, key)
    return matrix[start:stop]


def _check_rows(num_rows: int, start: int, stop: int, key: str) -> None:
    if not 0 <= start < stop <= num_rows:
        raise ValueError(f"rows {start} to {stop} of '{key}', which has {num_rows}")


def _read_header(descriptor: int, size: int, location: ArkLocation, key: str) -> tuple[RecordHeader | None, int]:
    """Header and place of a binary matrix's values, all checked; None for a text record."""
    wanted = b"" if location.offset is None else key.encode() + b" "
    offset = location.offset or 0
    if offset >= size or offset < len(wanted):
        raise location.fault(f"offset {offset} lies past the end of {location.ark_path} ({size} bytes)"
                             if offset >= size else _key_fault(b"", location, key))
    head = os.pread(descriptor, len(wanted) + MAX_HEADER_BYTES, offset - len(wanted))
    if not head.startswith(wanted):
        before = os.pread(descriptor, min(offset, _MAX_SHOWN_KEY_BYTES), max(offset - _MAX_SHOWN_KEY_BYTES, 0))
        raise location.fault(_key_fault(before, location, key))
    head = head[len(wanted):]
    if not head.startswith(b"\0"):
        return None, 0
    try:
        header = parse_header(head)
        if len(header.shape) != 2:
            raise RecordFault("is a vector; wanted a matrix")
        left = size - offset - len(header.raw)
        if left < header.num_bytes:
            raise RecordFault(f"has {left} of {header.num_bytes} bytes; truncated")
    except RecordFault as fault:
        raise DataError(location.ark_path, f"'{key}' at byte {offset} {fault}") from None
    return header, offset + len(header.raw)


def in_archive_order(locations: dict[str, ArkLocation]) -> dict[str, list[tuple[int, str]]]:
    """Archive -> its (index in `locations`, key), by offset: each archive is opened once and read forwards."""
    by_archive: dict[str, list[tuple[int, str]]] = {}
    for index, (key, location) in enumerate(locations.items()):
        by_archive.setdefault(location.ark_path, []).append((index, key))
    for entries in by_archive.values():
        entries.sort(key=lambda entry: locations[entry[1]].offset or 0)
    return by_archive
