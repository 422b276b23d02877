"""Error rates of scored trials: DET operating points, EER and minDCF, all from one sort.

Equal scores move together (they are one operating point), so no number here depends on the order
of the trials. Everything is a fraction in [0, 1]; percent is made where numbers are printed.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Det:
    """Every operating point that some threshold gives; a trial is accepted when its score >= threshold.

    Attributes:
        thresholds: (num_points,) the distinct scores of both classes, ascending, and at last inf
            (nothing is accepted).
        p_miss: (num_points,) float64, the share of target trials below each threshold; ascends from 0 to 1.
        p_fa: (num_points,) float64, the share of nontarget trials at or above it; descends from 1 to 0.
    """
    thresholds: np.ndarray
    p_miss: np.ndarray
    p_fa: np.ndarray


def compute_det(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> Det:
    """The operating points of every distinct score.

    Args:
        target_scores: (num_target,) scores of same-speaker trials; higher means more alike.
        nontarget_scores: (num_nontarget,) scores of different-speaker trials.

    Raises:
        ValueError: either class is empty, or a score is not finite.
    """
    target, nontarget = _checked(target_scores, "target"), _checked(nontarget_scores, "nontarget")
    scores = np.concatenate([target, nontarget])
    scores.sort(kind="stable")  # both halves are sorted already, and a stable sort only merges such runs
    is_first = np.concatenate([[True], scores[1:] != scores[:-1]])
    thresholds = np.append(scores[is_first], scores.dtype.type(np.inf))
    num_below = np.append(np.flatnonzero(is_first), len(scores))  # trials below each threshold
    num_missed = np.searchsorted(target, thresholds, side="left")
    num_accepted = len(nontarget) - (num_below - num_missed)
    # Counts divided, not 1 - share: equal fractions of different counts then stay equal numbers.
    return Det(thresholds, num_missed / len(target), num_accepted / len(nontarget))


def decisive_det(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> Det:
    """The few operating points that EER and minDCF lie at: those of each target's score and around the crossing.

    Args and raises as `compute_det`.

    Between two targets' scores only false alarms change, so the last of these points costs least; that is
    the next target's. `eer_of_det` and `min_dcf_of_det` give the numbers of the whole `Det`, at a fraction of
    its time and memory where targets are few.
    """
    target, nontarget = _checked(target_scores, "target"), _checked(nontarget_scores, "nontarget")
    thresholds = np.append(np.unique(target), target.dtype.type(np.inf)).astype(np.result_type(target, nontarget))
    p_miss, p_fa = _rates(thresholds, target, nontarget)
    after = int(np.argmax(p_miss >= p_fa))
    # Of the nontargets between the target before and this one: where rates cross, and the score before that.
    low = int(np.searchsorted(nontarget, thresholds[after - 1], side="right")) if after else 0
    between = nontarget[low:int(np.searchsorted(nontarget, thresholds[after], side="left"))]
    first = np.flatnonzero(np.append(True, between[1:] != between[:-1])) if len(between) else np.empty(0, dtype=int)
    is_crossed = p_miss[after] >= (len(nontarget) - low - first) / len(nontarget)
    place = int(np.argmax(is_crossed)) if is_crossed.any() else len(first)
    near = between[first[max(0, place - 1):place + 1]]
    thresholds = np.unique(np.concatenate([thresholds, near, nontarget[:1]]))  # the lowest score accepts all
    return Det(thresholds, *_rates(thresholds, target, nontarget))


def _rates(thresholds: np.ndarray, target: np.ndarray, nontarget: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p_miss and p_fa at thresholds, of the sorted scores of either class."""
    num_missed = np.searchsorted(target, thresholds, side="left")
    num_accepted = len(nontarget) - np.searchsorted(nontarget, thresholds, side="left")
    return num_missed / len(target), num_accepted / len(nontarget)


def _checked(scores: np.ndarray, name: str) -> np.ndarray:
    """The scores of one class, sorted; ValueError unless there are some and all are finite."""
    scores = np.sort(np.asarray(scores), axis=None)
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    if len(scores) == 0:
        raise ValueError(f"no {name} trials: error rates need both classes")
    if not (np.isfinite(scores[0]) and np.isfinite(scores[-1])):  # sorting puts -inf first, inf and nan last
        raise ValueError(f"a {name} score is not finite")
    return scores


