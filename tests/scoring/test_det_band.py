"""The interval around a DET curve: its replicates against lists that repeat trials, and what it says where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring import bootstrap
from speakerkit.scoring.bootstrap import corners_of_all, count_by_speaker
from speakerkit.scoring.det_band import confidence_band, misses_at
from speakerkit.scoring.metrics import compute_det, compute_eer

RATES = np.array([0.0, 0.001, 0.01, 0.1, 1 / 3, 0.5, 0.99, 1.0])


def plain_misses(target: np.ndarray, nontarget: np.ndarray, p_fa: float) -> float:
    """The least p_miss among operating points with that p_fa; else on the line between the two around it."""
    det = compute_det(target, nontarget)
    after = int(np.argmax(det.p_fa <= p_fa))  # p_fa descends to 0
    if det.p_fa[after] == p_fa:
        return float(det.p_miss[after])
    share = (det.p_fa[after - 1] - p_fa) / (det.p_fa[after - 1] - det.p_fa[after])
    return float(det.p_miss[after - 1] + share * (det.p_miss[after] - det.p_miss[after - 1]))


tied_trials = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-3, 3)), min_size=2, max_size=40)


@settings(max_examples=200, deadline=None)
@given(tied_trials, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_replicates_are_those_of_repeated_trials(rows, times):
    enrol, test, scores = np.array(rows).T
    scores, is_target, times = scores.astype(float), enrol == test, np.array(times)
    counts = np.where(is_target, times[enrol], times[enrol] * times[test])
    target, nontarget = (np.repeat(scores[kind], counts[kind]) for kind in (is_target, ~is_target))
    if not (len(target) and len(nontarget)):
        return
    counted = count_by_speaker(scores, is_target, enrol, test)
    drawn = np.append(times, np.zeros(4, dtype=int))[:counted.num_speakers]
    corners = next(bootstrap.replicate_corners(counted, drawn[None, :]))
    found = misses_at(corners, RATES)[0][:, 0]
    np.testing.assert_allclose(found, [plain_misses(target, nontarget, rate) for rate in RATES], atol=1e-12)


def crossed(num_speakers: int, num_tests: int, seed: int):
    """Every enrolment against every speaker's tests, with effects of speakers."""
    generator = np.random.default_rng(seed)
    enrol = np.repeat(np.arange(num_speakers), num_speakers * num_tests)
    test = np.tile(np.repeat(np.arange(num_speakers), num_tests), num_speakers)
    effects = generator.normal(0, 0.4, (2, num_speakers))
    scores = 2.5 * (enrol == test) + effects[0, enrol] + effects[1, test] + generator.normal(0, 1, len(enrol))
    return scores, enrol == test, enrol, test


def test_a_band_holds_its_curve_and_narrows_with_more_speakers():
    rates = np.array([0.01, 0.05, 0.1, 0.2])
    widths = []
    for num_speakers in (20, 80):
        trials = crossed(num_speakers, 20, seed=1)
        counted = count_by_speaker(*trials)
        low, high = confidence_band(counted, rates, 100, np.random.default_rng(1))
        curve = misses_at(corners_of_all(counted), rates)[0][:, 0]
        assert np.all(low < curve)
        assert np.all(curve < high)
        assert np.all(np.diff(curve) < 0)
        widths.append(high - low)
        again = confidence_band(counted, rates, 100, np.random.default_rng(1))
        np.testing.assert_array_equal(again, (low, high))
    assert np.all(widths[1] < 0.75 * widths[0])  # half as wide, give or take the draws


def test_where_the_curve_meets_the_eer_the_band_is_that_of_misses():
    """At p_fa = EER the misses are the EER, and their interval is wider: p_fa is held, not allowed to give way."""
    trials = crossed(40, 4, seed=2)
    counted = count_by_speaker(*trials)
    eer = compute_eer(trials[0][trials[1]], trials[0][~trials[1]])[0]
    assert misses_at(corners_of_all(counted), np.array([eer]))[0][0, 0] == pytest.approx(eer, abs=0.01)
    from speakerkit.scoring.intervals import confidence_intervals

    low, high = confidence_band(counted, np.array([eer]), 200, np.random.default_rng(1))
    interval, = confidence_intervals(counted, [None], 200, np.random.default_rng(1))
    assert high[0] - low[0] > interval.high - interval.low


def test_no_interval_where_nothing_or_all_is_missed():
    scores, is_target, enrol, test = crossed(12, 3, seed=3)
    scores = np.where(is_target, scores + 100, scores)  # separated
    low, high = confidence_band(count_by_speaker(scores, is_target, enrol, test), np.array([0.0, 0.5]), 30,
                                np.random.default_rng(1))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    scores = np.where(is_target, scores - 200, scores)  # and the other way round: p_fa 0.5 misses all
    low, _ = confidence_band(count_by_speaker(scores, is_target, enrol, test), np.array([0.5]), 30,
                             np.random.default_rng(1))
    assert np.isnan(low).all()


def test_no_interval_on_a_handful_of_errors():
    """48 targets and 528 nontargets: ten misses are a p_miss of 0.21, ten false alarms a p_fa of 0.0189."""
    counted = count_by_speaker(*crossed(12, 4, seed=5))
    rates = np.array([0.006, 0.02, 0.05])
    misses = misses_at(corners_of_all(counted), rates)[0][:, 0]
    assert misses[1] > 0.21 > misses[2]
    for ends in confidence_band(counted, rates, 30, np.random.default_rng(1)):
        assert np.isnan(ends).tolist() == [True, False, True]


@pytest.mark.parametrize("num_speakers, num_replicates, told", [
    (9, 100, "9 speakers have target trials; want at least 10"), (12, 19, "19 replicates; want at least 20")])
def test_what_is_refused(num_speakers, num_replicates, told):
    with pytest.raises(ValueError, match=told):
        confidence_band(count_by_speaker(*crossed(num_speakers, 2, seed=4)), RATES, num_replicates,
                        np.random.default_rng(1))
