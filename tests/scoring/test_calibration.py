"""Log-likelihood ratios from scores, and what measures them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.scoring.calibration import (
    Calibration,
    bayes_threshold,
    compute_actual_dcf,
    compute_cllr,
    fit_calibration,
    min_cllr_of_det,
)
from speakerkit.scoring.metrics import compute_det, compute_min_dcf

few_values = st.lists(st.integers(-5, 5), min_size=1, max_size=30).map(lambda x: np.array(x, dtype=float))  # many ties


def join(target, nontarget):
    """Scores and labels of both classes."""
    return (np.concatenate([target, nontarget]).astype(float),
            np.repeat([True, False], [len(target), len(nontarget)]))


def naive_min_cllr(target, nontarget):
    """Pool adjacent violators, a merge at a time, then Cllr of the pools' ratios."""
    pools = [[np.mean(target == value), np.mean(nontarget == value)] for value in np.unique([*target, *nontarget])]
    while True:
        shares = [t / (t + n) for t, n in pools]
        wrong = [k for k in range(len(pools) - 1) if shares[k] >= shares[k + 1]]
        if not wrong:
            break
        k = wrong[0]
        pools[k:k + 2] = [[pools[k][0] + pools[k + 1][0], pools[k][1] + pools[k + 1][1]]]
    return sum((t * math.log2(1 + n / t) if t else 0) + (n * math.log2(1 + t / n) if n else 0) for t, n in pools) / 2


def test_cllr_by_hand():
    labels = np.array([True, False])
    assert compute_cllr(np.zeros(2), labels) == pytest.approx(1, abs=1e-12)  # log2(1 + 1) of either class
    assert compute_cllr(np.array([800.0, -800.0]), labels) == 0
    # odds of 3 for the target, of 3 against the nontarget: log2(1 + 1/3) of either class
    assert compute_cllr(np.log([3, 1 / 3]), labels) == pytest.approx(math.log2(4 / 3), abs=1e-12)
    assert compute_cllr(np.array([-1000.0, 0.0]), labels) == pytest.approx((1000 / math.log(2) + 1) / 2)


@pytest.mark.parametrize("target, nontarget, expected", [
    ([4, 5, 6], [1, 2, 3], 0.0),
    ([1, 2, 3], [4, 5, 6], 1.0),        # one pool of everything
    ([0, 0], [0, 0, 0], 1.0),
    # n, then n and t alike, then t: the middle pool holds half of either class at a ratio of 1
    ([1, 2], [0, 1], 0.5),
])
def test_min_cllr_by_hand(target, nontarget, expected):
    assert min_cllr_of_det(compute_det(np.array(target), np.array(nontarget))) == pytest.approx(expected, abs=1e-12)


@given(few_values, few_values)
def test_min_cllr_is_that_of_pooled_adjacent_violators(target, nontarget):
    fast = min_cllr_of_det(compute_det(target, nontarget))
    assert fast == pytest.approx(naive_min_cllr(target, nontarget), abs=1e-12)
    assert 0 <= fast <= 1 + 1e-12


def test_two_normal_classes_have_a_ratio_that_is_known():
    """Of N(1, s) against N(-1, s) the true ratio is 2 x / s**2, whatever unit the scores are then told in."""
    generator = np.random.default_rng(1)
    target, nontarget = generator.normal(1, 1.5, 100_000), generator.normal(-1, 1.5, 400_000)
    for p_target in (0.5, 0.05):
        for unit, zero in ((1.0, 0.0), (0.01, 0.5), (1e6, -1e9)):
            scores, labels = join(target * unit + zero, nontarget * unit + zero)
            fit = fit_calibration(scores, labels, p_target)
            assert fit.scale * unit == pytest.approx(2 / 1.5**2, rel=0.02)  # four times what 100,000 trials leave open
            assert fit.to_llr(zero) == pytest.approx(0, abs=0.02)


def test_fit_is_where_the_slope_of_the_cross_entropy_is_zero():
    generator = np.random.default_rng(2)
    target, nontarget = np.round(generator.normal(0.6, 0.2, 60), 1), np.round(generator.normal(0.2, 0.2, 500), 1)
    scores, labels = join(target, nontarget)
    for p_target in (0.5, 0.01, 0.99):
        fit, logit = fit_calibration(scores, labels, p_target), math.log(p_target / (1 - p_target))
        p_wrong = [1 / (1 + np.exp(sign * (fit.to_llr(part) + logit))) for sign, part in ((1, target), (-1, nontarget))]
        for power in (0, 1):  # the derivatives by offset and by scale
            pulls = [p_target * np.mean(p_wrong[0] * target**power), (1 - p_target) * np.mean(p_wrong[1]
                                                                                              * nontarget**power)]
            assert pulls[0] == pytest.approx(pulls[1], rel=1e-6)


