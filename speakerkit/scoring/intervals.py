"""Confidence intervals of EER and minDCF, and a test of two systems on the same trials, by drawing speakers again.

From the replicates of `scoring.bootstrap` come a standard error and, for minDCF, a bias; from these an interval
on the logit scale, where a rate between 0 and 1 is nearly normal. In the order in which it is computed:

1. The statistic and its replicates are taken to log(x / (1 - x)).
2. The minDCF of a sample lies below that of the population, for its threshold was chosen on the sample; by as
   much as the replicates lie below the sample, on the average. So it is corrected once. The EER isn't minimised
   over anything and stays as it is.
3. The replicates' standard deviation is widened by N / (N - 1) for N speakers, as a jackknife's is, for each
   speaker is measured against a mean that he is part of; and its square is narrowed by what the product of two
   draws adds: where pairs of speakers have noise of their own, the product counts it three times, once too
   often beyond the two that a speaker-robust variance counts (Owen 2007).
4. Half the width is the quantile of Student's t with (speakers with targets - 1) degrees of freedom.

The choice was made by measured coverage: percentile intervals are too narrow and, for minDCF, lie too low; basic,
bias-corrected and accelerated, and natural-scale ones were worse too. On simulated scores
(`tests/benchmarks/measure_coverage.py --replicates 150`: 500 draws leave a share unsure by 1 %) of 40 to 200 speakers,
all pairs as trials, independent or with the usual effects of speakers, 95 % intervals hold the true EER in 93.2 to
96.4 % of draws and the true minDCF at 0.05 and 0.01 in 93.4 to 97.4 %. With effects so strong that a few speakers make
most false alarms the EER is still held in 93.8 to 96.4 %, but minDCF(0.01) in 89.0 to 92.4 %. Where speakers have very
different numbers of recordings (60 of them), the usual effects leave 91.8 % for the EER and 93.2 to 94.8 % for minDCF.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.scoring import bootstrap
from speakerkit.scoring.bootstrap import Corners, SpeakerTrials, Statistic
from speakerkit.scoring.metrics import dcf_weights

LEAST_SPEAKERS = 10    # with target trials; below, the spread between speakers is guesswork
SURE_SPEAKERS = 40     # from here on the coverage was measured
FEW_ERRORS = 10        # errors of one kind at minDCF's threshold; with fewer the interval can be much too narrow
MOST_LEVEL = 0.999


@dataclass(frozen=True)
class Interval:
    """A statistic, its interval, and what there is to say against it.

    Attributes:
        value: a fraction, of the trials themselves.
        low, high: fractions, or None where there is no interval.
        doubt: why there is none, or why it may be too narrow; None where nothing speaks against it.
    """
    value: float
    low: float | None
    high: float | None
    doubt: str | None = None


@dataclass(frozen=True)
class Difference:
    """B less A on the same trials.

    Attributes:
        value: value of B - value of A, a fraction; below 0 where B is better.
        low, high: its interval.
        p_value: two-sided, of the hypothesis that the two are equal in the population.
    """
    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class _Resampled:
    """One system: its statistics, their replicates, and how each depends on speakers to first order."""
    trials: SpeakerTrials
    corners: Corners
    values: np.ndarray      # (num_statistics,)
    rows: np.ndarray        # (num_statistics,) of the target score where each is reached
    replicates: np.ndarray  # (num_statistics, num_replicates)


def confidence_intervals(trials: SpeakerTrials, statistics: Sequence[Statistic], num_replicates: int,
                         generator: np.random.Generator, level: float = 0.95) -> list[Interval]:
    """Intervals that hold the population's EER and minDCF with a probability of about `level`.

    Args:
        trials: as `count_by_speaker` gives them.
        statistics: None for the EER, (p_target, c_miss, c_fa) for minDCF.
        num_replicates: how often all speakers are drawn again, at least 20; 1000 leave the ends unsure by 2 %
            of the width.
        generator: of the draws; same generator, same intervals.
        level: in (0, 0.999].

    Returns:
        One for each statistic, in order. None for `low` and `high` where the value is 0 or 1 or all
            replicates are alike: drawing again can't tell how far from there the population lies.

    Raises:
        ValueError: fewer than LEAST_SPEAKERS speakers have target trials, or an argument is impossible.
    """
    check_draws(trials, num_replicates, level)
    drawn = bootstrap.draw_speakers(trials, num_replicates, generator)
    system = _resample(trials, drawn, statistics)
    t = t_quantile(trials, level)
    return [_interval(system, number, statistic, t) for number, statistic in enumerate(statistics)]


def compare_systems(a: SpeakerTrials, b: SpeakerTrials, statistics: Sequence[Statistic], num_replicates: int,
                    generator: np.random.Generator, level: float = 0.95) -> list[Difference | None]:
    """Paired test of two systems' scores of one list: both are computed on the same draws of speakers.

    Args:
        a, b: the same trials with the scores of either system.
        statistics, num_replicates, generator, level: as `confidence_intervals` takes them.

    Returns:
        One for each statistic; None where all replicates have the same difference but it isn't 0. The standard
        error is that of the replicates' differences, corrected as for the intervals; the test is Student's t
        with (speakers with targets - 1) degrees of freedom.

    Raises:
        ValueError: as `confidence_intervals`, or the lists differ.
    """
    if not (np.array_equal(a.pairs, b.pairs) and a.num_speakers == b.num_speakers
            and np.array_equal(a.targets.sum(axis=0), b.targets.sum(axis=0))
            and np.array_equal(a.nontargets.sum(axis=0), b.nontargets.sum(axis=0))):
        raise ValueError("the two systems have scores of different trials")
    check_draws(a, num_replicates, level)
    drawn = bootstrap.draw_speakers(a, num_replicates, generator)
    systems = [_resample(trials, drawn, statistics) for trials in (a, b)]
    t = t_quantile(a, level)
    return [_difference(*systems, number, statistic, t) for number, statistic in enumerate(statistics)]


def check_draws(trials: SpeakerTrials, num_replicates: int, level: float) -> None:
    """ValueError where drawing speakers again tells nothing, or an argument is impossible."""
    if trials.num_target_speakers < LEAST_SPEAKERS:
        raise ValueError(f"{trials.num_target_speakers} speakers have target trials; want at least {LEAST_SPEAKERS}")
    if num_replicates < 20:
        raise ValueError(f"{num_replicates} replicates; want at least 20")
    if not 0 < level <= MOST_LEVEL:
        raise ValueError(f"level is {level}; want a probability up to {MOST_LEVEL}")


def _resample(trials: SpeakerTrials, drawn: np.ndarray, statistics: Sequence[Statistic]) -> _Resampled:
    corners = bootstrap.corners_of_all(trials)
    reached = [bootstrap.statistic_of(corners, statistic) for statistic in statistics]
    values, rows = (np.array([part[column][0] for part in reached]) for column in (0, 1))
    return _Resampled(trials, corners, values, rows, bootstrap.replicate_statistics(trials, drawn, statistics))


def t_quantile(trials: SpeakerTrials, level: float) -> float:
    """Half an interval's width in standard errors: Student's t, a degree of freedom less than speakers with targets."""
    from scipy.special import stdtrit

    return float(stdtrit(trials.num_target_speakers - 1, (1 + level) / 2))


def _interval(system: _Resampled, number: int, statistic: Statistic, t: float) -> Interval:
    value, replicates = float(system.values[number]), system.replicates[number]
    if not 0 < value < 1:
        return Interval(value, None, None, f"it is {value:g}: drawing speakers again can't tell how far off it is")
    if np.ptp(replicates) == 0:
        return Interval(value, None, None, "no draw of speakers changes it")
    share = share_of_speakers(system.trials, *_influence(system, number, statistic))
    # Half a target trial away from 0 and 1: a replicate without any error is not infinitely far off.
    edge = min(0.5 / system.trials.targets.sum(), value / 2, (1 - value) / 2)
    logits = logit(np.clip(replicates, edge, 1 - edge))
    bias = 0.0 if statistic is None else float(logits.mean()) - logit(value)
    middle, half = logit(value) - bias, t * standard_error(logits, system.trials, share)
    low, high = (1 / (1 + math.exp(-end)) for end in (middle - half, middle + half))
    return Interval(value, low, high, _doubt(system, number, statistic))


def _difference(a: _Resampled, b: _Resampled, number: int, statistic: Statistic, t: float) -> Difference | None:
    from scipy.special import stdtr

    value = float(b.values[number] - a.values[number])
    differences = b.replicates[number] - a.replicates[number]
    if np.ptp(differences) == 0:
        return Difference(0.0, 0.0, 0.0, 1.0) if value == 0 else None
    of_a, of_b = _influence(a, number, statistic), _influence(b, number, statistic)
    share = share_of_speakers(a.trials, of_b[0] - of_a[0], of_b[1] - of_a[1])
    error = standard_error(differences, a.trials, share)
    p_value = 2 * float(stdtr(a.trials.num_target_speakers - 1, -abs(value) / error))
    return Difference(value, value - t * error, value + t * error, p_value)


def logit(x: np.ndarray | float) -> np.ndarray | float:
    """log(x / (1 - x)), where rates between 0 and 1 are nearly normal."""
    return np.log(x) - np.log1p(-x)


def standard_error(replicates: np.ndarray, trials: SpeakerTrials, share: float) -> float:
    """From (num_replicates,) replicates; `share` is the part of their variance that `share_of_speakers` gives."""
    widened = trials.num_speakers / (trials.num_speakers - 1)
    return float(np.std(replicates, ddof=1)) * widened * math.sqrt(share)


def _influence(system: _Resampled, number: int, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    """What each speaker's targets and each pair's nontargets add to a statistic, to first order.

    Returns:
        (num_speakers,) and (num_pairs,): the weighted error rate above or below the average, times the share of
        the trials; each sums to 0.
    """
    trials, row = system.trials, int(system.rows[number])
    if row == len(trials.thresholds):  # rejecting all: no speaker matters
        return np.zeros(trials.num_speakers), np.zeros(len(trials.pairs))
    return influence_at(trials, row, *_slopes(system.corners, float(system.values[number]), statistic))


def influence_at(trials: SpeakerTrials, row: int, weight_miss: float,
                 weight_fa: float) -> tuple[np.ndarray, np.ndarray]:
    """What each speaker's targets and each pair's nontargets add to weight_miss * p_miss + weight_fa * p_fa.

    Args:
        row: of the target score that is the threshold.

    Returns:
        (num_speakers,) and (num_pairs,), each sums to 0.
    """
    parts = []
    for weight, errors, all_of_them in ((weight_miss, trials.targets[:row].sum(axis=0), trials.targets.sum(axis=0)),
                                        (weight_fa, trials.nontargets[2 * row + 1:].sum(axis=0),
                                         trials.nontargets.sum(axis=0))):
        errors, counts = errors.astype(np.float64), all_of_them.astype(np.float64)
        parts.append(weight * (errors - errors.sum() / counts.sum() * counts) / counts.sum())
    return parts[0], parts[1]


def _slopes(corners: Corners, value: float, statistic: Statistic) -> tuple[float, float]:
    """How a statistic moves with p_miss and with p_fa at one threshold."""
    if statistic is not None:
        return dcf_weights(*statistic)
    # Of the EER: by the DET curve's steepness, from half to one and a half times the EER of p_miss.
    first = int(np.argmax(corners.miss_after[:, 0] > value / 2))
    last = int(np.argmax(corners.miss_after[:, 0] >= min(1.0, 1.5 * value)))
    d_miss = corners.miss_after[last, 0] - corners.miss_before[first, 0]
    d_fa = corners.fa_at[first, 0] - corners.fa_after[last, 0]
    return d_fa / (d_fa + d_miss), d_miss / (d_fa + d_miss)


def share_of_speakers(trials: SpeakerTrials, of_targets: np.ndarray, of_pairs: np.ndarray) -> float:
    """The part of the replicates' variance that is linear in the draws, in [2/3, 1].

    With e = draws - 1, of mean 0 and variance 1, a pair weighs 1 + e_i + e_j + e_i e_j: the sum over speakers
    of squares of all that is theirs comes from the linear part, that over pairs of squares from the product.
    """
    enrol, test = trials.pairs.T
    num_speakers = trials.num_speakers
    of_speakers = of_targets + sum(np.bincount(side, of_pairs, minlength=num_speakers) for side in (enrol, test))
    linear = float(of_speakers @ of_speakers)
    keys = np.minimum(enrol, test) * num_speakers + np.maximum(enrol, test)  # a-b and b-a are one pair of people
    _, pair = np.unique(keys, return_inverse=True)
    of_two = np.bincount(pair, of_pairs)
    product = float(of_two @ of_two)
    return 1.0 if linear + product == 0 else max(2 / 3, linear / (linear + product))


def _doubt(system: _Resampled, number: int, statistic: Statistic) -> str | None:
    """What makes an interval less sure, in words."""
    trials, row = system.trials, int(system.rows[number])
    if trials.num_target_speakers < SURE_SPEAKERS:
        return f"only {trials.num_target_speakers} speakers have target trials: it is likely too narrow"
    if statistic is None:
        return None
    num_errors = {"misses": trials.targets[:row].sum(), "false alarms": trials.nontargets[2 * row + 1:].sum()}
    name, least = min(num_errors.items(), key=lambda item: item[1])
    return f"it rests on few {name} ({least:.0f}): it is likely too narrow" if least < FEW_ERRORS else None
