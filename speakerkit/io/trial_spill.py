"""What a streamed list leaves behind to be looked at again: its scores, and which pairs it named, on disk."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Self

import numpy as np

_BLOCK_SCORES = 1 << 20
NUM_PARTS = 251  # of the pairs on disk, by their remainder: a prime, so that no pattern of ids fills a part
_MOST_CONFLICTS = 1000


class TemporaryFiles:
    """Files without a name, gone when the `with` ends or the process dies."""

    def __init__(self, folder: str | None):
        self._folder = folder
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def _new_file(self) -> BinaryIO:
        return self._stack.enter_context(tempfile.TemporaryFile(prefix="speakerkit-", dir=self._folder))


class ScoreSpill(TemporaryFiles):
    """Scores of either class on disk, 4 bytes each.

    Args:
        folder: where; None: the system's folder for temporary files.
    """

    def __init__(self, folder: str | None = None):
        super().__init__(folder)
        self._files = (self._new_file(), self._new_file())

    def add(self, scores: np.ndarray, is_target: np.ndarray) -> None:
        """Keep (num,) float32 scores with their labels."""
        for label, stream in enumerate(self._files):
            stream.write(np.ascontiguousarray(scores[is_target == bool(label)], dtype="<f4").data)

    def blocks(self) -> Iterator[tuple[np.ndarray, bool]]:
        """All scores again, each block with its one label."""
        for label, stream in enumerate(self._files):
            stream.seek(0)
            while data := stream.read(4 * _BLOCK_SCORES):
                yield np.frombuffer(data, "<f4"), bool(label)


class Conflict(NamedTuple):
    """A pair whose label is another one than on an earlier line."""
    line: int
    pair: int
    is_target: bool


class PairCounter(TemporaryFiles):
    """Counts pairs that stand in a list already, and finds those whose labels contradict each other.

    Args:
        num_pairs: how many different pairs there may be; a pair is a number below that.
        max_bytes: of memory for two bits a pair; where that is too little 16 bytes a line go to disk.
        folder: where; None: the system's folder for temporary files.
    """

    def __init__(self, num_pairs: int, max_bytes: int, folder: str | None = None):
        super().__init__(folder)
        # Two bits a pair, 0 where it was not met, else 1 + its label; pages that no pair touches take no memory.
        self._marks = np.zeros(num_pairs // 4 + 1, dtype=np.uint8) if num_pairs // 4 < max_bytes else None
        self._parts = [self._new_file() for _ in range(NUM_PARTS)] if self._marks is None else []
        self._num_repeated = 0
        self._conflicts: list[Conflict] = []

    def add(self, pairs: np.ndarray, is_target: np.ndarray | None, first_line: int) -> None:
        """Take the pairs of lines that follow each other, the first on line `first_line`."""
        labels = np.zeros(len(pairs), dtype=np.int64) if is_target is None else is_target.astype(np.int64)
        lines = first_line + np.arange(len(pairs))
        if self._marks is not None:
            self._mark(pairs, labels, lines)
            return
        records = np.stack([pairs, 2 * lines + labels], axis=1)
        part = pairs % NUM_PARTS
        order = np.argsort(part, kind="stable")
        stops = np.cumsum(np.bincount(part, minlength=NUM_PARTS))
        for stream, own in zip(self._parts, np.split(records[order], stops[:-1]), strict=True):
            stream.write(own.tobytes())

    def finish(self) -> tuple[int, list[Conflict]]:
        """(lines whose pair stands on an earlier one, contradictions by line, up to 1,000)."""
        for stream in self._parts:
            stream.seek(0)
            records = np.frombuffer(stream.read(), dtype=np.int64).reshape(-1, 2)
            self._compare(records[:, 0], records[:, 1] & 1, records[:, 1] >> 1, np.zeros(len(records), dtype=np.int64))
        self._conflicts.sort()
        return self._num_repeated, self._conflicts[:_MOST_CONFLICTS]

    def _mark(self, pairs: np.ndarray, labels: np.ndarray, lines: np.ndarray) -> None:
        byte, shift = pairs >> 2, 2 * (pairs & 3)
        before = (self._marks[byte] >> shift) & 3
        is_clean = not before.any() and len(np.unique(pairs)) == len(pairs)
        first = labels if is_clean else self._compare(pairs, labels, lines, before)
        is_new = before == 0
        np.bitwise_or.at(self._marks, byte[is_new], ((1 + first[is_new]) << shift[is_new]).astype(np.uint8))

    def _compare(self, pairs: np.ndarray, labels: np.ndarray, lines: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Count and compare the lines of each pair, in the list's order; gives each line its pair's first label.

        `before` is 1 + the label of a pair that earlier blocks had, else 0.
        """
        if len(pairs) == 0:
            return labels
        order = np.argsort(pairs, kind="stable")
        is_new = np.append(True, pairs[order[1:]] != pairs[order[:-1]])
        leader = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
        first = np.empty_like(labels)
        first[order] = np.where(before[leader] > 0, before[leader] - 1, labels[leader])
        self._num_repeated += int(np.count_nonzero(~is_new)) + int(np.count_nonzero(before[order[is_new]]))
        wrong = np.flatnonzero(labels != first)
        if len(self._conflicts) < _MOST_CONFLICTS:
            self._conflicts += [Conflict(int(lines[one]), int(pairs[one]), bool(labels[one]))
                                for one in wrong[:_MOST_CONFLICTS]]
        return first
