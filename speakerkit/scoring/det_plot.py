"""DET curves as points on normal-deviate axes, where scores that are normal in both classes make a straight line."""

import numpy as np
from scipy.special import ndtr, ndtri

from speakerkit.scoring.metrics import Det

TICKS_PERCENT = (0.1, 0.5, 1, 2, 5, 10, 20, 40)
_FINER_TICKS_PERCENT = (0.0001, 0.001, 0.01)
_HIGHER_TICKS_PERCENT = (60, 80, 90, 95, 99)
_FAR_APART = 0.05     # deviates; a tenth of a grid square
_POINTS_BETWEEN = 20


def det_deviates(rates: np.ndarray | float, lowest_percent: float = TICKS_PERCENT[0]) -> np.ndarray:
    """Where error rates (fractions) lie on an axis that begins at `lowest_percent`: normal deviates.

    Rates of less than half of that and of more than its complement are put there, outside every drawing, where
    deviates would go to infinity.
    """
    edge = lowest_percent / 200
    return ndtri(np.clip(rates, edge, 1 - edge))


def rates_of(deviates: np.ndarray) -> np.ndarray:
    """The error rates (fractions) at places of an axis."""
    return ndtr(deviates)


def det_points(det: Det, max_points: int = 2000,
               lowest_percent: float = TICKS_PERCENT[0]) -> tuple[np.ndarray, np.ndarray]:
    """A DET curve as the eye can tell it from all its operating points.

    Args:
        det: all operating points.
        max_points: the most that are kept, evenly along the curve.
        lowest_percent: where the axes begin.

    Returns:
        x, y: (num_points,) normal deviates of p_fa (descending) and p_miss (ascending); both ends are kept. Far
            operating points, which tied scores leave, are joined as the EER interpolates them: straight in the
            rates, so that the EER lies on the curve.
    """
    x, y = (det_deviates(rates, lowest_percent) for rates in _joined(det.p_fa, det.p_miss, lowest_percent))
    length = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))  # of the curve so far
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], max_points)))
    return x[kept], y[kept]


def _joined(p_fa: np.ndarray, p_miss: np.ndarray, lowest_percent: float) -> tuple[np.ndarray, np.ndarray]:
    """The rates with some more between those that are far apart in both."""
    steps = [np.diff(det_deviates(rates, lowest_percent)) for rates in (p_fa, p_miss)]
    before = np.flatnonzero((np.abs(steps[0]) > _FAR_APART) & (np.abs(steps[1]) > _FAR_APART))
    share = np.arange(1, _POINTS_BETWEEN + 1) / (_POINTS_BETWEEN + 1)
    places = np.repeat(before + 1, _POINTS_BETWEEN)
    return tuple(np.insert(rates, places, (rates[before, None] + np.outer(np.diff(rates)[before], share)).ravel())
                 for rates in (p_fa, p_miss))


def det_ticks(lowest_percent: float = TICKS_PERCENT[0],
              highest_percent: float = TICKS_PERCENT[-1]) -> tuple[np.ndarray, list[str]]:
    """Where the usual error rates lie on an axis, ascending, and their texts in percent."""
    percents = [percent for percent in (*_FINER_TICKS_PERCENT, *TICKS_PERCENT, *_HIGHER_TICKS_PERCENT)
                if lowest_percent <= percent <= highest_percent]
    return ndtri(np.array(percents) / 100), [f"{percent:g}" for percent in percents]


def det_range(rates: np.ndarray) -> tuple[float, float]:
    """Where an axis begins and ends, in percent, so that error rates (fractions) above 0 are seen: ticks of it, at
    least the usual range."""
    percents = 100 * np.asarray(rates, dtype=np.float64)
    low, high = percents[percents > 0].min(initial=TICKS_PERCENT[0]), percents.max(initial=TICKS_PERCENT[-1])
    begins = (TICKS_PERCENT[0], *reversed(_FINER_TICKS_PERCENT))
    ends = (TICKS_PERCENT[-1], *_HIGHER_TICKS_PERCENT)
    return (next((percent for percent in begins if percent <= low), begins[-1]),
            next((percent for percent in ends if percent >= high), ends[-1]))
