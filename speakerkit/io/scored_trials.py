"""Labelled trials and their scores, from two files or from one that holds both."""

import dataclasses
import os

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.io.score_lines import read_score_lines
from speakerkit.io.trial_lines import VOCABULARIES, TrialLines
from speakerkit.io.trials import Trials, read_trials, trials_of_lines

_MOST_EXAMPLES = 5
_MOST_CONFLICTS = 1000


@dataclasses.dataclass(frozen=True)
class ScoredTrials:
    """Labelled trials of both classes, each with its score.

    Attributes:
        trials: the list.
        scores: (num_trials,) float64, finite, in the trials' order.
        lines: the score file's, in its own order.
    """
    trials: Trials
    scores: np.ndarray
    lines: TrialLines

    @property
    def scores_path(self) -> str:
        return self.lines.name

    @property
    def scores_sha256(self) -> str:
        return self.lines.sha256

    def in_file_order(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and labels of the score file's lines; a trial that stands twice in the list counts once."""
        if self.lines.is_target is not None:
            return self.lines.scores, self.lines.is_target
        if _in_same_order(self.trials, self.lines):
            return self.lines.scores, self.trials.is_target
        wanted, found = self.trials.pairs(), _pair_numbers(self.trials, self.lines)
        order = np.argsort(wanted, kind="stable")
        return self.lines.scores, self.trials.is_target[order[np.searchsorted(wanted[order], found)]]


def read_scored_trials(trials_path: str | os.PathLike | None, scores_path: str | os.PathLike,
                       label_first: bool = False, score_format: str | None = None) -> ScoredTrials:
    """Read labelled trials and their scores, matched pair by pair.

    Args:
        trials_path: '<enrol-id> <test-id> target|nontarget' lines; None: the score file has the labels.
        scores_path: lines of any of `score_lines.SCORE_FORMATS`, in any order.
        label_first: lines of trials are '<label> <enrol-id> <test-id>'.
        score_format: a key of SCORE_FORMATS; None: what the first line looks like.

    Raises:
        DataError, DataErrors: as `read_trials`, `read_score_lines` and `match_scores`; no labels, trials of one
            class only.
    """
    if trials_path is None:
        lines = read_score_lines(scores_path, score_format)
        if lines.is_target is None:
            raise DataError(lines.name, "scores have no labels; give the labelled trials too")
        trials = trials_of_lines(lines)
        refuse_one_class(trials)
        return ScoredTrials(trials, match_scores(trials, lines), lines)
    trials = read_trials(trials_path, label_first)
    refuse_one_class(trials)  # said before millions of scores are read
    lines = read_score_lines(scores_path, score_format)
    return ScoredTrials(trials, match_scores(trials, lines), lines)


def why_no_metrics(trials: Trials) -> str | None:
    """What a list lacks for error rates, or None."""
    if trials.is_target is None:
        return "trials have no labels"
    if trials.is_target.all():
        return "no nontarget trials"
    return None if trials.is_target.any() else "no target trials"


def refuse_one_class(trials: Trials) -> None:
    """DataError unless there are trials of both classes."""
    if fault := why_no_metrics(trials):
        raise DataError(trials.path, f"{fault}: EER needs both classes")


def match_scores(trials: Trials, lines: TrialLines) -> np.ndarray:
    """The scores of a file's lines in the trials' order.

    Returns:
        (num_trials,) float64.

    Raises:
        DataError: trials without a score or scores without a trial: how many, and five examples each way.
        DataErrors: a pair with two scores, or labels that aren't the trials'.
    """
    if trials.num_repeated == 0 and _in_same_order(trials, lines):
        _refuse_other_labels(trials, lines, slice(None))
        return lines.scores
    wanted, found = trials.pairs(), _pair_numbers(trials, lines)
    order = np.argsort(found, kind="stable")
    found, scores = found[order], lines.scores[order]
    place = np.minimum(np.searchsorted(found, wanted), len(found) - 1)
    _refuse_differences(trials, lines, wanted[found[place] != wanted], order[~np.isin(found, wanted)])
    _refuse_two_scores(lines, order[np.append(False, (found[1:] == found[:-1]) & (scores[1:] != scores[:-1]))])
    _refuse_other_labels(trials, lines, order[place])
    return scores[place]


def _in_same_order(trials: Trials, lines: TrialLines) -> bool:
    """Whether line by line the pairs are the trials': ids are numbered as they appear, so equal numbers say it."""
    return (trials.enrol_ids == lines.enrol_ids and trials.test_ids == lines.test_ids
            and np.array_equal(trials.enrol_index, lines.enrol_index)
            and np.array_equal(trials.test_index, lines.test_index))


def _pair_numbers(trials: Trials, lines: TrialLines) -> np.ndarray:
    """(num_lines,) each line's pair as a number among the trials' possible pairs; -1 with an id they don't have."""
    enrol_number = {enrol_id: number for number, enrol_id in enumerate(trials.enrol_ids)}
    test_number = {test_id: number for number, test_id in enumerate(trials.test_ids)}
    enrol = np.array([enrol_number.get(enrol_id, -1) for enrol_id in lines.enrol_ids])[lines.enrol_index]
    test = np.array([test_number.get(test_id, -1) for test_id in lines.test_ids])[lines.test_index]
    return np.where((enrol < 0) | (test < 0), -1, enrol * len(trials.test_ids) + test)


def _refuse_differences(trials: Trials, lines: TrialLines, missing_pairs: np.ndarray, extra_lines: np.ndarray) -> None:
    told = []
    if len(missing_pairs):
        names = [f"'{trials.enrol_ids[pair // len(trials.test_ids)]} {trials.test_ids[pair % len(trials.test_ids)]}'"
                 for pair in missing_pairs[:_MOST_EXAMPLES].tolist()]
        told.append(f"{len(missing_pairs):,} of {len(trials):,} trials in {trials.path} have no score: "
                    + ", ".join(names))
    if len(extra_lines):
        names = [f"{lines.pair(line)} (line {line + 1})" for line in np.sort(extra_lines)[:_MOST_EXAMPLES].tolist()]
        told.append(f"{len(extra_lines):,} of {len(lines.scores):,} scores are of no trial there: {', '.join(names)}")
    if told:
        raise DataError(lines.name, "; ".join(told))


def _refuse_two_scores(lines: TrialLines, again: np.ndarray) -> None:
    raise_all([DataError(lines.name, f"{lines.pair(line)} has another score on an earlier line", line + 1)
               for line in np.sort(again).tolist()])


def _refuse_other_labels(trials: Trials, lines: TrialLines, line_of_trial: np.ndarray | slice) -> None:
    """Where both files have labels, they agree."""
    if lines.is_target is None or trials.is_target is None:
        return
    labels = lines.is_target[line_of_trial]
    wrong = np.flatnonzero(labels != trials.is_target)[:_MOST_CONFLICTS]
    places = np.arange(len(lines.scores))[line_of_trial][wrong]
    words = VOCABULARIES[0]
    raise_all(sorted((DataError(lines.name, f"{lines.pair(place)} is {words[int(not is_target)]} here and "
                                            f"{words[int(is_target)]} in {trials.path}", place + 1)
                      for place, is_target in zip(places.tolist(), trials.is_target[wrong].tolist(), strict=True)),
                     key=lambda fault: fault.line))
