"""EER and minDCF of lists drawn again with replacement, speaker by speaker, all from one sort.

A replicate draws as many speakers as there are and takes each as often as it was drawn. A target trial counts
as often as its speaker; a nontarget trial as often as its enrolment's speaker times its test's speaker. Two
draws of one speaker are never compared with each other: a target trial is one of a person with himself, and
counting it by the square would make the spread of p_miss nearly three times too large. This is the pigeonhole
bootstrap of crossed factors (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007) with one
draw for both sides, for the speakers of both sides are the same people; speakers, not trials, for the trials of
a speaker hang together (Poh and Bengio, "Estimating the confidence interval of expected performance curve",
ICASSP 2007; Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap",
CVIU 2004).

Only target scores can end a stretch of equal p_miss, so all that a replicate needs is the weight of the
nontargets at and between distinct target scores. That weight is linear in the weights of pairs of speakers: a
product of one sparse matrix, made once, with the pair weights of many replicates at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speakerkit.scoring.metrics import dcf_weights

if TYPE_CHECKING:
    import scipy.sparse

_VALUES_AT_A_TIME = 1 << 21  # of one working array: 16 MB
_FLOAT32_WHOLE = 1 << 24     # whole numbers below are exact in float32, and so are their sums
_MOST_REDRAWS = 1000

# One statistic is the EER (None) or the minDCF at (p_target, c_miss, c_fa).
Statistic = tuple[float, float, float] | None


@dataclass(frozen=True)
class SpeakerTrials:
    """Scored trials, counted by speaker at and between the distinct target scores.

    Attributes:
        thresholds: (num_points,) the distinct target scores, ascending.
        targets: (num_points, num_speakers) sparse: targets of each score and speaker.
        nontargets: (2 * num_points + 1, num_pairs) sparse: row 2 k holds the nontargets between target scores
            k - 1 and k, row 2 k + 1 those that equal score k.
        pairs: (num_pairs, 2) speakers of the enrolment and of the test side.
        num_speakers: of both sides together.
    """
    thresholds: np.ndarray
    targets: "scipy.sparse.csr_array"
    nontargets: "scipy.sparse.csr_array"
    pairs: np.ndarray
    num_speakers: int

    @property
    def num_target_speakers(self) -> int:
        """Speakers with target trials."""
        return int(np.count_nonzero(self.targets.sum(axis=0)))


@dataclass(frozen=True)
class Corners:
    """The corners of several DET curves, one column a replicate; row k is of target score k.

    Attributes:
        miss_before, miss_after: (num_points, num_replicates) p_miss of the threshold at the score, and above it.
        fa_at, fa_after: the same of p_fa.
    """
    miss_before: np.ndarray
    miss_after: np.ndarray
    fa_at: np.ndarray
    fa_after: np.ndarray


def count_by_speaker(scores: np.ndarray, is_target: np.ndarray, enrol_speaker: np.ndarray,
                     test_speaker: np.ndarray) -> SpeakerTrials:
    """Sort trials once, for any number of replicates.

    Args:
        scores: (num_trials,) higher means more alike.
        is_target: (num_trials,) bool, true where both sides are of one speaker and only there.
        enrol_speaker, test_speaker: (num_trials,) speakers as whole numbers from 0.

    Raises:
        ValueError: lengths differ, one class is empty, a score is not finite, a label that the speakers deny.
    """
    from scipy.sparse import csr_array

    scores, is_target = np.asarray(scores), np.asarray(is_target, dtype=bool)
    if not scores.shape == is_target.shape == enrol_speaker.shape == test_speaker.shape:
        raise ValueError("scores, labels and speakers differ in number")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    if not np.array_equal(enrol_speaker == test_speaker, is_target):
        raise ValueError("a label says another thing than the speakers of its trial")
    if is_target.all() or not is_target.any():
        raise ValueError(f"no {'nontarget' if len(scores) and is_target.all() else 'target'} trials: want both classes")
    num_speakers = int(max(enrol_speaker.max(), test_speaker.max())) + 1
    thresholds, point = np.unique(scores[is_target], return_inverse=True)
    rows = _rows_of_nontargets(scores[~is_target], thresholds)
    keys = enrol_speaker[~is_target].astype(np.int64) * num_speakers + test_speaker[~is_target]
    used, pair = _number_densely(keys, num_speakers**2)
    return SpeakerTrials(
        thresholds, csr_array((np.ones(len(point), np.float32), (point, enrol_speaker[is_target])),
                              shape=(len(thresholds), num_speakers)),
        csr_array((np.ones(len(rows), np.float32), (rows, pair.astype(np.int32))),
                  shape=(2 * len(thresholds) + 1, len(used))),
        np.column_stack(np.divmod(used, num_speakers)), num_speakers)


def _number_densely(keys: np.ndarray, num_possible: int) -> tuple[np.ndarray, np.ndarray]:
    """The different keys, ascending, and the place of each among them."""
    if num_possible > 4 * len(keys):
        return np.unique(keys, return_inverse=True)
    is_used = np.bincount(keys, minlength=num_possible) > 0  # much cheaper than sorting
    return np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[keys]


def _rows_of_nontargets(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    point = np.searchsorted(thresholds, scores, side="left").astype(np.int32)
    is_tie = thresholds[np.minimum(point, len(thresholds) - 1)] == scores  # above all of them there is none
    return 2 * point + is_tie


def draw_speakers(trials: SpeakerTrials, num_replicates: int, generator: np.random.Generator) -> np.ndarray:
    """(num_replicates, num_speakers) how often each speaker is drawn; each row sums to num_speakers.

    Draws without a target or without a nontarget trial have no error rates and are made again.

    Raises:
        ValueError: such draws are nearly all there are.
    """
    drawn = np.empty((num_replicates, trials.num_speakers), dtype=np.int32)
    chance = np.full(trials.num_speakers, 1 / trials.num_speakers)
    has_targets = np.flatnonzero(trials.targets.sum(axis=0))
    todo = np.arange(num_replicates)
    for _ in range(_MOST_REDRAWS):
        drawn[todo] = generator.multinomial(trials.num_speakers, chance, size=len(todo))
        has_target = drawn[todo][:, has_targets].any(axis=1)
        has_nontarget = np.array([np.any(row[trials.pairs[:, 0]] * row[trials.pairs[:, 1]]) for row in drawn[todo]])
        todo = todo[~(has_target & has_nontarget)]
        if not len(todo):
            return drawn
    raise ValueError("speakers drawn again leave no targets or no nontargets: too few speakers have some")


def replicate_statistics(trials: SpeakerTrials, drawn: np.ndarray, statistics: Sequence[Statistic]) -> np.ndarray:
    """(num_statistics, num_replicates): the exact EER and minDCF of each replicate.

    The same numbers as `compute_eer` and `compute_min_dcf` of a list in which each trial stands as often as the
    replicate counts it. Time and memory grow with the trials once and with the replicates times the distinct
    target scores.
    """
    parts = [np.array([statistic_of(corners, one)[0] for one in statistics])
             for corners in replicate_corners(trials, drawn)]
    return np.concatenate(parts, axis=1)


def corners_of_all(trials: SpeakerTrials) -> Corners:
    """The list itself, each speaker once, as one replicate."""
    return next(replicate_corners(trials, np.ones((1, trials.num_speakers), dtype=np.int32)))


def replicate_corners(trials: SpeakerTrials, drawn: np.ndarray) -> Iterator[Corners]:
    """The DET curves of replicates, some at a time, in order; `drawn` is (num_replicates, num_speakers)."""
    enrol, test = trials.pairs.T
    at_a_time = max(1, _VALUES_AT_A_TIME // max(trials.nontargets.shape))
    counts = trials.nontargets.sum(axis=0)
    for start in range(0, len(drawn), at_a_time):
        times = np.ascontiguousarray(drawn[start:start + at_a_time].T)  # (num_speakers, some replicates)
        weights = times[enrol] * times[test]
        kind = np.float32 if (counts @ weights).max(initial=0) < _FLOAT32_WHOLE else np.float64
        nontargets = (trials.nontargets @ weights.astype(kind)).astype(np.float64)
        targets = (trials.targets @ times.astype(kind)).astype(np.float64)
        yield _corners_of_weights(targets, nontargets)


def _corners_of_weights(targets: np.ndarray, nontargets: np.ndarray) -> Corners:
    miss_after = np.cumsum(targets, axis=0)
    miss_before = miss_after - targets
    accepted = np.cumsum(nontargets[::-1], axis=0)[::-1]
    num_target, num_nontarget = miss_after[-1].copy(), accepted[0].copy()
    return Corners(miss_before / num_target, miss_after / num_target, accepted[1::2] / num_nontarget,
                   accepted[2::2] / num_nontarget)


def statistic_of(corners: Corners, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    """The values of one statistic, and the row of the target score at which each is reached.

    The row is num_points where a minDCF is that of rejecting all.
    """
    return _eer(corners) if statistic is None else _min_dcf(corners, *dcf_weights(*statistic))


def _eer(corners: Corners) -> tuple[np.ndarray, np.ndarray]:
    """As `metrics.eer_of_det`: linear between the two operating points around the crossing."""
    row = np.argmax(corners.miss_after >= corners.fa_after, axis=0)  # the last row misses all, so there is one
    column = np.arange(len(row))
    before, after = corners.miss_before[row, column], corners.miss_after[row, column]
    gap = corners.fa_at[row, column] - before
    gap_after = after - corners.fa_after[row, column]
    # A gap that isn't above 0 was closed by the nontargets just below the score, where p_miss stands still.
    is_crossed = gap > 0
    share = np.divide(gap, gap + gap_after, out=np.zeros_like(gap), where=is_crossed)
    return before + share * (after - before), row


def _min_dcf(corners: Corners, weight_miss: float, weight_fa: float) -> tuple[np.ndarray, np.ndarray]:
    """As `metrics.min_dcf_of_det`: among thresholds that miss as many, the highest, a target score, costs least."""
    costs = weight_miss * corners.miss_before + weight_fa * corners.fa_at
    row = np.argmin(costs, axis=0)
    least = costs[row, np.arange(costs.shape[1])]
    return np.minimum(least, weight_miss), np.where(least <= weight_miss, row, len(costs))
