"""What a cosine says: above or below a threshold, how far, and how much evidence it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from speakerkit.scoring.calibration import Calibration


@dataclass(frozen=True)
class Judgement:
    """A cosine and what a model's threshold and calibration make of it; None where the model has none."""

    cosine: float             # [-1, 1], higher is more alike
    similarity: float | None  # [0, 100], 0 at the threshold and below; no probability
    threshold: float | None   # the cosine at or above which two recordings are taken as one speaker's
    decision: str | None      # "same" or "different"
    llr: float | None         # natural log-likelihood ratio, above 0 for the same speaker


def similarity_percent(cosine: float, threshold: float) -> float:
    """0 at the threshold and below, 100 for equal directions: max(cosine - threshold, 0) / (1 - threshold) * 100.

    This is the reference system's number. It is no probability.
    """
    return max(cosine - threshold, 0.0) / (1.0 - threshold) * 100.0


def judge(cosine: float, threshold: float | None, calibration: Mapping[str, float] | None = None) -> Judgement:
    """What a cosine means to a model.

    Args:
        cosine: in [-1, 1].
        threshold: the model's, between -1 and 1.
        calibration: what the model's metadata holds of it: `scale` and `offset`, llr = scale * cosine + offset.

    Raises:
        ValueError: a calibration that isn't one (`scoring.calibration.Calibration`).
    """
    llr = None
    if calibration is not None:
        llr = Calibration.from_dict(calibration).to_llr(cosine)
    if threshold is None:
        return Judgement(cosine, None, None, None, llr)
    decision = "same" if cosine >= threshold else "different"
    return Judgement(cosine, similarity_percent(cosine, threshold), threshold, decision, llr)
