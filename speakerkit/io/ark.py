"""Matrices and vectors in Kaldi's ark/scp, by a reader and writer of our own.

kaldiio unpickles a record that says PKL, runs a path that ends in `|`, and hands out a cut record
as a shorter one; here only its codec for compressed matrices is used (`ark_records.py`).
"""

import contextlib
import os
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.io.ark_records import RecordFault, RecordHeader, decode, encode
from speakerkit.io.ark_stream import ArkStream
from speakerkit.io.files import open_output, read_manifest
from speakerkit.io.scp import (
    ArkLocation,
    in_archive_order,
    read_array,
    read_from_stream,
    read_matrix,
    read_matrix_rows,
    read_matrix_shape,
    read_scp,
)
from speakerkit.io.tables import id_fault

__all__ = ["ArkLocation", "ArkWriter", "iter_ark", "read_array", "read_matrix", "read_matrix_rows",
           "read_matrix_shape", "read_scp", "read_vector", "read_vector_matrix", "read_vectors"]

_ARK_START = re.compile(rb"\s*[^ \t\r\n\0]+[ \t]+(\0B|\[)")
_MAX_FAULTS = 1000


class ArkWriter:
    """Writes an archive and its scp; both appear, the archive first, when the `with` ends well.

    Args:
        ark_path: the archive.
        scp_path: its list, if wanted; it names the archive by its absolute path.

    Raises (on entering, writing and leaving):
        MachineError: the place can't be written or is full.
    """

    def __init__(self, ark_path: str | os.PathLike, scp_path: str | os.PathLike | None = None):
        self.ark_path = os.fspath(ark_path)
        self.scp_path = None if scp_path is None else os.fspath(scp_path)
        self._listed_path = os.path.abspath(self.ark_path)
        if self.scp_path is not None:
            check_listed_name(self.ark_path, self.scp_path)
        self._stack = contextlib.ExitStack()
        self._keys: set[str] = set()
        self._offset = 0
        self._ark = self._scp = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:  # left in reverse order: the scp takes its name last
            if self.scp_path is not None:
                self._scp = stack.enter_context(open_output(self.scp_path, "w"))
            self._ark = stack.enter_context(open_output(self.ark_path))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    @property
    def num_records(self) -> int:
        """How many records were written."""
        return len(self._keys)

    def write(self, key: str, array: np.ndarray, compress: bool = False) -> None:
        """Append one record.

        Args:
            key: its id, one word, not written before.
            array: (dim,) or (rows, columns) float32 or float64.
            compress: a matrix as Kaldi's compression method 2: a byte a value, with an error of up
                to about 1 % of a column's range.

        Raises:
            DataError: the key is no single word or was written before; a value is nan or inf.
            ValueError: another shape or type.
        """
        array = np.asarray(array)
        try:
            header, data = encode(array, compress) if _is_finite(array) else (None, None)
        except RecordFault as fault:
            raise ValueError(f"'{key}' {fault}") from None
        if header is None:
            raise DataError(self.ark_path, f"can't be written: '{key}' holds {_first_not_finite(array)}")
        self._append(key, header, data)

    def copy_from(self, ark_path: str | os.PathLike) -> None:
        """Append all records of an archive as they are, compressed ones without decoding them.

        Raises:
            DataError: what iter_ark and write refuse.
        """
        with ArkStream(ark_path) as stream:
            for key, start, header, data in _records(stream):
                raw = header.raw
                if header.kind == "text":
                    raw, data = encode(_decode(stream, key, start, header, data), compress=False)
                self._append(key, raw, data)

    def _append(self, key: str, header: bytes, data: bytes | memoryview) -> None:
        fault = id_fault(key) if key else "an id is empty"
        if key in self._keys:
            fault = f"'{key}' twice"
        if fault is not None:
            raise DataError(self.ark_path, f"can't be written: {fault}")
        self._keys.add(key)
        prefix = key.encode() + b" "
        if self._scp is not None:
            self._scp.write(f"{key} {self._listed_path}:{self._offset + len(prefix)}\n")
        self._ark.write(prefix + header)
        self._ark.write(data)
        self._offset += len(prefix) + len(header) + len(data)


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _first_not_finite(array: np.ndarray) -> str:
    place = np.argwhere(~np.isfinite(array))[0]
    return f"{array[tuple(place)]} at {', '.join(map(str, place))}"


