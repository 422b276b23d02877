"""DET curves as points on normal-deviate axes, where scores that are normal in both classes make a straight line."""

import numpy as np
from scipy.special import ndtri

from speakerkit.scoring.metrics import Det

TICKS_PERCENT = (0.1, 0.5, 1, 2, 5, 10, 20, 40)
_EDGE = TICKS_PERCENT[0] / 200  # error rates below it and above 1 - it lie outside every drawing


def det_points(det: Det, max_points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """A DET curve as the eye can tell it from all its operating points.

    Args:
        det: all operating points.
        max_points: the most that are kept, evenly along the curve.

    Returns:
        x, y: (num_points,) normal deviates of p_fa (descending) and p_miss (ascending); both ends are kept.
    """
    x, y = (ndtri(np.clip(rate, _EDGE, 1 - _EDGE)) for rate in (det.p_fa, det.p_miss))
    length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))  # of the curve so far
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], max_points)))
    return x[kept], y[kept]


def det_ticks() -> tuple[np.ndarray, list[str]]:
    """Where the usual error rates lie on an axis, ascending, and their texts in percent."""
    return ndtri(np.array(TICKS_PERCENT) / 100), [f"{percent:g}" for percent in TICKS_PERCENT]
