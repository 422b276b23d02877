"""Lines of two ids with a label, a score or both, by the million: the common ground of trials and scores.

Files as programs write them (one separator between fields, no blank lines) go through polars in
blocks. At the first thing that is odd the file is read again line by line, which takes all that
tables may hold and says of everything else where it stands.
"""

import array
import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import polars as pl

from speakerkit.errors import DataError, raise_all
from speakerkit.io.files import sha256_file
from speakerkit.io.id_column import MAX_ID_CHARS, IdColumn
from speakerkit.io.tables import id_fault, read_lines, split_fields

log = logging.getLogger(__name__)

MOST_FAULTS = 10_000           # then reading stops: a file of another kind is wrong in every line
_BLOCK_BYTES = 6 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

JOINT = "*"  # between the two ids of files that join them into one field

VOCABULARIES = (("nontarget", "target"), ("0", "1"))  # of labels, one a file; the second word is a target
LABELS = {word for vocabulary in VOCABULARIES for word in vocabulary}


class ParsedLine(NamedTuple):
    """What a line says."""
    enrol_id: str
    test_id: str
    is_target: bool | None = None
    score: float | None = None


ParseLine = Callable[[list[str]], ParsedLine | str]  # one line's fields to what they say, or what is wrong with them


class LineLayout(NamedTuple):
    """How the lines of a file are, by its first one.

    Attributes:
        wanted: for messages.
        columns: for the fast reader; none where the first line is faulty.
        parser: for the line-by-line reader; its `parse` is a ParseLine.
        ids_joined: the two ids are one field, which the fast reader has to part.
    """
    wanted: str
    columns: dict[str, pl.DataType]
    parser: object
    ids_joined: bool = False

    def parse_block(self, block: bytes) -> pl.DataFrame:
        """Whole lines as columns; `Odd` or a polars error for what needs the other reader."""
        return parse_block(parted(block) if self.ids_joined else block, self.columns)


class LabelParser:
    """Labels of a file's lines; the first good one sets the vocabulary that the file keeps to."""

    def __init__(self):
        self.vocabulary: tuple[str, str] | None = None

    def fault(self, label: str) -> str | None:
        """What is wrong with a label, or None."""
        vocabulary = self.vocabulary or vocabulary_of(label) or ()
        if label in vocabulary:
            return None
        before = f", and the lines before have {'/'.join(vocabulary)}" if vocabulary else ""
        return f"label is '{label}'; want target/nontarget or 1/0, one vocabulary a file{before}"

    def is_target(self, label: str) -> bool:
        """What a label without a fault says."""
        self.vocabulary = self.vocabulary or vocabulary_of(label)
        return bool(self.vocabulary.index(label))


def vocabulary_of(label: str) -> tuple[str, str] | None:
    """The vocabulary that a word is of, or None."""
    return next((words for words in VOCABULARIES if label in words), None)


@dataclasses.dataclass(frozen=True)
class TrialLines:
    """A file's lines, column by column; place `i` of the arrays is line `i + 1` of the file.

    Attributes:
        name: the file, for messages.
        sha256: of its bytes.
        enrol_ids, test_ids: the different ids, in the order of their first appearance.
        enrol_index, test_index: (num_lines,) int32 places in those lists.
        is_target: (num_lines,) bool; None where there are no labels.
        scores: (num_lines,) float64, all finite; None where there are none.
    """
    name: str
    sha256: str
    enrol_ids: list[str]
    test_ids: list[str]
    enrol_index: np.ndarray
    test_index: np.ndarray
    is_target: np.ndarray | None
    scores: np.ndarray | None

    def pair(self, place: int) -> str:
        """The ids of one line, for messages."""
        return f"'{self.enrol_ids[self.enrol_index[place]]} {self.test_ids[self.test_index[place]]}'"


class Odd(Exception):
    """Something that the fast reader leaves to the line-by-line reader."""


def first_fields(path: str | os.PathLike) -> list[str]:
    """The fields of a file's first line; none where it can't be read as text."""
    try:
        with open(path, "rb") as stream:
            return fields_of_line(stream.readline(4 * MAX_ID_CHARS))
    except (OSError, ValueError):  # a NUL in a path is a ValueError
        return []


def fields_of_line(line: bytes) -> list[str]:
    """The fields of a first line; none where it is no text."""
    try:
        return split_fields(line.removeprefix(_BYTE_ORDER_MARK).decode("utf-8").rstrip("\r\n"))
    except UnicodeDecodeError:
        return []


def read_trial_lines(path: str | os.PathLike, name: str, layout: LineLayout) -> TrialLines:
    """Read a file of trials or scores.

    Args:
        path: a regular file.
        name: what messages call it.
        layout: of its lines. The columns are `enrol` and `test` (strings) and perhaps `label` (of a vocabulary) and
            `score`.

    Raises:
        DataError: as `tables.read_lines`; DataErrors: the lines that the layout's parser refuses or whose ids
            are no words, up to 10,000.
    """
    lines = _read_blocks(path, name, layout) if layout.columns and os.path.isfile(path) else None
    return lines or read_line_by_line(path, name, layout.wanted, layout.parser.parse)