def test_far_outliers_and_few_trials():
    for target, nontarget in (([1e9, 0.2, 0.1], [0.15, -1e9]), ([1, 3], [0, 2]), ([1e-30, 3e-30], [0, 2e-30])):
        scores, labels = join(np.array(target), np.array(nontarget))
        fit = fit_calibration(scores, labels)
        assert compute_cllr(fit.to_llr(scores), labels) < 1


def test_calibrated_ratios_are_no_worse_than_any_other_map_of_their_kind():
    generator = np.random.default_rng(3)
    scores, labels = join(generator.normal(1, 1, 300), generator.normal(-1, 1, 900))
    fit = fit_calibration(scores, labels)
    best = compute_cllr(fit.to_llr(scores), labels)
    for scale, offset in ((1.01, 0), (0.99, 0), (1, 0.01), (1, -0.01)):
        assert compute_cllr(fit.scale * scale * scores + fit.offset + offset, labels) > best
    det = compute_det(scores[labels], scores[~labels])
    assert min_cllr_of_det(det) <= best


def test_bayes_threshold():
    assert bayes_threshold(0.5) == 0
    assert bayes_threshold(0.01) == pytest.approx(math.log(99))
    assert bayes_threshold(0.01, 10, 1) == pytest.approx(math.log(9.9))


def test_actual_dcf_by_hand():
    scores, labels = join(np.array([3, 5, 6]), np.array([1, 2, 4]))
    # At 4: 1 of 3 targets missed, 1 of 3 nontargets accepted. At p 0.01: (0.01 / 3 + 0.99 / 3) / 0.01.
    assert compute_actual_dcf(scores, labels, 4.0, 0.01) == pytest.approx(100 / 3)
    assert compute_actual_dcf(scores, labels, 4.5, 0.01) == pytest.approx(1 / 3)
    assert compute_actual_dcf(scores, labels, math.inf, 0.01) == 1
    assert compute_actual_dcf(scores, labels, 1.0, 0.5, 1, 10) == pytest.approx(10)  # accepting all costs 10 misses


@given(few_values, few_values, st.floats(0.001, 0.999))
def test_min_dcf_is_the_actual_one_at_its_threshold(target, nontarget, p_target):
    scores, labels = join(target, nontarget)
    min_dcf, threshold = compute_min_dcf(target, nontarget, p_target)
    assert compute_actual_dcf(scores, labels, threshold, p_target) == pytest.approx(min_dcf, rel=1e-12)


def test_dictionary_and_back():
    fit = Calibration(7.5, -2.0)
    assert fit.to_dict() == {"scale": 7.5, "offset": -2.0}
    assert Calibration.from_dict({"scale": 7.5, "offset": -2, "cllr": 0.2, "trials": "a list"}) == fit
    assert fit.to_llr(0.4) == 1.0 and isinstance(fit.to_llr(0.4), float)
    np.testing.assert_array_equal(fit.to_llr(np.array([0.4, 0.0], dtype=np.float32).astype(np.float64).round(1)),
                                  [1.0, -2.0])


@pytest.mark.parametrize("facts, message", [
    ({"scale": 1.0}, "calibration: 'offset' is missing; want scale and offset"),
    ({"scale": "1", "offset": 0}, "calibration: scale is '1'; want a finite number"),
    ({"scale": True, "offset": 0}, "calibration: scale is True; want a finite number"),
    ({"scale": 1, "offset": math.nan}, "calibration: offset is nan; want a finite number"),
    ({"scale": -1.0, "offset": 0}, "calibration: scale is -1.0; want a number above 0"),
])
def test_dictionaries_that_are_no_calibration(facts, message):
    with pytest.raises(ValueError, match=message):
        Calibration.from_dict(facts)


@pytest.mark.parametrize("target, nontarget, p_target, message", [
    ([], [1], 0.5, "no target trials: want both classes"),
    ([1], [], 0.5, "no nontarget trials: want both classes"),
    ([1, np.nan], [1], 0.5, "a score is not finite"),
    ([1, 2], [0], 1.0, "p_target is 1.0; want a probability between 0 and 1"),
    ([2, 3], [0, 1], 0.5, "don't overlap"),
    ([1, 2], [0, 1], 0.5, "don't overlap"),     # they touch: still no steepest scale
    ([0, 1], [1, 2], 0.5, "higher scores don't mean more alike"),
    ([0, 2], [1, 3], 0.5, "higher scores don't mean more alike"),
    ([1, 1], [1, 1], 0.5, "every score is the same"),
])
def test_no_calibration_where_there_is_none(target, nontarget, p_target, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(*join(np.array(target), np.array(nontarget)), p_target)
