"""Trials and their scores matched pair by pair on disk: a part of all pairs at a time is in memory."""

import dataclasses
from collections.abc import Callable

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.io.pair_stream import PairBlock, PairNumbers
from speakerkit.io.trial_lines import VOCABULARIES
from speakerkit.io.trial_spill import NUM_PARTS, TemporaryFiles

_MOST_EXAMPLES = 5
_MOST_CONFLICTS = 1000
_WORDS = VOCABULARIES[0]


@dataclasses.dataclass
class _Found:
    """What doesn't match, by line: how much, and the first of it.

    Attributes:
        num_trials, num_lines, num_repeated, num_chosen: of all parts so far.
        missing, extra: (line, pair) of trials without a score and of scores without a trial.
        again: (line, pair) of lines whose pair has another score before.
        contradictions: (line, pair, label, line before) within the trials.
        other_labels: (line, pair, label of the trial) of scores.
    """
    num_trials: int = 0
    num_lines: int = 0
    num_repeated: int = 0
    num_chosen: int = 0
    num_missing: int = 0
    num_extra: int = 0
    missing: list[tuple] = dataclasses.field(default_factory=list)
    extra: list[tuple] = dataclasses.field(default_factory=list)
    again: list[tuple] = dataclasses.field(default_factory=list)
    contradictions: list[tuple] = dataclasses.field(default_factory=list)
    other_labels: list[tuple] = dataclasses.field(default_factory=list)

    def keep(self, name: str, most: int, *columns: np.ndarray) -> None:
        """Add rows to a list of faults, of which the first by line are kept."""
        kept = getattr(self, name)
        kept += zip(*(column.tolist() for column in columns), strict=True)
        kept.sort()
        del kept[most:]


class PairMatch(TemporaryFiles):
    """Takes trials and scores in any order, 16 and 24 bytes a line on disk, and gives each trial its score.

    Args:
        folder: where; None: the system's folder for temporary files.
    """

    def __init__(self, folder: str | None = None):
        super().__init__(folder)
        self._trials, self._scores = ([self._new_file() for _ in range(NUM_PARTS)] for _ in range(2))

    def add_trials(self, block: PairBlock) -> None:
        """Labelled trials."""
        lines = block.first_line + np.arange(len(block.pairs))
        _deal(self._trials, block.pairs, 2 * lines + block.is_target)

    def add_scores(self, block: PairBlock) -> None:
        """Scores, perhaps with labels."""
        lines = block.first_line + np.arange(len(block.pairs))
        labels = np.zeros(len(lines), dtype=np.int64) if block.is_target is None else 1 + block.is_target
        _deal(self._scores, block.pairs, 4 * lines + labels, block.scores.view(np.int64))

    def match(self, trials_name: str, scores_name: str, numbers: PairNumbers, chosen: np.ndarray,
              take: Callable[[np.ndarray, np.ndarray], None]) -> tuple[int, int]:
        """Hand on the scores and labels of all trials, part by part in no order.

        Args:
            trials_name, scores_name: what messages call the files.
            numbers: of the pairs' ids.
            chosen: pairs to be counted among the trials.
            take: gets (num,) scores and labels; what it got counts for nothing where this raises.

        Returns:
            trials that stand in the list already, and chosen ones.

        Raises:
            DataError, DataErrors: as `trials.trials_of_lines` and `scored_trials.match_scores`.
        """
        found = _Found()
        for trials, scores in zip(self._trials, self._scores, strict=True):
            records = []
            for stream, width in ((trials, 2), (scores, 3)):
                stream.seek(0)
                records.append(np.frombuffer(stream.read(), dtype=np.int64).reshape(-1, width))
            _match_part(*records, chosen, found, take)
        _refuse(found, trials_name, scores_name, numbers)
        return found.num_repeated, found.num_chosen


def _deal(streams: list, pairs: np.ndarray, *columns: np.ndarray) -> None:
    part = pairs % NUM_PARTS
    order = np.argsort(part, kind="stable")
    stops = np.cumsum(np.bincount(part, minlength=NUM_PARTS))
    records = np.stack([pairs, *columns], axis=1)[order]
    for stream, own in zip(streams, np.split(records, stops[:-1]), strict=True):
        stream.write(own.tobytes())


