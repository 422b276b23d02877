"""Scores in order, of any number: sorted runs on disk, merged when they are read."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from speakerkit.io.trial_spill import TemporaryFiles

RUN_SCORES = 1 << 21    # sorted at a time: 16 MB
_LEAST_READ = 1 << 12   # scores of a run that are read at a time, or more where runs are few


class _Run:
    """Sorted float64 scores of one class, read from front to back."""

    def __init__(self, stream: BinaryIO, start: int, num_scores: int, is_target: bool):
        self.is_target = is_target
        self._stream, self._next, self._stop = stream, 8 * start, 8 * (start + num_scores)
        self.head = np.empty(0)

    def fill(self, num_scores: int) -> bool:
        """Have scores in `head`; False at the end of the run."""
        if not len(self.head) and self._next < self._stop:
            self._stream.seek(self._next)
            data = self._stream.read(min(8 * num_scores, self._stop - self._next))
            self._next += len(data)
            self.head = np.frombuffer(data, "<f8")
        return len(self.head) > 0

    def take_up_to(self, limit: float) -> np.ndarray:
        place = int(np.searchsorted(self.head, limit, side="right"))
        taken, self.head = self.head[:place], self.head[place:]
        return taken


class ScoreRuns(TemporaryFiles):
    """Float64 scores of two classes on disk, 8 bytes each, given back in order.

    Args:
        folder: where; None: the system's folder for temporary files.
    """

    def __init__(self, folder: str | None = None):
        super().__init__(folder)
        self._stream = self._new_file()
        self._waiting: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._num_waiting = [0, 0]
        self._runs: list[tuple[int, int, bool]] = []  # start, number of scores, class
        self._num_written = 0
        self.totals = [0, 0]  # nontargets and targets

    def add(self, scores: np.ndarray, is_target: np.ndarray) -> None:
        """Keep (num,) finite scores with their labels."""
        for label, waiting in enumerate(self._waiting):
            own = scores[is_target == bool(label)].astype("<f8")
            waiting.append(own)
            self.totals[label] += len(own)
            self._num_waiting[label] += len(own)
            if self._num_waiting[label] >= RUN_SCORES:
                self._write_run(label)

    def _write_run(self, label: int) -> None:
        scores = np.sort(np.concatenate(self._waiting[label]))
        self._waiting[label].clear()
        self._num_waiting[label] = 0
        self._stream.write(scores.data)
        self._runs.append((self._num_written, len(scores), bool(label)))
        self._num_written += len(scores)

    def groups(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Distinct scores in ascending order, some at a time, with the numbers of targets and of nontargets."""
        for label in (0, 1):
            if self._num_waiting[label]:
                self._write_run(label)
        runs = [_Run(self._stream, *run) for run in self._runs]
        num_read = max(_LEAST_READ, RUN_SCORES // max(1, len(runs)))
        last: tuple[float, int, int] | None = None  # a score that may go on in what isn't read yet
        while runs := [run for run in runs if run.fill(num_read)]:
            limit = min(float(run.head[-1]) for run in runs)
            taken = [(run.take_up_to(limit), run.is_target) for run in runs]
            groups = _grouped(*(np.concatenate([np.empty(0), *(part for part, label in taken if label is wanted)])
                                for wanted in (True, False)))
            if last is not None:
                groups = _after(last, groups)
            yield tuple(column[:-1] for column in groups)
            last = tuple(column[-1] for column in groups)
        if last is not None:
            yield tuple(np.array([value]) for value in last)


def _grouped(target: np.ndarray, nontarget: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores, ascending, and how often either class has each."""
    scores = np.unique(np.concatenate([target, nontarget]))
    counts = []
    for own in (target, nontarget):
        own = np.sort(own, kind="stable")  # sorted stretches are merged
        counts.append(np.searchsorted(own, scores, side="right") - np.searchsorted(own, scores, side="left"))
    return scores, counts[0], counts[1]


def _after(last: tuple[float, int, int], groups: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Groups behind one that goes before them, or that begins them."""
    score, num_target, num_nontarget = last
    if groups[0][0] == score:
        groups[1][0] += num_target
        groups[2][0] += num_nontarget
        return groups
    return tuple(np.concatenate([[one], column]) for one, column in zip(last, groups, strict=True))
