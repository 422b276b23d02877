"""What a cosine says: above or below a threshold, how far, and how much evidence it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from speakerkit.scoring.calibration import Calibration

# Evidence that decides nothing: less than 3 to 1 by the calibration; without one a rule of thumb, less than a
# tenth of the way from the threshold to equal directions.
WEAK_LLR = math.log(3.0)
WEAK_SHARE = 0.1
MOST_ODDS = 1e6  # no list of trials is long enough to back more


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


def in_words(judgement: Judgement) -> str:
    """The answer as a sentence; it says so where the evidence is too weak for one."""
    cosine, threshold, llr = judgement.cosine, judgement.threshold, judgement.llr
    facts = []
    if llr is not None:
        odds = math.exp(min(abs(llr), math.log(MOST_ODDS)))
        more = "over " if abs(llr) > math.log(MOST_ODDS) else ""
        one, other = ("one speaker", "two") if llr >= 0 else ("two speakers", "one")
        facts.append(f"{more}{odds:,.3g} times as likely from {one} as from {other}" if odds < 1000 else
                     f"{more}{odds:,.0f} times as likely from {one} as from {other}")
    if threshold is None:
        return facts[0] if facts else "no decision: the model has no threshold"
    side = "above" if cosine >= threshold else "below"
    facts.append(f"the cosine is {abs(cosine - threshold):.3f} {side} the threshold")
    is_weak = abs(llr) < WEAK_LLR if llr is not None else abs(cosine - threshold) < WEAK_SHARE * (1.0 - threshold)
    if is_weak:
        verdict = "can't say, it could be either"
    else:
        verdict = "probably the same speaker" if judgement.decision == "same" else "probably different speakers"
    return f"{verdict}: {', '.join(facts)}"
