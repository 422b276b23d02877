"""The confidence interval around a DET curve: of p_miss at each false-alarm rate, by drawing speakers again.

The draws are those of `scoring.bootstrap`, and the interval is made of them as `scoring.intervals` makes that of
the EER: on the logit scale, the replicates' standard deviation corrected, Student's t. It is an interval at each
rate by itself, not for the whole curve at once.
"""

import numpy as np

from speakerkit.scoring import bootstrap, intervals
from speakerkit.scoring.bootstrap import Corners, SpeakerTrials

_SLOPE_FACTOR = 1.5  # the curve's steepness at a rate is taken from a part of the rate to so many times it


def confidence_band(trials: SpeakerTrials, p_fa: np.ndarray, num_replicates: int, generator: np.random.Generator,
                    level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Intervals that hold the population's p_miss at a false-alarm rate with a probability of about `level`.

    Args:
        trials: as `count_by_speaker` gives them.
        p_fa: (num_rates,) fractions.
        num_replicates: how often all speakers are drawn again, at least 20.
        generator: of the draws; same generator, same intervals.
        level: in (0, 0.999].

    Returns:
        low, high: (num_rates,) fractions; NaN where the point rests on fewer than `intervals.FEW_ERRORS` misses,
            false alarms or accepted targets (simulated intervals then held the truth too seldom: in 87 % instead of
            95 at 4 misses), or no draw changes it.

    Raises:
        ValueError: as `intervals.confidence_intervals`.
    """
    intervals.check_draws(trials, num_replicates, level)
    drawn = bootstrap.draw_speakers(trials, num_replicates, generator)
    corners = bootstrap.corners_of_all(trials)
    values, rows = (column[:, 0] for column in misses_at(corners, p_fa))
    parts = [misses_at(some, p_fa)[0] for some in bootstrap.replicate_corners(trials, drawn)]
    replicates = np.concatenate(parts, axis=1)
    t = intervals.t_quantile(trials, level)
    low, high = np.full(len(p_fa), np.nan), np.full(len(p_fa), np.nan)
    num_target, num_nontarget = float(trials.targets.sum()), float(trials.nontargets.sum())
    for number, (value, row) in enumerate(zip(values.tolist(), rows.tolist(), strict=True)):
        num_errors = min(value * num_target, (1 - value) * num_target, float(p_fa[number]) * num_nontarget)
        if num_errors >= intervals.FEW_ERRORS and np.ptp(replicates[number]) > 0:
            share = _share_of_speakers(trials, corners, float(p_fa[number]), row)
            edge = 0.5 / num_target  # as intervals does for the EER
            logits = intervals.logit(np.clip(replicates[number], edge, 1 - edge))
            half = t * intervals.standard_error(logits, trials, share)
            low[number], high[number] = 1 / (1 + np.exp(-intervals.logit(value) + np.array([half, -half])))
    return low, high


def misses_at(corners: Corners, p_fa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p_miss of several DET curves at given false-alarm rates.

    Args:
        corners: of the curves, one column each.
        p_fa: (num_rates,) fractions.

    Returns:
        p_miss: (num_rates, num_curves); along tied scores linear between the operating points, as the EER is.
        rows: (num_rates, num_curves) of the target score there; num_points where all is missed.
    """
    num_points, num_curves = corners.fa_at.shape
    p_miss, rows = np.ones((len(p_fa), num_curves)), np.empty((len(p_fa), num_curves), dtype=np.int64)
    for curve in range(num_curves):
        fa_at, fa_after = corners.fa_at[:, curve], corners.fa_after[:, curve]
        rows[:, curve] = np.searchsorted(-fa_after, -p_fa, side="left")  # the first with fa_after <= p_fa
        is_there = rows[:, curve] < num_points  # else more is accepted above the highest target score
        row, wanted = rows[is_there, curve], p_fa[is_there]
        before, after = corners.miss_before[row, curve], corners.miss_after[row, curve]
        drop = fa_at[row] - fa_after[row]
        share = np.divide(fa_at[row] - wanted, drop, out=np.zeros_like(drop), where=(fa_at[row] > wanted) & (drop > 0))
        p_miss[is_there, curve] = before + share * (after - before)
    return p_miss, rows


def _share_of_speakers(trials: SpeakerTrials, corners: Corners, p_fa: float, row: int) -> float:
    """The part of the replicates' variance that counts; a false alarm more costs misses by the curve's slope."""
    rates = np.array([p_fa / _SLOPE_FACTOR, min(1.0, p_fa * _SLOPE_FACTOR)])
    misses = misses_at(corners, rates)[0][:, 0]
    slope = float((misses[0] - misses[1]) / (rates[1] - rates[0]))
    return intervals.share_of_speakers(trials, *intervals.influence_at(trials, row, 1.0, slope))
