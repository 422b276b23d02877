"""Confidence intervals and the test of two systems. The full measurement is tests/benchmarks/measure_coverage.py."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from speakerkit.scoring.bootstrap import count_by_speaker, draw_speakers, replicate_statistics
from speakerkit.scoring.intervals import compare_systems, confidence_intervals
from speakerkit.scoring.metrics import compute_eer, compute_min_dcf

STATISTICS = [None, (0.05, 1.0, 1.0)]


@pytest.fixture(scope="module")
def coverage():
    """tests/benchmarks/measure_coverage.py as a module."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "measure_coverage.py"
    spec = importlib.util.spec_from_file_location("measure_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def draw(coverage):
    """``draw(seed, effects, ...)``: scores, labels and both sides' speakers of one simulated list."""

    def draw_one(seed, effects="usual", num_speakers=30, num_tests=4, **design):
        generator = np.random.default_rng(seed)
        enrol, test, utterance = coverage.Design(num_speakers, num_tests, **design).draw(generator)
        scores = coverage.draw_scores(coverage.EFFECTS[effects], enrol, test, utterance, generator)
        return scores, enrol == test, enrol, test

    return draw_one


def test_the_simulation_knows_its_truth(coverage, draw):
    """A list so large that its own rates are nearly the population's."""
    scores, is_target, *_ = draw(1, "independent", 120, 20)
    truth = coverage.EFFECTS["independent"].truth()
    assert compute_eer(scores[is_target], scores[~is_target])[0] == pytest.approx(truth[0], abs=0.01)
    for point, true in zip(coverage.STATISTICS[1:], truth[1:], strict=True):
        assert compute_min_dcf(scores[is_target], scores[~is_target], *point)[0] == pytest.approx(true, abs=0.03)


@pytest.mark.parametrize("effects, num_tests", [("usual", 8), ("strong", 5)])
def test_intervals_hold_the_truth(coverage, effects, num_tests):
    """100 draws leave the share unsure by 2.2 % (one standard deviation); none may lie four of them below 95 %."""
    held, _ = coverage.measure_coverage(coverage.EFFECTS[effects], coverage.Design(40, num_tests), 100, 60)
    assert (held >= 0.87).all()
    assert held.mean() <= 0.99


def test_intervals_of_trials_alone_would_not(coverage, draw):
    """What drawing speakers is for: with effects of speakers, trials hang together and the normal formula is wrong."""
    held, true = 0, coverage.EFFECTS["strong"].truth()[0]
    for seed in range(40):
        scores, is_target, *_ = draw(seed, "strong", 40, 40)
        eer = compute_eer(scores[is_target], scores[~is_target])[0]
        held += abs(eer - true) <= 1.96 * np.sqrt(eer * (1 - eer) / np.count_nonzero(is_target))
    assert held < 30  # 38 would be 95 %


def test_equal_systems_are_rarely_told_apart(coverage):
    found = coverage.measure_false_alarms(coverage.EFFECTS["usual"], coverage.Design(30, 4), 80, 60)
    assert (found <= 0.125).all()  # 5 %, and three standard deviations of 80 draws
    assert found.any()


def test_value_order_and_width(draw):
    trials = draw(1)
    counted = count_by_speaker(*trials)
    eer, dcf = confidence_intervals(counted, STATISTICS, 200, np.random.default_rng(1))
    assert eer.value == compute_eer(trials[0][trials[1]], trials[0][~trials[1]])[0]
    assert dcf.value == pytest.approx(compute_min_dcf(trials[0][trials[1]], trials[0][~trials[1]], 0.05)[0], abs=1e-12)
    assert 0 < eer.low < eer.value < eer.high < 1
    assert 0 < dcf.low < dcf.high < 1
    wider = confidence_intervals(counted, STATISTICS, 200, np.random.default_rng(1), level=0.99)[0]
    assert wider.low < eer.low and wider.high > eer.high


def test_the_generator_decides(draw):
    counted = count_by_speaker(*draw(2))
    first, again, other = (confidence_intervals(counted, STATISTICS, 50, np.random.default_rng(seed))
                           for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert [one.value for one in first] == [one.value for one in other]


def test_order_of_trials_and_increasing_maps_change_nothing(draw):
    scores, *rest = draw(3)
    order = np.random.default_rng(1).permutation(len(scores))
    expected = confidence_intervals(count_by_speaker(scores, *rest), STATISTICS, 50, np.random.default_rng(1))
    for changed in ((np.exp(scores), *rest), tuple(part[order] for part in (scores, *rest))):
        assert confidence_intervals(count_by_speaker(*changed), STATISTICS, 50, np.random.default_rng(1)) == expected


def test_a_difference_of_a_system_from_itself(draw):
    counted = count_by_speaker(*draw(4))
    for found in compare_systems(counted, counted, STATISTICS, 50, np.random.default_rng(1)):
        assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_better_system_is_told_apart_by_pairs_that_intervals_can_not(draw):
    scores, is_target, *speakers = draw(5, num_speakers=40, num_tests=10)
    better = scores + 0.5 * is_target  # the same scores but for targets that lie a little higher
    a, b = (count_by_speaker(one, is_target, *speakers) for one in (scores, better))
    of_a, of_b = (confidence_intervals(one, STATISTICS, 200, np.random.default_rng(1)) for one in (a, b))
    found = compare_systems(a, b, STATISTICS, 200, np.random.default_rng(1))
    assert of_a[0].low < of_b[0].high  # the intervals overlap
    for before, after, difference in zip(of_a, of_b, found, strict=True):
        assert difference.value == after.value - before.value < 0
        assert difference.high < 0 and difference.p_value < 0.05
    turned = compare_systems(b, a, STATISTICS, 200, np.random.default_rng(1))
    assert [one.value for one in turned] == [-one.value for one in found]
    assert [one.p_value for one in turned] == pytest.approx([one.p_value for one in found])


def test_the_standard_error_of_a_difference_is_that_of_its_replicates(draw):
    scores, is_target, *speakers = draw(6)
    other = scores + 0.5 * np.random.default_rng(1).standard_normal(len(scores))
    a, b = (count_by_speaker(one, is_target, *speakers) for one in (scores, other))
    drawn = draw_speakers(a, 300, np.random.default_rng(7))
    spread = np.std(replicate_statistics(b, drawn, [None]) - replicate_statistics(a, drawn, [None]), ddof=1)
    found = compare_systems(a, b, [None], 300, np.random.default_rng(7))[0]
    error = (found.high - found.low) / 2 / 2.0452  # Student's t, 29 degrees of freedom
    assert np.sqrt(2 / 3) * spread <= error <= 30 / 29 * spread * 1.0001


def separated(num_speakers):
    enrol, test = np.divmod(np.arange(num_speakers**2), num_speakers)
    return (enrol == test).astype(float), enrol == test, enrol, test


def test_no_interval_is_made_up(draw):
    found = confidence_intervals(count_by_speaker(*separated(12)), STATISTICS, 50, np.random.default_rng(1))
    for one in found:
        assert (one.value, one.low, one.high) == (0, None, None)
        assert one.doubt == "it is 0: drawing speakers again can't tell how far off it is"
    scores, *rest = separated(12)
    constant = confidence_intervals(count_by_speaker(0 * scores, *rest), STATISTICS, 50, np.random.default_rng(1))
    assert [(one.value, one.low) for one in constant] == [(0.5, None), (1, None)]
    assert constant[0].doubt == "no draw of speakers changes it"


def test_doubts_are_told(draw):
    few_speakers = confidence_intervals(count_by_speaker(*draw(8)), STATISTICS, 50, np.random.default_rng(1))
    assert {one.doubt for one in few_speakers} == {"only 30 speakers have target trials: it is likely too narrow"}
    counted = count_by_speaker(*draw(8, num_speakers=50, num_tests=10))
    eer, usual, rare = confidence_intervals(counted, [None, (0.05, 1, 1), (0.001, 1, 1)], 50, np.random.default_rng(1))
    assert eer.doubt is usual.doubt is None
    assert rare.doubt.startswith("it rests on few false alarms (")


@pytest.mark.parametrize("num_speakers, num_replicates, level, message", [
    (9, 50, 0.95, "9 speakers have target trials; want at least 10"),
    (12, 19, 0.95, "19 replicates; want at least 20"),
    (12, 50, 1.0, "level is 1.0; want a probability up to 0.999"),
])
def test_refusals(draw, num_speakers, num_replicates, level, message):
    counted = count_by_speaker(*draw(9, num_speakers=num_speakers))
    with pytest.raises(ValueError, match=message):
        confidence_intervals(counted, STATISTICS, num_replicates, np.random.default_rng(1), level)
    with pytest.raises(ValueError, match=message):
        compare_systems(counted, counted, STATISTICS, num_replicates, np.random.default_rng(1), level)


def test_systems_of_different_trials_are_not_compared(draw):
    one = draw(10)
    a, b = count_by_speaker(*one), count_by_speaker(*(part[1:] for part in one))
    with pytest.raises(ValueError, match="different trials"):
        compare_systems(a, b, STATISTICS, 50, np.random.default_rng(1))