def compute_eer(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> tuple[float, float]:
    """Equal error rate: the error at the threshold where misses and false alarms balance.

    Args:
        target_scores: (num_target,) scores of same-speaker trials; higher means more alike.
        nontarget_scores: (num_nontarget,) scores of different-speaker trials.

    Returns:
        eer: a fraction in [0, 1], not a percentage.
        threshold: the smallest score at which p_miss >= p_fa; a trial is accepted when its
            score >= threshold. In the scores' own unit; inf if only rejecting all does it.

    Raises:
        ValueError: either class is empty, or a score is not finite.

    Equal scores move together, so the order of the trials never matters. Between the two
    operating points around the crossing, p_miss and p_fa are interpolated linearly. This is
    not the ROC-convex-hull EER of BOSARIS (arXiv:1304.2865), which is never larger.

    >>> compute_eer(np.array([3.0, 5.0, 6.0]), np.array([1.0, 2.0, 4.0]))
    (0.3333333333333333, 4.0)
    """
    return eer_of_det(compute_det(target_scores, nontarget_scores))


def eer_of_det(det: Det) -> tuple[float, float]:
    """The EER and its threshold, as `compute_eer` defines them, from operating points that are there already."""
    after = int(np.argmax(det.p_miss >= det.p_fa))  # at least 1: the lowest score misses nothing, accepts all
    miss, miss_after = det.p_miss[after - 1], det.p_miss[after]
    gap, gap_after = det.p_fa[after - 1] - miss, miss_after - det.p_fa[after]
    eer = miss + gap / (gap + gap_after) * (miss_after - miss)
    return float(eer), float(det.thresholds[after])


def compute_min_dcf(target_scores: np.ndarray, nontarget_scores: np.ndarray, p_target: float,
                    c_miss: float = 1.0, c_fa: float = 1.0) -> tuple[float, float]:
    """Least detection cost over all thresholds, normalised as NIST does.

    Args:
        target_scores: (num_target,) scores of same-speaker trials; higher means more alike.
        nontarget_scores: (num_nontarget,) scores of different-speaker trials.
        p_target: prior probability of a target trial, in (0, 1).
        c_miss: cost of a miss, above 0.
        c_fa: cost of a false alarm, above 0.

    Returns:
        min_dcf: min over thresholds of c_miss * p_target * p_miss + c_fa * (1 - p_target) * p_fa,
            divided by the cheaper of rejecting and accepting everything; in [0, 1].
        threshold: the smallest one that reaches it; inf where rejecting all is cheapest.

    Raises:
        ValueError: either class is empty, a score is not finite, or the operating point is impossible.
    """
    return min_dcf_of_det(compute_det(target_scores, nontarget_scores), p_target, c_miss, c_fa)


def min_dcf_of_det(det: Det, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> tuple[float, float]:
    """minDCF and its threshold, as `compute_min_dcf` defines them, from operating points that are there already."""
    weight_miss, weight_fa = dcf_weights(p_target, c_miss, c_fa)
    costs = weight_miss * det.p_miss + weight_fa * det.p_fa
    best = int(np.argmin(costs))
    return float(costs[best]), float(det.thresholds[best])


def dcf_weights(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> tuple[float, float]:
    """What p_miss and p_fa are multiplied by in the normalised detection cost; the smaller of the two is 1.

    Raises:
        ValueError: the operating point is impossible.
    """
    if not 0 < p_target < 1:
        raise ValueError(f"p_target is {p_target}; want a probability between 0 and 1")
    if not (0 < c_miss < np.inf and 0 < c_fa < np.inf):
        raise ValueError(f"c_miss is {c_miss} and c_fa is {c_fa}; want costs above 0")
    reject_all, accept_all = c_miss * p_target, c_fa * (1 - p_target)
    cheaper = min(reject_all, accept_all)
    return reject_all / cheaper, accept_all / cheaper


def compute_metrics(scores: np.ndarray, is_target: np.ndarray, p_target: float = 0.01,
                    c_miss: float = 1.0, c_fa: float = 1.0) -> dict[str, int | float]:
    """All numbers of a scored trial list, under the names and in the order in which they are printed.

    Args:
        scores: (num_trials,) higher means more alike.
        is_target: (num_trials,) bool, True where both sides are the same speaker.
        p_target: prior probability of a target trial; c_miss, c_fa: costs. The operating point of minDCF.

    Returns:
        num_target, num_nontarget, eer_percent, eer_threshold, min_dcf, min_dcf_threshold,
        dcf_p_target, dcf_c_miss, dcf_c_fa. Thresholds may be inf.

    Raises:
        ValueError: as `compute_det` and `compute_min_dcf`, or scores and labels differ in number.
    """
    scores, is_target = np.asarray(scores), np.asarray(is_target, dtype=bool)
    if scores.shape != is_target.shape:
        raise ValueError(f"{scores.shape} scores and {is_target.shape} labels; want one label a score")
    det = decisive_det(scores[is_target], scores[~is_target])
    eer, eer_threshold = eer_of_det(det)
    min_dcf, min_dcf_threshold = min_dcf_of_det(det, p_target, c_miss, c_fa)
    num_target = int(np.count_nonzero(is_target))
    return {"num_target": num_target, "num_nontarget": len(is_target) - num_target,
            "eer_percent": 100 * eer, "eer_threshold": eer_threshold,
            "min_dcf": min_dcf, "min_dcf_threshold": min_dcf_threshold,
            "dcf_p_target": p_target, "dcf_c_miss": c_miss, "dcf_c_fa": c_fa}
