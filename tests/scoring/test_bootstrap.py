"""Replicates of a trial list, speaker by speaker: the fast ones are those that repeat trials."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring import bootstrap
from speakerkit.scoring.bootstrap import count_by_speaker, draw_speakers, replicate_statistics
from speakerkit.scoring.metrics import compute_eer, compute_min_dcf

POINTS = [(0.01, 1.0, 1.0), (0.05, 1.0, 1.0), (0.01, 10.0, 1.0), (0.9, 1.0, 3.0)]
STATISTICS = [None, *POINTS]


def repeat_trials(scores, is_target, enrol, test, times):
    """Scores of either class in a list where each trial stands as often as the replicate counts it."""
    counts = np.where(is_target, times[enrol], times[enrol] * times[test])
    repeated, labels = np.repeat(scores, counts), np.repeat(is_target, counts)
    return repeated[labels], repeated[~labels]


def naive_statistics(target, nontarget):
    return [compute_eer(target, nontarget)[0], *[compute_min_dcf(target, nontarget, *point)[0] for point in POINTS]]


def crossed_trials(num_speakers, num_tests, generator, decimals=None):
    """Each speaker's enrolment against every test utterance, with effects of speakers."""
    enrol, test = np.repeat(np.arange(num_speakers), num_speakers), np.tile(np.arange(num_speakers), num_speakers)
    enrol, test = np.repeat(enrol, num_tests), np.repeat(test, num_tests)
    effects = generator.normal(0, 0.5, (2, num_speakers))
    scores = 1.5 * (enrol == test) + effects[0, enrol] + effects[1, test] + generator.normal(0, 1, len(enrol))
    return (scores if decimals is None else scores.round(decimals)), enrol == test, enrol, test


@pytest.mark.parametrize("decimals", [None, 1, 0])  # 1 and 0 leave many ties
@pytest.mark.parametrize("keep", [1.0, 0.3])        # a list of all pairs, and one of some
def test_replicates_are_those_of_repeated_trials(decimals, keep):
    generator = np.random.default_rng(1)
    trials = crossed_trials(9, 3, generator, decimals)
    kept = generator.random(len(trials[0])) < keep
    trials = tuple(part[kept] for part in trials)
    counted = count_by_speaker(*trials)
    drawn = draw_speakers(counted, 40, generator)
    fast = replicate_statistics(counted, drawn, STATISTICS)
    for number, times in enumerate(drawn):
        np.testing.assert_allclose(fast[:, number], naive_statistics(*repeat_trials(*trials, times)), rtol=1e-12,
                                   atol=1e-12)


tied_trials = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-3, 3)), min_size=2, max_size=40)


@settings(max_examples=200, deadline=None)
@given(tied_trials, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_any_multiplicities_and_any_ties(rows, times):
    enrol, test, scores = np.array(rows).T
    is_target, times = enrol == test, np.array(times)
    target, nontarget = repeat_trials(scores.astype(float), is_target, enrol, test, times)
    if not (len(target) and len(nontarget)):
        return
    counted = count_by_speaker(scores.astype(float), is_target, enrol, test)
    fast = replicate_statistics(counted, times[None, :counted.num_speakers], STATISTICS)[:, 0]
    np.testing.assert_allclose(fast, naive_statistics(target, nontarget), rtol=1e-12, atol=1e-12)


def test_by_hand():
    """Speakers a, b, c = 0, 1, 2; c is drawn twice, b not at all."""
    enrol, test = np.array([0, 1, 2, 0, 2, 1, 0]), np.array([0, 1, 2, 2, 0, 0, 1])
    scores = np.array([3.0, 9.0, 1.0, 2.0, 0.0, 9.0, 9.0])
    counted = count_by_speaker(scores, enrol == test, enrol, test)
    # Targets: a at 3, c at 1 twice. Nontargets: a-c at 2 twice, c-a at 0 twice. At 2: two of three targets missed,
    # half of the nontargets accepted; just above 1 the same two are missed: EER between (0, 1/2) and (2/3, 1/2).
    eer, dcf = replicate_statistics(counted, np.array([[1, 0, 2]]), [None, (0.5, 1.0, 1.0)])[:, 0]
    assert (eer, dcf) == (pytest.approx(1 / 2), pytest.approx(1 / 2))


def test_blocks_and_precision_change_nothing(monkeypatch):
    trials = crossed_trials(12, 4, np.random.default_rng(2))
    counted = count_by_speaker(*trials)
    drawn = draw_speakers(counted, 30, np.random.default_rng(3))
    whole = replicate_statistics(counted, drawn, STATISTICS)
    monkeypatch.setattr(bootstrap, "_VALUES_AT_A_TIME", 1)
    monkeypatch.setattr(bootstrap, "_FLOAT32_WHOLE", 1)
    np.testing.assert_array_equal(replicate_statistics(counted, drawn, STATISTICS), whole)


def test_draws():
    counted = count_by_speaker(*crossed_trials(20, 1, np.random.default_rng(4)))
    drawn = draw_speakers(counted, 50, np.random.default_rng(5))
    assert drawn.shape == (50, 20) and (drawn.sum(axis=1) == 20).all() and drawn.min() == 0
    np.testing.assert_array_equal(drawn, draw_speakers(counted, 50, np.random.default_rng(5)))
    assert (drawn != draw_speakers(counted, 50, np.random.default_rng(6))).any()


def test_draws_without_a_class_are_made_again():
    """Two speakers: half of all draws are of one alone and have no nontargets."""
    counted = count_by_speaker(*crossed_trials(2, 3, np.random.default_rng(7)))
    assert (draw_speakers(counted, 100, np.random.default_rng(8)) == 1).all()


@pytest.mark.parametrize("scores, is_target, enrol, test, message", [
    ([1, 2], [True, True], [0, 1], [0, 1], "no nontarget trials"),
    ([1, 2], [False, False], [0, 1], [1, 0], "no target trials"),
    ([1, 2], [True, False], [0, 1], [1, 0], "a label says another thing than the speakers"),
    ([1, 2], [True, False], [0, 1], [0, 1], "a label says another thing than the speakers"),
    ([np.nan, 2], [True, False], [0, 1], [0, 0], "a score is not finite"),
    ([1], [True, False], [0, 1], [0, 0], "differ in number"),
])
def test_refusals(scores, is_target, enrol, test, message):
    with pytest.raises(ValueError, match=message):
        count_by_speaker(np.array(scores, dtype=float), np.array(is_target), np.array(enrol), np.array(test))