def _read_blocks(path: str | os.PathLike, name: str, layout: LineLayout) -> TrialLines | None:
    """The whole file through polars, or None if anything in it is odd."""
    enrol, test, digest = IdColumn(), IdColumn(), hashlib.sha256()
    values: dict[str, list[np.ndarray]] = {column: [] for column in layout.columns if column in ("label", "score")}
    try:
        with open(path, "rb", buffering=0) as stream:
            for block in _whole_lines(stream):
                digest.update(block)
                if not enrol.index:
                    has_crlf = b"\r" in block[:block.find(b"\n")]
                frame = layout.parse_block(block)
                enrol.extend(frame["enrol"])
                test.extend(frame["test"])
                for column, blocks in values.items():
                    blocks.append(np.array(frame[column].to_physical().to_numpy()))
                del block, frame  # before the next ones are there
    except (Odd, OSError, pl.exceptions.PolarsError):
        return None
    label, score = (np.concatenate(blocks) if (blocks := values.get(name)) else None for name in ("label", "score"))
    if not (enrol.index and enrol.is_plain() and test.is_plain() and (score is None or np.isfinite(score).all())):
        return None
    if has_crlf:
        log.info("%s: lines end in CRLF, read as LF", name)
    return TrialLines(name, digest.hexdigest(), list(enrol.numbers), list(test.numbers), enrol.to_numpy(),
                      test.to_numpy(), None if label is None else label.astype(bool), score)


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Blocks that end where a line ends, or with the file. What is left of a block is read again: that costs less
    than to move the next one behind it."""
    while block := stream.read(_BLOCK_BYTES):
        cut = block.rfind(b"\n") + 1
        if cut == 0 and len(block) == _BLOCK_BYTES:
            raise Odd("a line longer than a block")
        if 0 < cut < len(block):
            stream.seek(cut - len(block), os.SEEK_CUR)
            block = block[:cut]
        yield block
        del block


def parts_of_joined(field: str) -> list[str] | None:
    """The two ids of a field that joins them, or None where it isn't just two."""
    parts = field.split(JOINT)
    return parts if len(parts) == 2 and all(parts) else None


def parted(block: bytes) -> bytes:
    """Lines whose first field joins two ids, with a separator in its place; `Odd` where one isn't so."""
    separator = b"\t" if b"\t" in block[:block.find(b"\n")] else b" "
    characters = np.frombuffer(block, dtype=np.uint8)
    joints, separators, ends = (np.flatnonzero(characters == ord(one)) for one in (JOINT, separator, b"\n"))
    num_lines = len(ends) + (not block.endswith(b"\n"))
    # Lines that don't all have as many separators are odd to parse_block.
    if len(joints) != num_lines or not len(separators) or len(separators) % num_lines:
        raise Odd("not one joint a line")
    first_separators = separators[::len(separators) // num_lines]
    if (joints > first_separators).any() or (joints[1:] < ends[:num_lines - 1]).any():
        raise Odd("a joint in another field or line")
    return block.replace(JOINT.encode(), separator)


def parse_block(block: bytes, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    """Whole lines as columns of the types wanted; `Odd` or a polars error for what needs the other reader."""
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        raise Odd("a carriage return inside a line, which polars drops at the end of a field")
    separator = "\t" if b"\t" in block[:block.find(b"\n")] else " "
    frame = pl.read_csv(block, separator=separator, has_header=False, quote_char=None, schema=columns)
    num_lines = count_line_ends(block) + (not block.endswith(b"\n"))
    # A missing field, a doubled separator and a blank line all leave a null or change the count.
    if frame.height != num_lines or any(frame.null_count().row(0)):
        raise Odd("a line without its fields")
    return frame


def count_line_ends(block: bytes) -> int:
    """How many line feeds there are, in a quarter of the time that bytes.count takes."""
    return int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")))


def read_line_by_line(path: str | os.PathLike, name: str, wanted: str, parse_line: ParseLine) -> TrialLines:
    """A file that may hold all that tables may hold; raises as `read_trial_lines`."""
    enrol, test, is_target, scores = IdColumn(), IdColumn(), array.array("b"), array.array("d")
    faults: list[DataError] = []
    for number, line in read_lines(path, wanted, faults):
        parsed = parse_line(split_fields(line))
        fault = parsed if isinstance(parsed, str) else (_new_id_fault(enrol, parsed.enrol_id)
                                                        or _new_id_fault(test, parsed.test_id))
        if fault is None:
            enrol.append(parsed.enrol_id)
            test.append(parsed.test_id)
            if parsed.is_target is not None:
                is_target.append(parsed.is_target)
            if parsed.score is not None:
                scores.append(parsed.score)
        else:
            faults.append(DataError(name, fault, number))
        if len(faults) >= MOST_FAULTS:
            break
    raise_all(faults)
    return TrialLines(name, sha256_file(path), list(enrol.numbers), list(test.numbers), enrol.to_numpy(),
                      test.to_numpy(), np.frombuffer(is_target, dtype=bool) if is_target else None,
                      np.frombuffer(scores) if scores else None)


def _new_id_fault(column: IdColumn, name: str) -> str | None:
    return None if name in column.numbers else id_fault(name)
