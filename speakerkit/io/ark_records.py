"""One record of a Kaldi archive: its header, its values, its bytes.

The record types are a fixed list (FV DV FM DM CM CM2 CM3 and text): a reader that takes any type
it is told runs pickles. Every length comes from the header and is checked by the caller against
the bytes that are there before anything is allocated.
"""

import functools
import struct
from typing import NamedTuple

import numpy as np

MAX_HEADER_BYTES = 32
VECTOR_HEADER_BYTES = 10
_VALUE_BYTES = {"FV": 4, "DV": 8, "FM": 4, "DM": 8}
_COMPRESSED = ("CM", "CM2", "CM3")
_TEXT_NUMBER_BYTES = b"+-.0123456789eEnNaAiIfFtTyY \t\r\n"
KALDI_COMPRESSION_METHOD = 2  # kSpeechFeature: a byte a value, four percentiles a column; others clip or lose more


class RecordFault(ValueError):
    """What is wrong with a record; the reader that knows file and key makes a DataError of it."""


class RecordHeader(NamedTuple):
    """What stands before the values of a record.

    Attributes:
        kind: one of FV DV FM DM CM CM2 CM3, or `text`.
        shape: (dim,) or (rows, columns); () for text, which has to be parsed to know.
        raw: the header's own bytes.
        num_bytes: how many bytes of values follow.
        scale: smallest value and range of a compressed matrix.
    """
    kind: str
    shape: tuple[int, ...]
    raw: bytes
    num_bytes: int
    scale: tuple[float, float] = (0.0, 0.0)


@functools.lru_cache(maxsize=64)  # the embeddings of one archive all have the same header
def parse_header(head: bytes) -> RecordHeader:
    """Read a binary header.

    Args:
        head: the bytes after the key, from `\\0B` on: MAX_HEADER_BYTES of them (or VECTOR_HEADER_BYTES of a
            vector, which the cache needs to meet them again), fewer at a file's end.

    Raises:
        RecordFault: another record type, an impossible size, or fewer bytes than a header has.
    """
    kind = head[2:6].split(b" ")[0].decode("latin-1")
    if kind not in _VALUE_BYTES and kind not in _COMPRESSED:
        raise RecordFault(f"is no Kaldi vector or matrix (record type {kind!r}); "
                          "wanted FV, DV, FM, DM, CM, CM2, CM3 or text")
    start = 3 + len(kind)
    try:
        if kind in _COMPRESSED:
            minimum, value_range, rows, columns = struct.unpack_from("<ffii", head, start)
            header = RecordHeader(kind, (rows, columns), head[:start + 16],
                                  _num_compressed_bytes(kind, rows, columns), (minimum, value_range))
        elif kind.endswith("V"):
            mark, dim = struct.unpack_from("<bi", head, start)
            header = RecordHeader(kind, (dim,), head[:start + 5], dim * _VALUE_BYTES[kind])
            _check_marks(mark)
        else:
            mark, rows, second_mark, columns = struct.unpack_from("<bibi", head, start)
            header = RecordHeader(kind, (rows, columns), head[:start + 10], rows * columns * _VALUE_BYTES[kind])
            _check_marks(mark, second_mark)
    except struct.error:
        raise RecordFault("is cut in its header; truncated") from None
    if min(header.shape) < 0 or (min(header.shape) == 0 and max(header.shape) > 0):
        raise RecordFault(f"claims the size {' x '.join(map(str, header.shape))}")
    return header


def _num_compressed_bytes(kind: str, rows: int, columns: int) -> int:
    if kind == "CM":
        return columns * (8 + rows)
    return rows * columns * (2 if kind == "CM2" else 1)


def _check_marks(*marks: int) -> None:
    """Kaldi writes the width of an integer, 4 bytes, before it."""
    if any(mark != 4 for mark in marks):
        raise RecordFault("has a damaged header")


def decode(header: RecordHeader, data: bytes | memoryview, rows: slice = slice(None)) -> np.ndarray:
    """The values of a record, as a writable copy.

    Args:
        header: of the record.
        data: all its values' bytes.
        rows: which rows of a matrix; the others of a compressed one are not decoded.

    Returns:
        (dim,) or (rows, columns); float64 for DV and DM, else float32.

    Raises:
        RecordFault: text that is no list of numbers.
    """
    if header.kind == "text":
        return _parse_text(bytes(data))[rows]
    if header.kind in _COMPRESSED:
        return _decompress(header, data, rows)
    dtype = "<f8" if header.kind[0] == "D" else "<f4"
    return np.frombuffer(data, dtype).reshape(header.shape)[rows].astype(dtype[1:])


