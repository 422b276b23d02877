"""Scores to log-likelihood ratios, and how good such ratios are: actual DCF, Cllr and minCllr.

A log-likelihood ratio (natural logarithm) says how much more likely a pair of recordings is if one person
speaks in both than if two do. It depends on no prior: whoever has prior odds adds their logarithm.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from speakerkit.scoring.metrics import Det, dcf_weights

_MOST_STEPS = 100
_MOST_HALVINGS = 40
_LEAST_DECREMENT = 1e-12  # half the squared Newton decrement: the cross entropy lies no further above its minimum
_UPSIDE_DOWN = "higher scores don't mean more alike on these trials: the best scale is not above 0"


@dataclass(frozen=True)
class Calibration:
    """An affine map of scores to log-likelihood ratios: llr = scale * score + offset, natural logarithm.

    As a dictionary (`to_dict`, `from_dict`) it stands in the metadata of a model file under `calibration`:
    `{"scale": 12.3, "offset": -5.1, "p_target": 0.5, "num_target": 8000, "num_nontarget": 1592000, ...}`.
    `scale` and `offset` are enough to apply it; whatever else stands there is for people: `trials` and
    `trials_sha256` of the list it was fitted on, `cllr` and `min_cllr` on these same trials.

    Attributes:
        scale: above 0, in llr per score.
        offset: the llr of a score of 0.
    """
    scale: float
    offset: float

    def __post_init__(self):
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"calibration: {name} is {value!r}; want a finite number")
        if self.scale <= 0:
            raise ValueError(f"calibration: scale is {self.scale!r}; want a number above 0")

    @classmethod
    def from_dict(cls, facts: Mapping[str, object]) -> "Calibration":
        """The calibration that a model's metadata holds; what else stands there is ignored.

        Raises:
            ValueError: scale or offset is missing, no finite number, or the scale isn't above 0.
        """
        for name in ("scale", "offset"):
            if name not in facts:
                raise ValueError(f"calibration: '{name}' is missing; want scale and offset")
        return cls(facts["scale"], facts["offset"])

    def to_dict(self) -> dict[str, float]:
        """`scale` and `offset`, as plain numbers."""
        return {"scale": float(self.scale), "offset": float(self.offset)}

    def to_llr(self, scores: np.ndarray | float) -> np.ndarray | float:
        """Log-likelihood ratios of scores, float64; one number for one score."""
        llr = self.scale * np.asarray(scores, dtype=np.float64) + self.offset
        return float(llr) if llr.ndim == 0 else llr


def fit_calibration(scores: np.ndarray, is_target: np.ndarray, p_target: float = 0.5) -> Calibration:
    """Fit scale and offset by prior-weighted logistic regression.

    Args:
        scores: (num_trials,) higher means more alike.
        is_target: (num_trials,) bool.
        p_target: the prior at which errors are weighed, in (0, 1). It decides in which range of scores the
            fit is best, and doesn't move the ratios of a model that fits everywhere.

    Returns:
        The map that minimises p_target * mean over targets of log(1 + exp(-(llr + logit p_target)))
        + (1 - p_target) * mean over nontargets of log(1 + exp(llr + logit p_target)), by Newton's method
        (Brummer and du Preez, "Application-independent evaluation of speaker detection", 2006, section 6.2).

    Raises:
        ValueError: one class is empty, a score is not finite, p_target is impossible; the classes don't
            overlap, so that any steeper map would be better still; higher scores don't mean more alike.
    """
    target, nontarget = _two_classes(scores, is_target)
    dcf_weights(p_target)
    if max(target.max(), nontarget.max()) == min(target.min(), nontarget.min()):
        raise ValueError("every score is the same, which tells nothing apart")
    if target.max() <= nontarget.min():
        raise ValueError(_UPSIDE_DOWN)
    if target.min() >= nontarget.max():
        raise ValueError("target and nontarget scores don't overlap: no scale is steep enough for them; "
                         "want more, or harder, trials")
    centre, spread = _middle_and_spread(target, nontarget)
    x = (np.concatenate([target, nontarget]) - centre) / spread
    sign = np.repeat([1.0, -1.0], [len(target), len(nontarget)])
    weight = np.repeat([p_target / len(target), (1 - p_target) / len(nontarget)], [len(target), len(nontarget)])
    slope, level = _newton(x, sign, weight, math.log(p_target / (1 - p_target)))
    if slope <= 0:
        raise ValueError(_UPSIDE_DOWN)
    return Calibration(slope / spread, level - slope / spread * centre)


def _newton(x: np.ndarray, sign: np.ndarray, weight: np.ndarray, logit: float) -> tuple[float, float]:
    """Slope and level of llr = slope * x + level with the least weighted cross entropy."""
    def cross_entropy(at: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0.0, -sign * (at[0] * x + at[1] + logit)))

    at = np.zeros(2)
    value = cross_entropy(at)
    for _ in range(_MOST_STEPS):
        p_wrong = np.exp(-np.logaddexp(0.0, sign * (at[0] * x + at[1] + logit)))
        pull, bend = weight * p_wrong * sign, weight * p_wrong * (1 - p_wrong)
        gradient = -np.array([pull @ x, pull.sum()])
        hessian = np.array([[bend @ (x * x), bend @ x], [bend @ x, bend.sum()]])
        step = np.linalg.solve(hessian, -gradient)
        if -gradient @ step / 2 < _LEAST_DECREMENT:
            return float(at[0] + step[0]), float(at[1] + step[1])
        for _ in range(_MOST_HALVINGS):  # a whole step can overshoot where scores lie far apart
            lower = cross_entropy(at + step)
            if lower < value:
                break
            step = step / 2
        else:
            break
        at, value = at + step, lower
    return float(at[0]), float(at[1])


def _middle_and_spread(target: np.ndarray, nontarget: np.ndarray) -> tuple[float, float]:
    """For numbers of ordinary size whatever the scores' unit; both classes count alike."""
    centre = (target.mean() + nontarget.mean()) / 2
    square = (np.mean((target - centre) ** 2) + np.mean((nontarget - centre) ** 2)) / 2
    return float(centre), float(np.sqrt(square))


