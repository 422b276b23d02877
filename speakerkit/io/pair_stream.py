"""Trials or scores longer than memory, block by block: pairs as numbers, labels, scores, and where lines are wrong."""

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import polars as pl

from speakerkit.errors import DataError
from speakerkit.io.id_column import IdColumn
from speakerkit.io.trial_lines import (
    MOST_FAULTS,
    LineLayout,
    Odd,
    count_line_ends,
    fields_of_line,
)
from speakerkit.io.trial_stream import read_block_line_by_line, whole_lines

TEST_BITS = 32  # of a pair's number: enrolment << 32 | test


class PairBlock(NamedTuple):
    """Some lines that follow each other, all of them good.

    Attributes:
        first_line: the number of the first.
        pairs: (num_lines,) int64, the enrolment's number << TEST_BITS | the test's.
        is_target: (num_lines,) bool, or None where there are no labels.
        scores: (num_lines,) float64, or None where there are none.
    """
    first_line: int
    pairs: np.ndarray
    is_target: np.ndarray | None
    scores: np.ndarray | None


class PairNumbers(NamedTuple):
    """Ids of either side -> numbers, in the order of their first appearance in all files that share these."""
    enrol: dict[str, int]
    test: dict[str, int]

    def names(self, pairs: list[int]) -> list[str]:
        """Pairs by name, for messages."""
        enrol, test = list(self.enrol), list(self.test)
        return [f"'{enrol[pair >> TEST_BITS]} {test[pair & (1 << TEST_BITS) - 1]}'" for pair in pairs]


class PairStream:
    """Reads a file once, from front to back; a block with a faulty line is left out and its faults are kept.

    Args:
        stream: the file's bytes.
        name: what messages call it.
        find_layout: the layout by the first line's fields; none of them where there is no text.
        numbers: of the ids; new ones are added.

    Attributes (final after the last block):
        num_lines: of the blocks so far.
        faults: as `read_trial_lines` tells them, at most 10,000, then reading stops.
    """

    def __init__(self, stream: BinaryIO, name: str, find_layout: Callable[[list[str]], LineLayout],
                 numbers: PairNumbers):
        self.name = name
        self.num_lines = 0
        self.faults: list[DataError] = []
        self._stream = stream
        self._find_layout = find_layout
        self._columns = IdColumn(numbers.enrol), IdColumn(numbers.test)
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the bytes read so far."""
        return self._digest.hexdigest()

    def blocks(self) -> Iterator[PairBlock]:
        """The file's good blocks; DataError where it is empty or no text."""
        layout = None
        for text in whole_lines(self._stream, self._digest, self.name):
            if layout is None:
                first = fields_of_line(text[:text.find(b"\n") + 1])
                layout = self._find_layout(first)
                if layout.columns:
                    layout.parser.parse(first)  # what it says holds for the lines that the slow reader sees later
            first_line = self.num_lines + 1
            self.num_lines += count_line_ends(text)
            block = self._fast(text, first_line, layout) or self._slow(text, first_line, layout)
            if block is not None:
                yield block
            if len(self.faults) >= MOST_FAULTS:
                return
        if layout is None:
            raise DataError(self.name, f"is empty; wanted {self._find_layout([]).wanted}")

    def _fast(self, text: bytes, first_line: int, layout: LineLayout) -> PairBlock | None:
        if not layout.columns:
            return None
        try:
            frame = layout.parse_block(text)
        except (Odd, pl.exceptions.PolarsError):
            return None
        scores = np.array(frame["score"].to_numpy()) if "score" in frame.columns else None
        if scores is not None and not np.isfinite(scores).all():
            return None
        enrol, test = self._columns
        for column, side in ((enrol, "enrol"), (test, "test")):
            column.extend(frame[side])
            if not column.is_plain():
                return None
        is_target = frame["label"].to_physical().to_numpy().astype(bool) if "label" in frame.columns else None
        pairs = enrol.last(frame.height) << TEST_BITS | test.last(frame.height)
        return PairBlock(first_line, pairs, is_target, scores)

    def _slow(self, text: bytes, first_line: int, layout: LineLayout) -> PairBlock | None:
        lines = read_block_line_by_line(text, first_line, self.name, layout, self.faults)
        if lines is None:
            return None
        enrol, test = (
            np.array([column.numbers.setdefault(name, len(column.numbers)) for name in ids], dtype=np.int64)[index]
            for column, ids, index in zip(self._columns, (lines.enrol_ids, lines.test_ids),
                                          (lines.enrol_index, lines.test_index), strict=True))
        return PairBlock(first_line, enrol << TEST_BITS | test, lines.is_target, lines.scores)