def _leaders(pairs: np.ndarray) -> np.ndarray:
    """For sorted pairs, the place of the first of each one's equals."""
    is_new = np.append(True, pairs[1:] != pairs[:-1])[:len(pairs)]
    return np.maximum.accumulate(np.where(is_new, np.arange(len(pairs)), 0))


def _match_part(trials: np.ndarray, scores: np.ndarray, chosen: np.ndarray, found: _Found,
                take: Callable[[np.ndarray, np.ndarray], None]) -> None:
    trials, scores = (records[np.argsort(records[:, 0], kind="stable")] for records in (trials, scores))
    pairs, lines, labels = trials[:, 0], trials[:, 1] >> 1, trials[:, 1] & 1
    leaders = _leaders(pairs)
    found.num_trials += len(pairs)
    found.num_repeated += int(np.count_nonzero(leaders != np.arange(len(pairs))))
    found.num_chosen += int(np.count_nonzero(np.isin(pairs, chosen))) if len(chosen) else 0
    wrong = np.flatnonzero(labels != labels[leaders])
    found.keep("contradictions", _MOST_CONFLICTS, lines[wrong], pairs[wrong], labels[wrong], lines[leaders[wrong]])

    scored, score_lines, score_labels = scores[:, 0], scores[:, 1] >> 2, (scores[:, 1] & 3) - 1
    values = np.ascontiguousarray(scores[:, 2]).view(np.float64)
    found.num_lines += len(scored)
    extra = np.flatnonzero(~np.isin(scored, pairs))
    found.num_extra += len(extra)
    found.keep("extra", _MOST_EXAMPLES, score_lines[extra], scored[extra])
    again = np.flatnonzero(np.append(False, (scored[1:] == scored[:-1]) & (values[1:] != values[:-1]))[:len(scored)])
    found.keep("again", _MOST_CONFLICTS, score_lines[again], scored[again])
    place = np.searchsorted(scored, pairs)
    is_missing = np.append(scored, -1)[place] != pairs
    found.num_missing += int(np.count_nonzero(is_missing))
    found.keep("missing", _MOST_EXAMPLES, lines[is_missing], pairs[is_missing])
    if found.num_missing:
        return
    other = np.flatnonzero((score_labels[place] >= 0) & (score_labels[place] != labels))
    found.keep("other_labels", _MOST_CONFLICTS, score_lines[place[other]], pairs[other], labels[other])
    take(values[place], labels.astype(bool))


def _refuse(found: _Found, trials_name: str, scores_name: str, numbers: PairNumbers) -> None:
    def names(rows: list[tuple]) -> list[str]:
        return numbers.names([row[1] for row in rows])

    rows = found.contradictions
    raise_all([DataError(trials_name, f"{pair} is {_WORDS[label]} here and {_WORDS[1 - label]} on line {before}", line)
               for pair, (line, _, label, before) in zip(names(rows), rows, strict=True)])
    told = []
    if found.num_missing:
        told.append(f"{found.num_missing:,} of {found.num_trials:,} trials in {trials_name} have no score: "
                    + ", ".join(names(found.missing)))
    if found.num_extra:
        places = [f"{pair} (line {row[0]})" for pair, row in zip(names(found.extra), found.extra, strict=True)]
        told.append(f"{found.num_extra:,} of {found.num_lines:,} scores are of no trial there: {', '.join(places)}")
    if told:
        raise DataError(scores_name, "; ".join(told))
    raise_all([DataError(scores_name, f"{pair} has another score on an earlier line", row[0])
               for pair, row in zip(names(found.again), found.again, strict=True)])
    rows = found.other_labels
    raise_all([DataError(scores_name, f"{pair} is {_WORDS[1 - label]} here and {_WORDS[label]} in {trials_name}", line)
               for pair, (line, _, label) in zip(names(rows), rows, strict=True)])
