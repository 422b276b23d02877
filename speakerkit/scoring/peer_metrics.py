"""The arithmetic of other toolkits' metric scripts, step for step, so that their numbers come out to the last digit.

Their definitions differ from those of `metrics` and from each other, and some depend on the order of
tied trials or on single precision. Nothing here is for results of our own: `conventions` says whose it is.

Everywhere `scores` is (num_trials,) float64 and `is_target` (num_trials,) bool, in the order of the score
file, both classes present; error rates are fractions.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SortedRates:
    """An operating point a trial: the threshold is that trial's score, and trials up to it in the sorted order
    are rejected. Of tied trials some are then rejected and some accepted, which no threshold does.

    Attributes:
        thresholds: (num_trials,) ascending.
        p_miss, p_fa: (num_trials,) float64; accepting everything is not among them.
    """
    thresholds: np.ndarray
    p_miss: np.ndarray
    p_fa: np.ndarray


def rates_in_sorted_order(scores: np.ndarray, is_target: np.ndarray, stable: bool) -> SortedRates:
    """Error rates after each trial of the sorted list, as Kaldi's compute_min_dcf.py counts them.

    Args:
        scores, is_target: the trials.
        stable: tied trials stay in the file's order, as Python's sort leaves them; else they stand as numpy's
            default sort happens to leave them, which differs between processors.
    """
    order = np.argsort(scores, kind="stable") if stable else np.argsort(scores)
    hits = is_target[order]
    num_target = np.count_nonzero(is_target)
    p_miss = np.cumsum(hits) / num_target
    return SortedRates(scores[order], p_miss, 1 - np.cumsum(~hits) / (len(scores) - num_target))


def min_cost(rates: SortedRates, p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """Least cost over the operating points, normalised, and the first threshold with it."""
    costs = c_miss * rates.p_miss * p_target + c_fa * rates.p_fa * (1 - p_target)
    best = int(np.argmin(costs))
    return float(costs[best] / min(c_miss * p_target, c_fa * (1 - p_target))), float(rates.thresholds[best])


def interpolated_eer(rates: SortedRates) -> tuple[float, float]:
    """The EER of Sadjadi's NIST SRE16 scoring script, which WeSpeaker and 3D-Speaker use: p_miss where the line
    between the operating points around the crossing meets p_fa; and the score there.

    Raises:
        ValueError: one of the two points doesn't exist, where the script ends in an IndexError.
    """
    gap = rates.p_miss - rates.p_fa
    after, before = np.flatnonzero(gap >= 0), np.flatnonzero(gap < 0)
    if len(before) == 0:
        raise ValueError("the lowest score already misses as much as it accepts, where the script ends in an "
                         "IndexError and prints nothing")
    x1, x2 = after[0], before[-1]  # the last point has p_miss 1 and p_fa 0, so there is an `after`
    p_miss, p_fa = rates.p_miss, rates.p_fa
    share = (p_miss[x1] - p_fa[x1]) / (p_fa[x2] - p_fa[x1] - (p_miss[x2] - p_miss[x1]))
    return float(p_miss[x1] + share * (p_miss[x2] - p_miss[x1])), float(rates.thresholds[x1])


def nearest_roc_corner(scores: np.ndarray, is_target: np.ndarray) -> tuple[float, float, float]:
    """p_fa, p_miss and threshold at the corner of the ROC where the two are nearest; the first such one from the
    highest threshold (infinity) down.

    Corners are those of scikit-learn's roc_curve (1.3 and later): tied scores are one point, and points on a
    straight line between their neighbours are left out.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last of each run of ties
    num_hits = np.cumsum(is_target[order])[ends].astype(np.float64)
    num_false = 1 + ends - num_hits
    thresholds = scores[order][ends]
    if len(ends) > 2:
        is_corner = np.concatenate([[True], (np.diff(num_false, 2) != 0) | (np.diff(num_hits, 2) != 0), [True]])
        num_hits, num_false, thresholds = num_hits[is_corner], num_false[is_corner], thresholds[is_corner]
    p_fa = np.append(0, num_false) / num_false[-1]
    p_miss = 1 - np.append(0, num_hits) / num_hits[-1]
    nearest = int(np.argmin(np.abs(p_miss - p_fa)))
    return float(p_fa[nearest]), float(p_miss[nearest]), float(np.append(np.inf, thresholds)[nearest])


def kaldi_eer(scores: np.ndarray, is_target: np.ndarray) -> tuple[float, float]:
    """The EER of Kaldi's compute-eer: the share of targets below the first one that beats the nontarget at the
    matching place from the top; single precision, no interpolation, and the last target is never passed.

    Returns:
        eer: a fraction of single precision.
        threshold: the score of that target.
    """
    target = np.sort(scores[is_target].astype(np.float32))
    nontarget = np.sort(scores[~is_target].astype(np.float32))
    places = np.arange(len(target))
    matching = len(nontarget) - 1 - (len(nontarget) * places / len(target)).astype(np.int64)
    beats = nontarget[np.maximum(matching, 0)] < target
    beats[-1] = True
    place = int(np.argmax(beats))
    return float(np.float32(place / len(target))), float(target[place])


@dataclass(frozen=True)
class SinglePrecisionRates:
    """Error rates at every distinct score and halfway between neighbours; a trial is accepted when its score is above
    the threshold, not at it.

    Attributes:
        thresholds: (num_points,) float64, ascending.
        p_miss, p_fa: (num_points,) float32.
    """
    thresholds: np.ndarray
    p_miss: np.ndarray
    p_fa: np.ndarray


def speechbrain_rates(scores: np.ndarray, is_target: np.ndarray) -> SinglePrecisionRates:
    """The operating points of speechbrain.utils.metric_stats."""
    target, nontarget = np.sort(scores[is_target]), np.sort(scores[~is_target])
    distinct = np.unique(scores)
    thresholds = np.sort(np.concatenate([distinct, (distinct[:-1] + distinct[1:]) / 2]))
    num_missed = np.searchsorted(target, thresholds, side="right").astype(np.float32)
    num_accepted = (len(nontarget) - np.searchsorted(nontarget, thresholds, side="right")).astype(np.float32)
    return SinglePrecisionRates(thresholds, num_missed / np.float32(len(target)),
                                num_accepted / np.float32(len(nontarget)))


def speechbrain_eer(rates: SinglePrecisionRates) -> tuple[float, float]:
    """The mean of p_miss and p_fa where these are nearest, and the threshold.

    SpeechBrain compares a gap rounded to single precision with the best one so far unrounded. Of points that
    are equally near after rounding, the one is kept whose gap was not rounded down, else the last.
    """
    gaps = np.abs(rates.p_fa - rates.p_miss)
    exact = np.abs(rates.p_fa.astype(np.float64) - rates.p_miss.astype(np.float64))
    nearest = np.flatnonzero(gaps == gaps.min())
    kept = exact[nearest] <= gaps.min()
    place = nearest[int(np.argmax(kept))] if kept.any() else nearest[-1]
    return (float(rates.p_fa[place]) + float(rates.p_miss[place])) / 2, float(rates.thresholds[place])


def speechbrain_min_dcf(rates: SinglePrecisionRates, p_target: float = 0.01, c_miss: float = 1.0,
                        c_fa: float = 1.0) -> tuple[float, float]:
    """Least cost in single precision, not normalised, and the first threshold with it."""
    costs = (np.float32(c_miss) * rates.p_miss * np.float32(p_target)
             + np.float32(c_fa) * rates.p_fa * np.float32(1 - p_target))
    best = int(np.argmin(costs))
    return float(costs[best]), float(rates.thresholds[best])