def check_listed_name(ark_path: str | os.PathLike, scp_path: str | os.PathLike) -> None:
    """DataError where a scp can't name an archive by its absolute path: it has no way to quote."""
    listed = os.path.abspath(ark_path)
    if not _can_stand_in_scp(listed):
        raise DataError(scp_path, f"can't name {listed!r}: a line holds no line break, no blank at its ends, no '|' "
                                  "and nothing but UTF-8")


def _can_stand_in_scp(path: str) -> bool:
    is_utf8 = path.encode("utf-8", "replace").decode("utf-8") == path
    return is_utf8 and path.strip(" \t") == path and not path.endswith("|") and not set(path) & set("\n\r\0")


def iter_ark(path: str | os.PathLike) -> Iterator[tuple[str, np.ndarray]]:
    """Read an archive from front to back, one record in memory at a time.

    Yields:
        (key, array): (dim,) or (rows, columns); float64 where it was stored so, else float32.

    Raises:
        DataError: another record type than FV DV FM DM CM CM2 CM3 and text, a record shorter than
            its header claims, a key that is missing or there already, an empty file, a file whose
            length is not the one in its manifest.
    """
    with ArkStream(path) as stream:
        for key, start, header, data in _records(stream):
            yield key, _decode(stream, key, start, header, data)


def _records(stream: ArkStream) -> Iterator[tuple[str, int, RecordHeader, memoryview]]:
    """(key, where its value begins, header, values as bytes) of a whole archive."""
    _check_length(stream.path, stream.size)
    seen: set[str] = set()
    while (key := stream.next_key()) is not None:
        if key in seen:
            raise DataError(stream.path, f"'{key}' twice; the second at byte {stream.offset}")
        seen.add(key)
        start = stream.offset
        yield key, start, *stream.next_record(key)
    if not seen:
        raise DataError(stream.path, "is empty; wanted a Kaldi archive")


def _check_length(path: str, size: int) -> None:
    """A file that we wrote has the length its manifest says: a cut between two records shows nowhere else."""
    base = os.path.splitext(path)[0]
    for output in dict.fromkeys((path, f"{base}.ark", f"{base}.scp")):  # one manifest for an ark and its scp
        manifest = read_manifest(output)
        recorded = manifest["outputs"].get(os.path.basename(path)) if manifest else None
        if isinstance(recorded, dict) and recorded.get("bytes") not in (size, None):
            raise DataError(path, f"has {size} bytes, was written with {recorded['bytes']}; cut or changed since")


def _decode(stream: ArkStream, key: str, start: int, header: RecordHeader, data: memoryview) -> np.ndarray:
    try:
        return decode(header, data)
    except RecordFault as fault:
        raise stream.fault(key, start, str(fault)) from None


