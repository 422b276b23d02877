"""What other toolkits' own scripts print for scored trials, so that published numbers can be checked from score files.

Sources: FunASR 8552131d egs/cnceleb/resnet34 (sid/compute_eer.py, sid/compute_min_dcf.py); WeSpeaker dfa7419
wespeaker/bin/compute_metrics.py; 3D-Speaker 09e7806 speakerlab/bin/compute_score_metrics.py; ESPnet
egs2/TEMPLATE/asr1/pyscripts/utils/calculate_eer_mindcf.py and espnet2/utils/eer.py; SpeechBrain 1.1.2
recipes/VoxCeleb/SpeakerRec/speaker_verification_cosine.py; Kaldi f400766 src/ivectorbin/compute-eer.cc and
egs/sre08/v1/sid/compute_min_dcf.py as egs/voxceleb/v2/run.sh calls them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from speakerkit.scoring import peer_metrics as peer


@dataclass(frozen=True)
class Printed:
    """What a script prints, and the same numbers with all their digits.

    Attributes:
        text: its lines; for ESPnet those of the file it writes.
        metrics: under the names of `compute_metrics` where the meaning is the same.
    """
    text: str
    metrics: dict[str, float] = field(default_factory=dict)


Point = tuple[float, float, float]  # p_target, c_miss, c_fa


@dataclass(frozen=True)
class Convention:
    """One toolkit's script.

    Attributes:
        point: its operating point, where none is given.
        takes_point: whether the script has options for another one.
        compute: scores, is_target, point, name of the score file -> what is printed.
    """
    point: Point
    takes_point: bool
    compute: Callable[[np.ndarray, np.ndarray, Point, str], Printed]


def print_as(convention: str, scores: np.ndarray, is_target: np.ndarray, point: Point | None = None,
             scores_name: str = "scores") -> Printed:
    """What a toolkit's script prints for these trials.

    Args:
        convention: a key of CONVENTIONS.
        scores: (num_trials,) in the order of the score file, on which some results depend where scores tie.
        is_target: (num_trials,) bool.
        point: p_target, c_miss, c_fa; None: what the toolkit uses.
        scores_name: the score file's, which some scripts print.

    Raises:
        ValueError: trials of one class only, scores that are not finite, scores on which the script fails, or a
            point for a script that has its own built in.
    """
    chosen = CONVENTIONS[convention]
    scores, is_target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    if scores.shape != is_target.shape or not 0 < np.count_nonzero(is_target) < len(scores):
        raise ValueError(f"{scores.shape} scores and {is_target.shape} labels; want one a trial, of both classes")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    if point is not None and not chosen.takes_point:
        raise ValueError(f"the script of {convention} has its operating point built in")
    return chosen.compute(scores, is_target, point or chosen.point, scores_name)


def _named(eer: float, eer_threshold: float | None, min_dcf: float, min_dcf_threshold: float | None,
           point: Point) -> dict[str, float]:
    named = {"eer_percent": 100 * eer, "eer_threshold": eer_threshold, "min_dcf": min_dcf,
             "min_dcf_threshold": min_dcf_threshold,
             "dcf_p_target": point[0], "dcf_c_miss": point[1], "dcf_c_fa": point[2]}
    return {name: value for name, value in named.items() if value is not None}


def _cost_text(cost: float) -> str:
    """A cost as Python scripts print it: an integer where that is the option's default, else a float."""
    return "1" if cost == 1 else str(float(cost))


def _reference(scores: np.ndarray, is_target: np.ndarray, point: Point, scores_name: str) -> Printed:
    p_fa, p_miss, eer_threshold = peer.nearest_roc_corner(scores, is_target)
    eer = (p_fa + p_miss) / 2
    min_dcf, threshold = peer.min_cost(peer.rates_in_sorted_order(scores, is_target, stable=True), *point)
    text = (f"EER is {100 * eer:.4f} at threshold {eer_threshold:.4f}\n"
            f"minDCF is {min_dcf:.4f} at threshold {threshold:.4f} (p-target={point[0]}, "
            f"c-miss={_cost_text(point[1])}, c-fa={_cost_text(point[2])})\n")
    return Printed(text, _named(eer, eer_threshold, min_dcf, threshold, point))