def _two_classes(scores: np.ndarray, is_target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, is_target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    if scores.ndim != 1 or scores.shape != is_target.shape:
        raise ValueError(f"{scores.shape} scores and {is_target.shape} labels; want one label a score")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    for name, there in (("target", is_target.any()), ("nontarget", not is_target.all())):
        if not there:
            raise ValueError(f"no {name} trials: want both classes")
    return scores[is_target], scores[~is_target]


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The log-likelihood ratio at or above which accepting costs less: log of c_fa (1 - p_target) / (c_miss p_target).

    Raises:
        ValueError: the operating point is impossible.
    """
    weight_miss, weight_fa = dcf_weights(p_target, c_miss, c_fa)
    return math.log(weight_fa / weight_miss)


def compute_actual_dcf(scores: np.ndarray, is_target: np.ndarray, threshold: float, p_target: float,
                       c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Detection cost at one threshold that was fixed beforehand, normalised as minDCF is.

    Args:
        scores: (num_trials,) in the threshold's unit; a trial is accepted when its score >= threshold.
        is_target: (num_trials,) bool.

    Returns:
        0 or more; above 1 the decisions are worse than those that need no recording.

    Raises:
        ValueError: one class is empty, a score is not finite, or the operating point is impossible.
    """
    weight_miss, weight_fa = dcf_weights(p_target, c_miss, c_fa)
    target, nontarget = _two_classes(scores, is_target)
    return float(weight_miss * np.mean(target < threshold) + weight_fa * np.mean(nontarget >= threshold))


def compute_cllr(llr: np.ndarray, is_target: np.ndarray) -> float:
    """Cost of log-likelihood ratios: what is lost, in bits, to someone who takes them at their word.

    Args:
        llr: (num_trials,) natural logarithm.
        is_target: (num_trials,) bool.

    Returns:
        0 for perfect ratios, 1 for those that say nothing (all 0), more for misleading ones; no upper bound.
        The formula is (2) of Brummer and du Preez 2006: the mean of log2(1 + exp(-llr)) over targets and that
        of log2(1 + exp(llr)) over nontargets, halved.

    Raises:
        ValueError: one class is empty, or a ratio is not finite.
    """
    target, nontarget = _two_classes(llr, is_target)
    nats = np.logaddexp(0.0, -target).mean() + np.logaddexp(0.0, nontarget).mean()
    return float(nats / (2 * math.log(2)))


def min_cllr_of_det(det: Det) -> float:
    """The least Cllr that any non-decreasing map of the scores reaches, in [0, 1].

    The best map is that of the pool-adjacent-violators algorithm: one ratio for each edge of the DET curve's
    lower convex hull, the logarithm of the edge's slope (Brummer and de Villiers, arXiv:1304.2865, section 4).
    """
    hull = _lower_hull(det)
    d_miss, d_fa = np.diff(hull[:, 1]), -np.diff(hull[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        of_targets = np.where(d_miss > 0, d_miss * np.log2(1 + d_fa / d_miss), 0.0)
        of_nontargets = np.where(d_fa > 0, d_fa * np.log2(1 + d_miss / d_fa), 0.0)
    return float((of_targets.sum() + of_nontargets.sum()) / 2)


def _lower_hull(det: Det) -> np.ndarray:
    """(num_vertices, 2) p_fa descending, p_miss: the curve's corners without those above a chord."""
    # Only where p_miss is about to grow can there be a corner that juts out; the last point closes the curve.
    is_corner = np.append(np.diff(det.p_miss) > 0, True)
    is_corner[0] = True
    points = np.column_stack([det.p_fa[is_corner], det.p_miss[is_corner]])
    hull: list[tuple[float, float]] = []
    for x, y in points.tolist():
        while len(hull) >= 2 and _is_above(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return np.array(hull)


def _is_above(before: tuple[float, float], corner: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether a corner lies on or above the chord of its neighbours; p_fa falls from one to the next."""
    return ((before[0] - corner[0]) * (after[1] - before[1])
            <= (corner[1] - before[1]) * (before[0] - after[0]))
