"""EER and minDCF of more scores than memory holds: exact, from integer counts of float32 values.

The bits of a float32, put in order, are a key of 32 bits. A first pass counts scores by the upper half
of their keys. From those counts follows which few of the 65,536 bins the crossing and the least cost can
lie in; another pass counts the scores of these bins value by value. What comes out is what `metrics`
computes from the sorted scores, ties and all, and not an estimate.
"""

from collections.abc import Callable, Iterable

import numpy as np

from speakerkit.scoring.metrics import Det, dcf_weights, eer_of_det, min_dcf_of_det

_NUM_BINS = 1 << 16
_BINS_AT_A_TIME = 32  # counted value by value in one pass: 32 MB
_SIGN = np.uint32(1 << 31)

# Scores with their labels; one label may stand for a whole block.
ScoreBlocks = Iterable[tuple[np.ndarray, np.ndarray | bool]]


def to_keys(scores: np.ndarray) -> np.ndarray:
    """uint32 keys in the order of float32 scores; both zeros have one key."""
    bits = (np.asarray(scores, dtype=np.float32) + np.float32(0.0)).view(np.uint32)
    below_zero = (bits.view(np.int32) >> 31).view(np.uint32)  # all ones or none
    return bits ^ (below_zero | _SIGN)


def from_keys(keys: np.ndarray) -> np.ndarray:
    """The float32 scores of keys."""
    keys = np.asarray(keys, dtype=np.uint32)
    return np.where(keys >= _SIGN, keys ^ _SIGN, ~keys).astype(np.uint32).view(np.float32)


class ScoreCounts:
    """How many scores of either class lie in each bin: the first pass.

    Attributes:
        of_class: (2, 65536) int64, nontargets and targets, in the order of scores.
    """

    def __init__(self):
        self.of_class = np.zeros((2, _NUM_BINS), dtype=np.int64)

    def add(self, scores: np.ndarray, is_target: np.ndarray | bool) -> None:
        """Count finite float32 scores of any shape, with a label each or one for all."""
        bins = (to_keys(scores) >> np.uint32(16)).astype(np.intp).ravel()
        if isinstance(is_target, (bool, np.bool_)):
            self.of_class[int(is_target)] += np.bincount(bins, minlength=_NUM_BINS)
            return
        bins += np.asarray(is_target).ravel().astype(np.intp) * _NUM_BINS
        self.of_class += np.bincount(bins, minlength=2 * _NUM_BINS).reshape(2, _NUM_BINS)

    @property
    def totals(self) -> tuple[int, int]:
        """(num_nontarget, num_target)."""
        return tuple(int(total) for total in self.of_class.sum(axis=1))


def metrics_of_counts(counts: ScoreCounts, blocks: Callable[[], ScoreBlocks], p_target: float = 0.01,
                      c_miss: float = 1.0, c_fa: float = 1.0) -> dict[str, int | float]:
    """What `metrics.compute_metrics` says of the same scores.

    Args:
        counts: of all scores.
        blocks: gives all scores again, from the start; called once or a few times.
        p_target, c_miss, c_fa: the operating point of minDCF.

    Raises:
        ValueError: either class is empty, or the operating point is impossible.
    """
    num_nontarget, num_target = counts.totals
    if not (num_nontarget and num_target):
        raise ValueError(f"no {'nontarget' if num_target else 'target'} trials: error rates need both classes")
    weight_miss, weight_fa = dcf_weights(p_target, c_miss, c_fa)
    bins = np.flatnonzero(counts.of_class.any(axis=0))
    p_miss, p_fa = _rates(counts, *(counts.of_class[:, bins]))  # at the lowest score of each bin, and at inf
    after = int(np.argmax(p_miss >= p_fa))  # the crossing is in the bin before, or at the lowest score of this one
    least = float(np.min(weight_miss * p_miss + weight_fa * p_fa))
    lowest = weight_miss * p_miss[:-1] + weight_fa * p_fa[1:]  # no score of the bin costs less
    det = _refine(counts, bins[after - 1:after + 1], blocks)
    eer, eer_threshold = eer_of_det(det)
    best = [min_dcf_of_det(det, p_target, c_miss, c_fa)]
    waiting = np.argsort(lowest, kind="stable")
    waiting = waiting[~np.isin(waiting, (after - 1, after))]
    while len(waiting := waiting[lowest[waiting] <= min(least, min(best)[0])]):
        det = _refine(counts, np.sort(bins[waiting[:_BINS_AT_A_TIME]]), blocks)
        best.append(min_dcf_of_det(det, p_target, c_miss, c_fa))
        waiting = waiting[_BINS_AT_A_TIME:]
    min_dcf, min_dcf_threshold = min(best)  # of equal costs the lowest threshold
    return {"num_target": num_target, "num_nontarget": num_nontarget, "eer_percent": 100 * eer,
            "eer_threshold": eer_threshold, "min_dcf": min_dcf, "min_dcf_threshold": min_dcf_threshold,
            "dcf_p_target": p_target, "dcf_c_miss": c_miss, "dcf_c_fa": c_fa}


def _rates(counts: ScoreCounts, nontarget: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p_miss and p_fa at the start of each group of scores and after the last, of all groups' counts in order."""
    num_nontarget, num_target = counts.totals
    num_missed = np.append(0, np.cumsum(target))
    return num_missed / num_target, (num_nontarget - np.append(0, np.cumsum(nontarget))) / num_nontarget


def _refine(counts: ScoreCounts, bins: np.ndarray, blocks: Callable[[], ScoreBlocks]) -> Det:
    """The operating points of every distinct score in some bins, and the one that accepts nothing."""
    place = np.full(_NUM_BINS, -1)
    place[bins] = np.arange(len(bins))
    of_class = np.zeros((2, len(bins), _NUM_BINS), dtype=np.int64)
    flat = [of_class[0].ravel(), of_class[1].ravel()]
    for scores, is_target in blocks():
        keys = to_keys(scores).ravel()
        slots = place[(keys >> np.uint32(16)).astype(np.intp)]
        chosen = np.flatnonzero(slots >= 0)
        values = slots[chosen] * _NUM_BINS + (keys[chosen] & np.uint32(_NUM_BINS - 1))
        labels = np.broadcast_to(is_target, np.shape(scores)).ravel()[chosen]
        for label in (0, 1):
            found, times = np.unique(values[labels == label], return_counts=True)
            flat[label][found] += times
    return _points(counts, bins, of_class)


def _points(counts: ScoreCounts, bins: np.ndarray, of_class: np.ndarray) -> Det:
    below = np.cumsum(counts.of_class, axis=1) - counts.of_class  # scores of either class in lower bins
    thresholds, nontarget, target = [], [], []
    for place, one in enumerate(bins):
        values = np.flatnonzero(of_class[:, place].any(axis=0))
        thresholds.append(from_keys((int(one) << 16) + values))
        for total, label in ((nontarget, 0), (target, 1)):
            within = of_class[label, place, values]
            total.append(below[label, one] + np.cumsum(within) - within)
    num_nontarget, num_target = counts.totals
    p_miss = np.append(np.concatenate(target), num_target) / num_target
    p_fa = (num_nontarget - np.append(np.concatenate(nontarget), num_nontarget)) / num_nontarget
    return Det(np.append(np.concatenate(thresholds), np.float32(np.inf)), p_miss, p_fa)
