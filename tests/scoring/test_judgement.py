"""What a cosine says to a model with a threshold, a calibration, or neither."""

import pytest

from speakerkit.scoring.judgement import Judgement, in_words, judge


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


# 10 * 0.6 - 5 = 1: e to the 1st to 1. Weak is less than 3 to 1, or by the cosine alone a tenth of the way up.
@pytest.mark.parametrize("cosine, threshold, calibration, words", [
    (0.8, 0.5, None, "probably the same speaker: the cosine is 0.300 above the threshold"),
    (0.2, 0.5, None, "probably different speakers: the cosine is 0.300 below the threshold"),
    (0.54, 0.5, None, "can't say, it could be either: the cosine is 0.040 above the threshold"),
    (0.46, 0.5, None, "can't say, it could be either: the cosine is 0.040 below the threshold"),
    (0.6, 0.5, (10, -5), "can't say, it could be either: 2.72 times as likely from one speaker as from two, "
                         "the cosine is 0.100 above the threshold"),
    (0.7, 0.5, (10, -5), "probably the same speaker: 7.39 times as likely from one speaker as from two, "
                         "the cosine is 0.200 above the threshold"),
    (-0.3, 0.5, (10, -5), "probably different speakers: 2,981 times as likely from two speakers as from one, "
                          "the cosine is 0.800 below the threshold"),
    (0.9, 0.5, (100, -50), "probably the same speaker: over 1,000,000 times as likely from one speaker as from two, "
                           "the cosine is 0.400 above the threshold"),
    (0.7, None, (10, -5), "7.39 times as likely from one speaker as from two"),
    (0.7, None, None, "no decision: the model has no threshold"),
])
def test_answers_in_words(cosine, threshold, calibration, words):
    facts = None if calibration is None else dict(zip(("scale", "offset"), calibration, strict=True))
    assert in_words(judge(cosine, threshold, facts)) == words
