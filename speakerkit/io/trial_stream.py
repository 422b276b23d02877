"""A trial list longer than memory, block by block: rows of embeddings, labels, and where lines are wrong."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, NamedTuple

import numpy as np
import polars as pl

from speakerkit.errors import DataError, DataErrors
from speakerkit.io.spooled import told_as
from speakerkit.io.trial_lines import (
    MOST_FAULTS,
    LineLayout,
    Odd,
    TrialLines,
    fields_of_line,
    read_line_by_line,
)
from speakerkit.io.trials import find_layout

BLOCK_BYTES = 1 << 23
_MOST_BYTES_WITHOUT_A_LINE = 1 << 24
_BLANKS = b" \t\r\n"


class KnownIds(NamedTuple):
    """Ids that a side of a list may name.

    Attributes:
        ids: one a row of the matrix of embeddings.
        rows: id -> row.
        path: where they are from, for messages.
    """
    ids: Sequence[str]
    rows: Mapping[str, int]
    path: str


class TrialBlock(NamedTuple):
    """Some lines of a list that follow each other, all of them good.

    Attributes:
        first_line: the number of the first.
        enrol_rows, test_rows: (num_lines,) int64.
        is_target: (num_lines,) bool, or None where the list has no labels.
    """
    first_line: int
    enrol_rows: np.ndarray
    test_rows: np.ndarray
    is_target: np.ndarray | None


def read_block_line_by_line(text: bytes, first_line: int, name: str, layout: LineLayout,
                            faults: list[DataError]) -> TrialLines | None:
    """A block that the fast reader found odd, or None and what is wrong with it added to the faults.

    Raises:
        DataError: it is no text at all.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix="speakerkit-") as copy, told_as(name, first_line - 1):
            copy.write(text.replace(b"\r\n", b"\n"))
            copy.flush()
            return read_line_by_line(copy.name, name, layout.wanted, layout.parser.parse)
    except DataError as error:
        found = error.faults if isinstance(error, DataErrors) else [error]
        if any(fault.line is None for fault in found):
            raise
        faults += found
        return None


def whole_lines(stream: BinaryIO, digest, name: str) -> Iterator[bytes]:
    """Blocks that end with a line that isn't blank; blank lines at the end of the list don't count.

    Args:
        stream: the list's bytes.
        digest: of hashlib; takes every byte.
        name: what messages call the list.

    Raises:
        DataError: a line without an end in sight.
    """
    rest, num_lines = b"", 0
    while data := stream.read(BLOCK_BYTES):
        digest.update(data)
        rest += data
        text_end = len(rest[:rest.rfind(b"\n") + 1].rstrip(_BLANKS))
        if text_end:
            cut = rest.find(b"\n", text_end) + 1
            yield rest[:cut]
            num_lines += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        elif len(rest) > _MOST_BYTES_WITHOUT_A_LINE:
            told = f"line of more than {len(rest):,} bytes" if rest.strip(_BLANKS) else "blank line"
            raise DataError(name, f"{told}; wanted a trial a line", num_lines + 1)
    if rest.strip(_BLANKS):
        yield rest.rstrip(_BLANKS) + b"\n"


class TrialStream:
    """Reads a list once, from front to back; a block with a faulty line is left out and its faults are kept.

    Args:
        stream: the list's bytes.
        name: what messages call it.
        enrol, test: the ids that either side may name.
        label_first: lines are '<label> <enrol-id> <test-id>'.

    Attributes (final after the last block):
        num_lines: of the blocks so far.
        faults: as `read_trials` tells them, at most 10,000, then reading stops; an id without an embedding at the
            line where it stands first.
    """

    def __init__(self, stream: BinaryIO, name: str, enrol: KnownIds, test: KnownIds, label_first: bool = False):
        self.name = name
        self.num_lines = 0
        self.faults: list[DataError] = []
        self._stream = stream
        self._sides = (enrol, test)
        self._label_first = label_first
        self._missing: tuple[set[str], set[str]] = (set(), set())
        self._digest = hashlib.sha256()
        self._layout: LineLayout | None = None

    @property
    def sha256(self) -> str:
        """Of the bytes read so far."""
        return self._digest.hexdigest()

    def blocks(self) -> Iterator[TrialBlock]:
        """The list's good blocks, the next one being parsed while one is worked on; DataError where it is no list."""
        with ThreadPoolExecutor(1) as pool:  # reading stays here, where a signal ends the wait for a pipe
            parsing = None
            for text in whole_lines(self._stream, self._digest, self.name):
                before, parsing = parsing, pool.submit(self._parse, text)
                if before is not None and (block := before.result()) is not None:
                    yield block
                if len(self.faults) >= MOST_FAULTS:
                    break
            if parsing is None:
                raise DataError(self.name, f"is empty; wanted {find_layout([], self.name, self._label_first).wanted}")
            if (block := parsing.result()) is not None:
                yield block

    def _parse(self, text: bytes) -> TrialBlock | None:
        if self._layout is None:
            self._find_layout(text)
        first_line = self.num_lines + 1
        self.num_lines += text.count(b"\n")
        return self._fast(text, first_line) or self._slow(text, first_line)

    def _find_layout(self, text: bytes) -> None:
        first = fields_of_line(text[:text.find(b"\n") + 1] or text)
        self._layout = find_layout(first, self.name, self._label_first)
        if self._layout.columns:
            self._layout.parser.parse(first)  # what it says holds for the lines that the slow reader sees later
            ids = {side: pl.Enum(pl.Series(list(known.ids), dtype=pl.String))
                   for side, known in zip(("enrol", "test"), self._sides, strict=True)}
            self._layout = self._layout._replace(columns=self._layout.columns | ids)

    def _fast(self, text: bytes, first_line: int) -> TrialBlock | None:
        if not self._layout.columns:
            return None
        try:
            frame = self._layout.parse_block(text)
        except (Odd, pl.exceptions.PolarsError):  # an unknown id is odd too
            return None
        enrol, test = (frame[side].to_physical().to_numpy().astype(np.int64) for side in ("enrol", "test"))
        is_target = frame["label"].to_physical().to_numpy().astype(bool) if "label" in frame.columns else None
        return TrialBlock(first_line, enrol, test, is_target)

    def _slow(self, text: bytes, first_line: int) -> TrialBlock | None:
        lines = read_block_line_by_line(text, first_line, self.name, self._layout, self.faults)
        if lines is None:
            return None
        rows = self._rows(lines, first_line)
        return None if any((found < 0).any() for found in rows) else TrialBlock(first_line, *rows, lines.is_target)

    def _rows(self, lines: TrialLines, first_line: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of either side, -1 where an id has none; that is a fault where the id stands first."""
        found, faults = [], []
        sides = ((lines.enrol_ids, lines.enrol_index), (lines.test_ids, lines.test_index))
        for (ids, index), known, missing in zip(sides, self._sides, self._missing, strict=True):
            rows = np.array([known.rows.get(key, -1) for key in ids], dtype=np.int64)
            for number in np.flatnonzero(rows < 0):
                if ids[number] not in missing:
                    missing.add(ids[number])
                    line = first_line + int(np.argmax(index == number))
                    faults.append(DataError(self.name, f"'{ids[number]}' has no embedding in {known.path}", line))
            found.append(rows[index])
        self.faults += sorted(faults, key=lambda fault: fault.line)
        return found[0], found[1]