def read_vectors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Embeddings by id: rows of the matrix of read_vector_matrix, which says what is refused."""
    ids, matrix = read_vector_matrix(path)
    return dict(zip(ids, matrix, strict=True))


def read_vector(path: str | os.PathLike) -> np.ndarray:
    """The only vector of a file, (dim,) float32; DataError if it holds more."""
    ids, matrix = read_vector_matrix(path)
    if len(ids) != 1:
        raise DataError(path, f"holds {len(ids)} vectors; wanted one")
    return matrix[0]


def read_vector_matrix(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """All embeddings of an archive, or of an scp, as one matrix.

    Returns:
        ids: in the file's order.
        matrix: (num_ids, dim) float32, writable; a (1, dim) matrix counts as a vector.

    Raises:
        DataError: the file is neither archive nor scp; all that iter_ark and read_scp refuse.
        DataErrors: every embedding that is no vector, has another dimension than the first, holds
            nan or inf, or is zero.
    """
    path = os.fspath(path)
    rows = _read_archive_rows(path) if _is_archive(path) else _read_scp_rows(path)
    faults = list(rows.faults)
    matrix = rows.matrix[:len(rows.ids)]
    with np.errstate(invalid="ignore"):
        is_finite = np.isfinite(matrix.sum(axis=1, dtype=np.float64))  # one nan or inf makes the sum so
    for index in np.flatnonzero(~is_finite):
        faults.append(RecordingError(path, "nan-embedding", f"'{rows.ids[index]}' holds nan or inf"))
    for index in np.flatnonzero(is_finite & ~matrix.any(axis=1)):
        faults.append(RecordingError(path, "zero-embedding", f"'{rows.ids[index]}' is zero in every dimension"))
    raise_all(faults)
    return rows.ids, matrix


def _is_archive(path: str) -> bool:
    with ArkStream(path) as stream:
        if stream.size == 0:
            raise DataError(path, "is empty; wanted a Kaldi archive or its scp")
        head = stream.peek(4200)
    return bool(_ARK_START.match(head)) or b"\0" in head


class _Rows:
    """A matrix that grows by whole rows, all of one length, and what could not become a row."""

    def __init__(self, path: str):
        self.path = path
        self.ids: list[str] = []
        self.matrix = np.empty((0, 0), dtype=np.float32)
        self.faults: list[DataError] = []

    def add(self, key: str, vector: np.ndarray, num_expected: int) -> None:
        """Take one embedding; the first sets the dimension, `num_expected` the rows to make room for."""
        if vector.ndim == 2 and vector.shape[0] == 1:  # 3D-Speaker stores embeddings so
            vector = vector[0]
        num_rows = len(self.ids)
        if num_rows == 0 and vector.ndim == 1:
            self.matrix = np.empty((max(num_expected, 1), len(vector)), dtype=np.float32)
        if vector.ndim != 1 or len(vector) == 0:
            shape = " x ".join(map(str, vector.shape))
            self._refuse(f"'{key}' is a {shape} matrix; wanted a vector" if vector.ndim == 2 else f"'{key}' is empty")
            return
        if len(vector) != self.matrix.shape[1]:
            self._refuse(f"'{key}' has {len(vector)} values, '{self.ids[0]}' has {self.matrix.shape[1]}: "
                         "embeddings of two models?")
            return
        if num_rows == len(self.matrix):
            self.matrix = np.concatenate([self.matrix, np.empty_like(self.matrix)])
        self.matrix[num_rows] = vector
        self.ids.append(key)

    def _refuse(self, message: str) -> None:
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(DataError(self.path, message))


def _read_archive_rows(path: str) -> _Rows:
    rows = _Rows(path)
    with ArkStream(path) as stream, np.errstate(over="ignore"):
        for key, start, header, data in _records(stream):
            if header.kind == "FV":  # nearly all archives of embeddings; saves a copy
                vector = np.frombuffer(data, "<f4")
            else:
                vector = _decode(stream, key, start, header, data)
            num_expected = stream.size // (4 * vector.size + 12) + 1  # at least a key of one byte before each
            rows.add(key, vector, num_expected)
    return rows


def _read_scp_rows(path: str) -> _Rows:
    locations = read_scp(path)
    _check_length(path, os.stat(path).st_size)
    vectors: list[np.ndarray | None] = [None] * len(locations)
    for ark_path, entries in in_archive_order(locations).items():
        try:
            stream = ArkStream(ark_path)
        except DataError as error:
            raise locations[entries[0][1]].fault(str(error)) from None
        with stream:
            _check_length(ark_path, stream.size)
            for index, key in entries:
                vectors[index] = read_from_stream(stream, locations[key], key)
    rows = _Rows(path)
    for key, vector in zip(locations, vectors, strict=True):
        rows.add(key, vector, len(locations))
    return rows
