"""Cosines of all pairs of two sets, or within one, tile by tile: never more in memory than some tiles."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from speakerkit.scoring.cosine import exact_products
from speakerkit.scoring.score_counts import ScoreCounts

_ROWS, _COLUMNS = 512, 2048  # of a tile: 8 MB in float64
_MOST_KEPT = 1 << 22         # pairs kept of one band of rows; a band that keeps more is halved


class Kept(NamedTuple):
    """Chosen pairs in their final order: rows of either side, and their scores."""

    enrol_rows: np.ndarray
    test_rows: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class AllPairs:
    """All pairs of enrolments with tests.

    Attributes:
        enrol: (num_enrol, dim) rows of `cosine.scoring_rows`.
        test: (num_test, dim) rows of the same; None: pairs within the enrolments, each counted once.
        left_out: pairs of one recording, enrolment * num_test + test, ascending; within one set none.
        enrol_speaker, test_speaker: (num_enrol,) and (num_test,) numbers of speakers, or None where they aren't known.
    """

    enrol: np.ndarray
    test: np.ndarray | None
    left_out: np.ndarray
    enrol_speaker: np.ndarray | None = None
    test_speaker: np.ndarray | None = None

    @property
    def num_pairs(self) -> int:
        """How many pairs are scored."""
        if self.test is None:
            return len(self.enrol) * (len(self.enrol) - 1) // 2
        return len(self.enrol) * len(self.test) - len(self.left_out)

    def count(self, num_threads: int = 1) -> ScoreCounts:
        """The scores of all pairs, counted; speakers have to be known."""
        total = ScoreCounts()

        def band(first: int) -> ScoreCounts:
            counts = ScoreCounts()
            for tile in self._tiles(first, min(first + _ROWS, len(self.enrol)), twice=False):
                counts.add(*self._labelled(*tile))
            return counts

        for counts in _in_order(band, range(0, len(self.enrol), _ROWS), num_threads):
            total.of_class += counts.of_class
        return total

    def blocks(self, num_threads: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All scores with their labels, as `score_counts.metrics_of_counts` takes them; the same numbers each time."""
        for first in range(0, len(self.enrol), _ROWS):
            tiles = self._corners(first, min(first + _ROWS, len(self.enrol)), twice=False)
            yield from _in_order(lambda corner: self._labelled(*self._tile(*corner)), tiles, num_threads)

    def above(self, least: float, num_threads: int = 1) -> Iterator[Kept]:
        """The pairs whose score is `least` or more, by enrolment, then by test."""
        def band(first: int) -> list[Kept]:
            return self._band_above(np.float32(least), first, min(first + _ROWS, len(self.enrol)))

        for parts in _in_order(band, range(0, len(self.enrol), _ROWS), num_threads):
            yield from parts

    def _band_above(self, least: np.float32, first: int, stop: int) -> list[Kept]:
        found, num_found = [], 0
        for rows, columns, scores, is_pair in self._tiles(first, stop, twice=False):
            row, column = np.nonzero(scores >= least if is_pair is None else (scores >= least) & is_pair)
            found.append((rows[row], columns[column], scores[row, column]))
            num_found += len(row)
            if num_found > _MOST_KEPT and stop - first > 1:
                middle = (first + stop) // 2
                return self._band_above(least, first, middle) + self._band_above(least, middle, stop)
        enrol, test, scores = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else ([], [], [])
        order = np.argsort(enrol, kind="stable")  # tiles come from left to right
        return [Kept(enrol[order], test[order], scores[order])] if len(order) else []

    def highest(self, top: int, num_threads: int = 1) -> Iterator[Kept]:
        """The `top` pairs of greatest score of each enrolment, greatest first; of equal ones the earlier test first.

        Within one set a pair may be among the highest of either of its sides.
        """
        def band(first: int) -> Kept:
            return self._band_highest(top, first, min(first + _ROWS, len(self.enrol)))

        yield from _in_order(band, range(0, len(self.enrol), _ROWS), num_threads)

    def _band_highest(self, top: int, first: int, stop: int) -> Kept:
        empty = np.empty(0, dtype=np.int64)
        kept = Kept(empty, empty, np.empty(0, dtype=np.float32))
        least = np.full(stop - first, -np.inf, dtype=np.float32)  # what a row's next pair has to exceed
        for rows, columns, scores, is_pair in self._tiles(first, stop, twice=True):
            is_higher = scores > least[:, None]
            row, column = np.nonzero(is_higher if is_pair is None else is_higher & is_pair)
            if not len(row):
                continue
            new = (rows[row], columns[column], scores[row, column])
            enrol, test, values = (np.concatenate(parts) for parts in zip(kept, new, strict=True))
            order = np.lexsort((test, -values, enrol))
            starts = np.searchsorted(enrol[order], np.arange(first, stop))
            rank = np.arange(len(order)) - starts[enrol[order] - first]
            order, rank = order[rank < top], rank[rank < top]
            kept = Kept(enrol[order], test[order], values[order])
            is_last = rank == top - 1
            least[kept.enrol_rows[is_last] - first] = kept.scores[is_last]
        return kept

    def _tiles(self, first: int, stop: int, twice: bool):
        return (self._tile(*corner) for corner in self._corners(first, stop, twice))

    def _corners(self, first: int, stop: int, twice: bool) -> Iterator[tuple[int, int, int, bool]]:
        """Tiles of a band of rows; within one set those left of the diagonal only where pairs count `twice`."""
        begin = 0 if self.test is not None or twice else first // _COLUMNS * _COLUMNS
        for column in range(begin, len(self.enrol if self.test is None else self.test), _COLUMNS):
            yield first, stop, column, twice

    def _tile(self, first: int, stop: int, column: int, twice: bool):
        """(enrolment rows, test rows, scores, which of them are pairs or None for all) of one tile."""
        test = self.enrol if self.test is None else self.test
        rows, columns = np.arange(first, stop), np.arange(column, min(column + _COLUMNS, len(test)))
        return rows, columns, exact_products(self.enrol[first:stop], test[columns[0]:columns[-1] + 1]), \
            self._are_pairs(rows, columns, twice)

    def _are_pairs(self, rows: np.ndarray, columns: np.ndarray, twice: bool) -> np.ndarray | None:
        if self.test is None:
            if twice:
                return rows[:, None] != columns if columns[0] <= rows[-1] and rows[0] <= columns[-1] else None
            return rows[:, None] < columns if columns[0] <= rows[-1] else None
        low, high = np.searchsorted(self.left_out, [rows[0] * len(self.test), (rows[-1] + 1) * len(self.test)])
        enrol, test = np.divmod(self.left_out[low:high], len(self.test))
        inside = (test >= columns[0]) & (test <= columns[-1])
        if not inside.any():
            return None
        are_pairs = np.ones((len(rows), len(columns)), dtype=bool)
        are_pairs[enrol[inside] - rows[0], test[inside] - columns[0]] = False
        return are_pairs

    def _labelled(self, rows: np.ndarray, columns: np.ndarray, scores: np.ndarray,
                  is_pair: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        test_speaker = self.enrol_speaker if self.test is None else self.test_speaker
        is_target = self.enrol_speaker[rows, None] == test_speaker[columns]
        return (scores, is_target) if is_pair is None else (scores[is_pair], is_target[is_pair])


def _in_order(work: Callable, items, num_threads: int) -> Iterator:
    """`work` of each item in order, few of them ahead of the one that is taken."""
    with ThreadPoolExecutor(num_threads) as pool:  # numpy works without the interpreter's lock
        waiting = []
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * num_threads:
                yield waiting.pop(0).result()
        for one in waiting:
            yield one.result()
