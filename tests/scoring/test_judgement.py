"""What a cosine says to a model with a threshold, a calibration, or neither."""

import pytest

from speakerkit.scoring.judgement import Judgement, judge


# (cosine - threshold) / (1 - threshold): 0.5 above a threshold of 0.2 is 0.3 of 0.8.
@pytest.mark.parametrize("cosine, threshold, similarity, decision", [
    (0.5, 0.2, 37.5, "same"),
    (1.0, 0.2, 100.0, "same"),
    (0.2, 0.2, 0.0, "same"),        # the threshold itself accepts, as everywhere
    (0.19, 0.2, 0.0, "different"),
    (-1.0, -0.5, 0.0, "different"),
    (0.25, -0.5, 50.0, "same"),
])
def test_judgement_by_hand(cosine, threshold, similarity, decision):
    answer = judge(cosine, threshold)
    assert (answer.cosine, answer.threshold, answer.llr) == (cosine, threshold, None)
    assert answer.similarity == pytest.approx(similarity)
    assert answer.decision == decision


def test_no_threshold_no_decision():
    assert judge(0.5, None) == Judgement(cosine=0.5, similarity=None, threshold=None, decision=None, llr=None)


def test_the_log_likelihood_ratio_needs_no_threshold():
    assert judge(0.5, None, {"scale": 12.0, "offset": -5.0}).llr == pytest.approx(1.0)
    assert judge(0.25, 0.2, {"scale": 12.0, "offset": -5.0}).llr == pytest.approx(-2.0)
