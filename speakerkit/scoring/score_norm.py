"""Adaptive score normalisation (AS-norm): a score against what its two sides score on a cohort of strangers.

    (score - mean) / deviation

with mean and deviation of a side's highest cosines on the cohort; the symmetric form is the mean of
both sides' (Cumani et al., Interspeech 2011; Matejka et al., Interspeech 2017, "adaptive s-norm 1":
each side's own highest cosines). The deviation is that of the population (n), as in WeSpeaker's and
3D-Speaker's scripts.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from speakerkit.scoring.cosine import length_normalise

_BLOCK_VALUES = 1 << 22  # cosines of one block: 16 MB of float32 a thread, which a selection then passes over
_BLOCK_TRIALS = 1 << 18
_SELECT_FROM = 32  # times `top`: a row as long as that is cut down by a bound before its highest are selected
_SAMPLE_STEP = 16
_SAMPLE_MARGIN = 6  # values, beside half the sample's share of the highest: too few above the bound are rare
LEAST_DEVIATION = 1e-6  # of cosines: below it the cohort is one voice many times over


def cohort_statistics(
    embeddings: np.ndarray, cohort: np.ndarray, top: int, num_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each embedding's highest cosines on the cohort.

    Args:
        embeddings: (num, dim), none of them zero.
        cohort: (num_cohort, dim), none of them zero.
        top: how many of the highest cosines; num_cohort takes them all (s-norm).
        num_threads: blocks of rows worked on at a time; the result doesn't depend on it.

    Returns:
        mean, deviation: (num,) float64.

    Raises:
        ValueError: the dimensions differ, a top below 2 or above the cohort's size, a zero embedding.
    """
    if not 2 <= top <= len(cohort):
        raise ValueError(f"top is {top}; want 2 to the cohort's size, {len(cohort)}")
    embeddings, columns = length_normalise(embeddings), length_normalise(cohort).T
    if embeddings.shape[1] != len(columns):
        raise ValueError(f"embeddings have {embeddings.shape[1]} values, the cohort's {len(columns)}")
    mean, deviation = np.empty(len(embeddings)), np.empty(len(embeddings))
    rows = max(1, _BLOCK_VALUES // len(cohort))

    def block(first: int) -> None:
        highest = _highest(embeddings[first : first + rows] @ columns, top)
        mean[first : first + rows] = highest.mean(axis=1, dtype=np.float64)
        deviation[first : first + rows] = highest.std(axis=1, dtype=np.float64)

    with ThreadPoolExecutor(max(1, num_threads)) as pool:  # numpy works without the interpreter's lock
        for _ in pool.map(block, range(0, len(embeddings), rows)):
            pass
    return mean, deviation


def _highest(cosines: np.ndarray, top: int) -> np.ndarray:
    """(rows, top): each row's highest values, in no order; the array is used up.

    A selection passes over a row several times. What is above a bound that a sixteenth of the row gives holds the
    highest with a margin, and is little; where it is too few after all, the row itself is gone through.
    """
    num_rows, size = cosines.shape
    place = -(-size // _SAMPLE_STEP) - _SAMPLE_MARGIN - int(1.5 * top / _SAMPLE_STEP)
    if place < 1 or size < _SELECT_FROM * top:
        if top < size:
            cosines.partition(size - top, axis=1)
        return cosines[:, size - top :]
    sample = np.ascontiguousarray(cosines[:, ::_SAMPLE_STEP])
    sample.partition(place, axis=1)
    highest = np.empty((num_rows, top), dtype=cosines.dtype)
    for row, bound, found in zip(cosines, sample[:, place], highest, strict=True):
        above = row[np.flatnonzero(row >= bound)]
        above = above if len(above) >= top else row
        above.partition(len(above) - top)
        found[:] = above[len(above) - top :]
    return highest


class SideStatistics(NamedTuple):
    """What one side of each trial scores on the cohort.

    Attributes:
        index: (num_trials,) the row of `mean` and `deviation` in each trial.
        mean, deviation: (num,) as `cohort_statistics` gives them.
    """

    index: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


def normalise(scores: np.ndarray, sides: Sequence[SideStatistics]) -> np.ndarray:
    """Scores against their sides' statistics; of two sides the mean.

    Args:
        scores: (num_trials,).
        sides: one or two.

    Returns:
        (num_trials,) float64: deviations above the mean.

    Raises:
        ValueError: a deviation of nothing, for then no score has a place among the cohort's.
    """
    for _, mean, deviation in sides:
        flat = np.flatnonzero(~(deviation > LEAST_DEVIATION))
        if len(flat):
            raise ValueError(f"embedding {flat[0]}: its cosines on the cohort are all {mean[flat[0]]:.6f}")
    normalised = np.zeros(len(scores))
    for start in range(0, len(scores), _BLOCK_TRIALS):  # so that what lies between isn't as long as the list
        part = slice(start, start + _BLOCK_TRIALS)
        for index, mean, deviation in sides:
            normalised[part] += (scores[part] - mean[index[part]]) / deviation[index[part]]
    normalised /= len(sides)
    return normalised