def _parse_text(data: bytes) -> np.ndarray:
    """`1 2.5 3` is a vector; numbers after a line break are the rows of a matrix."""
    if data.translate(None, _TEXT_NUMBER_BYTES):
        raise RecordFault("holds text that is no number")
    rows = [line.split() for line in data.split(b"\n")]
    is_matrix = len(rows) > 1
    rows = [row for row in rows if row]
    if len({len(row) for row in rows}) > 1:
        raise RecordFault("has rows of different lengths")
    try:
        values = np.array([[float(number) for number in row] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise RecordFault(f"holds text that is no number: {error}") from None
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not rows:
        return np.zeros((0, 0) if is_matrix else 0, dtype=np.float32)
    return values if is_matrix else values[0]


def _decompress(header: RecordHeader, data: bytes | memoryview, wanted: slice) -> np.ndarray:
    from kaldiio.compression_header import GlobalHeader, PerColHeader

    rows, columns = header.shape
    scaling = GlobalHeader(header.kind, *map(np.float32, header.scale), rows, columns)
    if header.kind != "CM":
        dtype = "<u2" if header.kind == "CM2" else "u1"
        return scaling.uint_to_float(np.frombuffer(data, dtype).reshape(rows, columns)[wanted]).astype(np.float32)
    percentiles = scaling.uint_to_float(np.frombuffer(data[:8 * columns], "<u2")).reshape(columns, 4, 1)
    per_column = PerColHeader(*(percentiles[:, index] for index in range(4)))
    # A byte has 256 meanings a column: decoding those and looking the values up is the same and faster.
    meanings = per_column.char_to_float(np.arange(256)[None, :]).astype(np.float32)  # (columns, 256)
    codes = np.frombuffer(data[8 * columns:], np.uint8).reshape(columns, rows)[:, wanted]
    return meanings[np.arange(columns), codes.T]


def encode(array: np.ndarray, compress: bool) -> tuple[bytes, bytes | memoryview]:
    """The bytes of a record after its key: header and values.

    Args:
        array: (dim,) or (rows, columns), float32 or float64, all finite.
        compress: as Kaldi's method 2 (a byte a value); an empty matrix is written plain.

    Raises:
        RecordFault: the shape or type can't be written, or a vector is to be compressed.
    """
    if array.ndim not in (1, 2) or array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise RecordFault(f"is {array.dtype} of shape {array.shape}; wanted a float32 or float64 vector or matrix")
    if compress and array.ndim == 1:
        raise RecordFault("is a vector; only a matrix can be compressed")
    if compress and array.size:
        return _compress(array)
    kind = ("D" if array.itemsize == 8 else "F") + ("V" if array.ndim == 1 else "M")
    header = b"\0B" + kind.encode() + b" "
    for length in array.shape:
        header += struct.pack("<bi", 4, length)
    return header, np.ascontiguousarray(array, f"<f{array.itemsize}").tobytes()


def _compress(array: np.ndarray) -> tuple[bytes, bytes]:
    from kaldiio.compression_header import GlobalHeader, PerColHeader

    num_rows = len(array)
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(np.float32)
        scaling = GlobalHeader.compute(array, KALDI_COMPRESSION_METHOD)
        if not np.isfinite([scaling.min_value, scaling.range]).all():
            raise RecordFault("spans more than a float32 holds; it can't be compressed")
        by_column = np.ascontiguousarray(array.T)
        if num_rows >= 5:  # of these five rows kaldiio takes the percentiles of all, without its slow selection
            quarter = num_rows // 4
            array = np.sort(by_column, axis=1)[:, [0, quarter, 3 * quarter, 3 * quarter, num_rows - 1]].T
        # Under five rows it pads the percentiles past the range, where casting warns and the result is unused.
        per_column = PerColHeader.compute(array, scaling)
        codes = _column_codes(by_column, per_column.p0, per_column.p25, per_column.p75, per_column.p100)
    percentiles = np.concatenate([per_column.p0, per_column.p25, per_column.p75, per_column.p100], axis=1)
    header = b"\0BCM " + struct.pack("<ffii", scaling.min_value, scaling.range, num_rows, by_column.shape[0])
    return header, scaling.float_to_uint(percentiles).astype("<u2").tobytes() + codes.tobytes()


def _column_codes(values: np.ndarray, p0: np.ndarray, p25: np.ndarray, p75: np.ndarray,
                  p100: np.ndarray) -> np.ndarray:
    """Each value as a byte between its column's percentiles: kaldiio's float_to_char in half its time.

    Args:
        values: (columns, rows).
        p0, p25, p75, p100: (columns, 1), increasing.

    Returns:
        (columns, rows) uint8: 0..64 up to p25, 64..192 up to p75, 192..255 above.
    """
    low = np.clip((values - p0) / (p25 - p0) * 64.0 + 0.5, 0.0, 64.0)
    middle = np.clip((values - p25) / (p75 - p25) * 128.0 + 64.5, 64.0, 192.0)
    high = np.clip((values - p75) / (p100 - p75) * 63.0 + 192.5, 192.0, 255.0)
    return np.where(values < p25, low, np.where(values >= p75, high, middle)).astype(np.uint8)
