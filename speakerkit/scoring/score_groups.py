"""EER and minDCF of more scores than memory holds: exact, from one pass over their distinct values in order.

Unlike `score_counts`, which needs float32, this takes any floats that come sorted: what comes out is what
`metrics` computes from all of them at once, ties and all.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from speakerkit.scoring.metrics import Det, eer_of_det, min_dcf_of_det


class ScoreGroups(NamedTuple):
    """Distinct scores that follow each other, and how many trials of either class have each.

    Attributes:
        scores: (num_groups,) ascending, above all those before.
        num_target, num_nontarget: (num_groups,) int64.
    """
    scores: np.ndarray
    num_target: np.ndarray
    num_nontarget: np.ndarray


def metrics_of_groups(groups: Iterable[ScoreGroups], num_target: int, num_nontarget: int, p_target: float = 0.01,
                      c_miss: float = 1.0, c_fa: float = 1.0) -> dict[str, int | float]:
    """What `metrics.compute_metrics` says of the same scores.

    Args:
        groups: all scores, ascending.
        num_target, num_nontarget: how many there are of either class.
        p_target, c_miss, c_fa: the operating point of minDCF.

    Raises:
        ValueError: either class is empty, the operating point is impossible, or the groups hold other numbers.
    """
    if not (num_target and num_nontarget):
        raise ValueError(f"no {'nontarget' if num_target else 'target'} trials: error rates need both classes")
    eer, best, before = None, None, None
    for det in _parts(groups, num_target, num_nontarget):
        least = min_dcf_of_det(det, p_target, c_miss, c_fa)
        best = least if best is None or least[0] < best[0] else best  # of equal costs the lowest threshold
        if eer is None and det.p_miss[-1] >= det.p_fa[-1]:
            eer = eer_of_det(det if before is None else _joined(before, det))
        before = Det(det.thresholds[-1:], det.p_miss[-1:], det.p_fa[-1:])
    return {"num_target": num_target, "num_nontarget": num_nontarget, "eer_percent": 100 * eer[0],
            "eer_threshold": eer[1], "min_dcf": best[0], "min_dcf_threshold": best[1],
            "dcf_p_target": p_target, "dcf_c_miss": c_miss, "dcf_c_fa": c_fa}


def _parts(groups: Iterable[ScoreGroups], num_target: int, num_nontarget: int) -> Iterator[Det]:
    """Operating points of some scores after the other; the last is that of rejecting all."""
    missed = refused = 0
    for scores, targets, nontargets in groups:
        if not len(scores):
            continue
        below_target = missed + np.cumsum(targets) - targets
        below_nontarget = refused + np.cumsum(nontargets) - nontargets
        missed, refused = missed + int(targets.sum()), refused + int(nontargets.sum())
        # Counts divided, as `metrics.compute_det` does.
        yield Det(scores, below_target / num_target, (num_nontarget - below_nontarget) / num_nontarget)
    if (missed, refused) != (num_target, num_nontarget):
        raise ValueError(f"groups of {missed} targets and {refused} nontargets; want {num_target} and {num_nontarget}")
    yield Det(np.array([np.inf]), np.array([1.0]), np.array([0.0]))


def _joined(before: Det, det: Det) -> Det:
    return Det(*(np.concatenate(parts) for parts in ((before.thresholds, det.thresholds),
                                                     (before.p_miss, det.p_miss), (before.p_fa, det.p_fa))))