def _sadjadi(scores: np.ndarray, is_target: np.ndarray, point: Point) -> dict[str, float]:
    rates = peer.rates_in_sorted_order(scores, is_target, stable=False)
    return _named(*peer.interpolated_eer(rates), peer.min_cost(rates, *point)[0], None, point)


def _wespeaker(scores: np.ndarray, is_target: np.ndarray, point: Point, scores_name: str) -> Printed:
    metrics = _sadjadi(scores, is_target, point)
    text = (f"---- {scores_name} -----\n"
            f"EER = {metrics['eer_percent']:.3f}\n"
            f"minDCF (p_target:{point[0]} c_miss:{point[1]:g} c_fa:{point[2]:g}) = {metrics['min_dcf']:.3f}\n")
    return Printed(text, metrics)


def _3dspeaker(scores: np.ndarray, is_target: np.ndarray, point: Point, scores_name: str) -> Printed:
    metrics = _sadjadi(scores, is_target, point)
    text = (f"Results of {scores_name.removesuffix('.score')} is:\n"
            f"EER = {metrics['eer_percent']:.4f}\n"
            f"minDCF (p_target:{point[0]} c_miss:{_cost_text(point[1])} c_fa:{_cost_text(point[2])}) = "
            f"{metrics['min_dcf']:.4f}\n")
    return Printed(text, metrics)


def _espnet(scores: np.ndarray, is_target: np.ndarray, point: Point, scores_name: str) -> Printed:
    p_fa, p_miss, _ = peer.nearest_roc_corner(scores, is_target)
    min_dcf, threshold = peer.min_cost(peer.rates_in_sorted_order(scores, is_target, stable=True), *point)
    metrics = _named(max(p_fa, p_miss), None, min_dcf, threshold, point)
    target, nontarget = scores[is_target], scores[~is_target]
    spread = float(np.std(nontarget))  # the script prints it as the mean too
    text = (f"trg_mean: {float(np.mean(target))}, trg_std: {float(np.std(target))}\n"
            f"nontrg_mean: {spread}, nontrg_std: {spread}\n"
            f"eer: {max(p_fa, p_miss) * 100}, mindcf: {min_dcf}\n")
    return Printed(text, metrics)


def _speechbrain(scores: np.ndarray, is_target: np.ndarray, point: Point, scores_name: str) -> Printed:
    rates = peer.speechbrain_rates(scores, is_target)
    eer, eer_threshold = peer.speechbrain_eer(rates)
    cost, threshold = peer.speechbrain_min_dcf(rates, *point)
    metrics = _named(eer, eer_threshold, cost, threshold, point)
    metrics["min_dcf_unnormalised"] = metrics.pop("min_dcf")
    return Printed(f"EER(%)={eer * 100:f}\nminDCF={cost * 100:f}\n", metrics)


def _kaldi(scores: np.ndarray, is_target: np.ndarray, point: Point, scores_name: str) -> Printed:
    """A point of its own is printed alone; without one the recipes print minDCF at p-target 0.01 and 0.001."""
    eer, eer_threshold = peer.kaldi_eer(scores, is_target)
    rates = peer.rates_in_sorted_order(scores, is_target, stable=True)
    text = f"EER: {100 * eer:.4g}%\n"
    for p_target in dict.fromkeys([point[0], 0.001] if point == CONVENTIONS["kaldi"].point else [point[0]]):
        text += f"minDCF(p-target={p_target}): {peer.min_cost(rates, p_target, *point[1:])[0]:.4f}\n"
    return Printed(text, _named(eer, eer_threshold, *peer.min_cost(rates, *point), point))


CONVENTIONS: dict[str, Convention] = {
    "reference": Convention((0.01, 10.0, 1.0), True, _reference),
    "wespeaker": Convention((0.01, 1.0, 1.0), True, _wespeaker),
    "3dspeaker": Convention((0.01, 1.0, 1.0), True, _3dspeaker),
    "espnet": Convention((0.05, 1.0, 1.0), False, _espnet),
    "speechbrain": Convention((0.01, 1.0, 1.0), False, _speechbrain),
    "kaldi": Convention((0.01, 1.0, 1.0), True, _kaldi),
}
