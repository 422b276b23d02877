"""EER and minDCF: by hand, against a twin that knows no shortcuts, and by what must not change them."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring.metrics import (
    compute_det,
    compute_eer,
    compute_metrics,
    compute_min_dcf,
    decisive_det,
    eer_of_det,
    min_dcf_of_det,
)

few_values = st.lists(st.integers(-5, 5), min_size=1, max_size=30).map(lambda x: np.array(x, dtype=float))  # many ties
many_values = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30).map(lambda x: np.array(x, dtype=np.float32))
scores = st.one_of(few_values, many_values)
p_targets = st.floats(0.001, 0.999)
costs = st.floats(0.1, 10)


def naive_points(target, nontarget) -> list[tuple[float, Fraction, Fraction]]:
    """Every operating point (threshold, p_miss, p_fa), counted trial by trial in exact fractions."""
    return [(threshold, Fraction(sum(score < threshold for score in target), len(target)),
             Fraction(sum(score >= threshold for score in nontarget), len(nontarget)))
            for threshold in [*sorted({*target.tolist(), *nontarget.tolist()}), np.inf]]


def naive_eer(target, nontarget) -> tuple[Fraction, float]:
    points = naive_points(target, nontarget)
    for (_, miss, fa), (threshold, miss_after, fa_after) in itertools.pairwise(points):
        if miss_after >= fa_after:  # the straight line between the two points meets miss = fa here
            share = (fa - miss) / ((fa - miss) + (miss_after - fa_after))
            return miss + share * (miss_after - miss), threshold
    raise AssertionError("rejecting all has p_miss 1 and p_fa 0")


def naive_min_dcf(target, nontarget, p_target, c_miss, c_fa) -> float:
    cost = min(c_miss * p_target * miss + c_fa * (1 - p_target) * fa for _, miss, fa in naive_points(target, nontarget))
    return cost / min(c_miss * p_target, c_fa * (1 - p_target))


# Scores 1..6, n = nontarget, t = target:  n n t n t t.  Reject < 4: 1 of 3 targets missed, 1 of 3 nontargets accepted.
@pytest.mark.parametrize("target, nontarget, eer, threshold", [
    ([3, 5, 6], [1, 2, 4], 1 / 3, 4),           # drawn above
    ([4, 5, 6], [1, 2, 3], 0.0, 4),             # separated: the smallest accepted target
    ([1, 2, 3], [4, 5, 6], 1.0, 4),             # labels swapped: all missed, all accepted
    ([0, 0], [0, 0, 0], 0.5, np.inf),           # one score for all: a coin toss; only rejecting all balances
    ([2], [1], 0.0, 2),                         # one trial of each class
    ([1], [2], 1.0, 2),
    ([1], [1], 0.5, np.inf),
    # (miss, fa) is (0, 1) at 0, (0, 1/2) at 1, (1/2, 0) above: half way between the last two.
    ([1, 2], [0, 1], 0.25, 2),
])
def test_eer_by_hand(target, nontarget, eer, threshold):
    computed = compute_eer(np.array(target), np.array(nontarget))
    assert computed == (pytest.approx(eer, abs=1e-12), threshold)


# Targets 1 and 3, nontargets 0 and 2. Cost 0.5 * (miss + fa), divided by 0.5 = miss + fa:
# at 0: 0 + 1; at 1: 0 + 1/2; at 2: 1/2 + 1/2; at 3: 1/2 + 0; at inf: 1 + 0. The smallest of the two best is 1.
@pytest.mark.parametrize("p_target, c_miss, c_fa, min_dcf, threshold", [
    (0.5, 1, 1, 0.5, 1),
    (0.5, 1, 10, 0.5, 3),       # a false alarm costs ten: (0.5 * 1/2 + 5 * 0) / 0.5
    (0.5, 10, 1, 0.5, 1),       # a miss costs ten: (5 * 0 + 0.5 * 1/2) / 0.5
    (0.01, 1, 1, 0.5, 3),
    (0.99, 1, 1, 0.5, 1),
])
def test_min_dcf_by_hand(p_target, c_miss, c_fa, min_dcf, threshold):
    computed = compute_min_dcf(np.array([1, 3]), np.array([0, 2]), p_target, c_miss, c_fa)
    assert computed == (pytest.approx(min_dcf, abs=1e-12), threshold)


def test_min_dcf_is_one_where_scores_tell_nothing():
    constant = np.full(7, 0.3)
    assert compute_min_dcf(constant, constant, 0.01) == (pytest.approx(1.0), np.inf)    # rejecting all is cheapest
    assert compute_min_dcf(constant, constant, 0.99) == (pytest.approx(1.0), 0.3)       # accepting all is


def test_det_by_hand():
    det = compute_det(np.array([3, 5, 6]), np.array([1, 2, 3, 4]))
    assert det.thresholds.tolist() == [1, 2, 3, 4, 5, 6, np.inf]
    assert det.p_miss.tolist() == [0, 0, 0, 1 / 3, 1 / 3, 2 / 3, 1]
    assert det.p_fa.tolist() == [1, 3 / 4, 2 / 4, 1 / 4, 0, 0, 0]


@settings(deadline=None)
@given(scores, scores)
def test_eer_of_the_naive_twin(target, nontarget):
    eer, threshold = compute_eer(target, nontarget)
    naive, naive_threshold = naive_eer(target, nontarget)
    assert eer == pytest.approx(float(naive), abs=1e-12)
    assert threshold == naive_threshold


@settings(deadline=None)
@given(scores, scores, p_targets, costs, costs)
def test_min_dcf_of_the_naive_twin(target, nontarget, p_target, c_miss, c_fa):
    min_dcf, threshold = compute_min_dcf(target, nontarget, p_target, c_miss, c_fa)
    assert min_dcf == pytest.approx(naive_min_dcf(target, nontarget, p_target, c_miss, c_fa), abs=1e-9)
    # The threshold gives the cost it stands beside.
    p_miss, p_fa = np.mean(target < threshold), np.mean(nontarget >= threshold)
    cost = c_miss * p_target * p_miss + c_fa * (1 - p_target) * p_fa
    assert cost / min(c_miss * p_target, c_fa * (1 - p_target)) == pytest.approx(min_dcf, abs=1e-9)


@settings(deadline=None)
@given(scores, scores, p_targets)
def test_min_dcf_never_exceeds_one(target, nontarget, p_target):  # the cheaper of reject-all, accept-all costs 1
    assert 0 <= compute_min_dcf(target, nontarget, p_target)[0] <= 1 + 1e-12


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40), st.randoms())
def test_order_of_the_trials_never_matters(trials, random):
    trials += [(0, True), (0, False)]
    shuffled = list(trials)
    random.shuffle(shuffled)
    first, second = (compute_metrics(*map(np.array, zip(*order, strict=True))) for order in (trials, shuffled))
    assert first == second


@settings(deadline=None)
@given(few_values, few_values)
def test_increasing_maps_change_only_the_thresholds(target, nontarget):
    eer, threshold = compute_eer(target, nontarget)
    min_dcf, _ = compute_min_dcf(target, nontarget, 0.1)
    for increasing in (lambda x: 3 * x + 7, np.exp, lambda x: x**3):
        mapped = increasing(target), increasing(nontarget)
        assert compute_eer(*mapped) == (eer, increasing(threshold))
        assert compute_min_dcf(*mapped, 0.1)[0] == min_dcf


@settings(deadline=None)
@given(scores, scores, p_targets, costs)
def test_swap_and_negate(target, nontarget, p_target, c_miss):  # misses and false alarms change places
    assert compute_eer(-nontarget, -target)[0] == pytest.approx(compute_eer(target, nontarget)[0], abs=1e-12)
    assert compute_min_dcf(-nontarget, -target, 1 - p_target, 1.0, c_miss)[0] == pytest.approx(
        compute_min_dcf(target, nontarget, p_target, c_miss, 1.0)[0], abs=1e-9)


@settings(deadline=None)
@given(scores, scores, st.integers(2, 4), st.integers(2, 4))
def test_every_trial_several_times(target, nontarget, times_target, times_nontarget):
    repeated = np.repeat(target, times_target), np.repeat(nontarget, times_nontarget)
    assert compute_eer(*repeated) == pytest.approx(compute_eer(target, nontarget), abs=1e-12)
    assert compute_min_dcf(*repeated, 0.05) == pytest.approx(compute_min_dcf(target, nontarget, 0.05), abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(-1, 1))
def test_one_score_for_every_trial_is_a_coin_toss(num_target, num_nontarget, score):
    eer, threshold = compute_eer(np.full(num_target, score), np.full(num_nontarget, score))
    assert (eer, threshold) == (pytest.approx(0.5, abs=1e-12), np.inf)


# 200 target and 2,000 nontarget trials whose scores are all but all distinct: for each target score, from
# the lowest, how many nontarget scores are at or above it. Ranks are all that EER and minDCF depend on.
# Counted in a score set on which the peers' own scripts were run in 2026-11 (numpy 2). They said:
# WeSpeaker's and 3D-Speaker's compute_eer 7.85 %, their compute_c_norm at p 0.01, costs 1, 1: 0.7150,
# Kaldi's compute_min_dcf.py 0.7150 there and 0.4438 at costs 10, 1. (The reference system's compute_eer
# says 7.925: it averages the two rates nearest the crossing where the others interpolate.)
NONTARGETS_AT_OR_ABOVE = """
802 532 527 428 411 363 335 323 281 220 179 171 166 160 159 157 155 152 148 139 137 137 133 129 128 123 117 116
115 115 112 111 109 109 108 104 97 95 95 95 94 89 87 82 81 78 78 71 70 64 55 54 54 49 48 48 35 35 35 32 31 31 29
27 27 24 24 24 24 24 23 23 23 22 22 22 22 22 22 22 22 22 22 21 20 20 20 20 20 19 17 17 17 17 15 15 14 10 10 10 9
9 9 9 9 9 8 8 8 8 8 8 8 7 7 7 6 6 6 5 5 4 4 4 4 4 4 3 3 3 3 3 3 3 3 3 2 2 1 1 1 1 1 """


def test_the_peers_on_distinct_scores():
    ranks = np.zeros(200, dtype=int)  # the highest 57 targets are above all nontargets
    given_ranks = [int(count) for count in NONTARGETS_AT_OR_ABOVE.split()]
    ranks[:len(given_ranks)] = given_ranks
    target = -(ranks + 0.5)             # nontargets 1..2000 from above: -1, -2, ..., -2000
    nontarget = -np.arange(1.0, 2001.0)
    assert 100 * compute_eer(target, nontarget)[0] == pytest.approx(7.85, abs=1e-9)
    assert compute_min_dcf(target, nontarget, 0.01)[0] == pytest.approx(0.7150, abs=1e-9)
    assert compute_min_dcf(target, nontarget, 0.01, 10, 1)[0] == pytest.approx(0.4438, abs=5e-5)  # printed digits


def test_rounded_scores():
    """One decimal: score -> (targets, nontargets). The peers' EER on this list is 9.85 or 13.5 % by its order."""
    histogram = {-0.3: (0, 1), -0.2: (0, 22), -0.1: (0, 77), 0.0: (0, 201), 0.1: (0, 395), 0.2: (1, 551), 0.3: (6, 423),
                 0.4: (29, 230), 0.5: (48, 80), 0.6: (52, 18), 0.7: (37, 2), 0.8: (16, 0), 0.9: (9, 0), 1.0: (2, 0)}
    values = np.array(list(histogram))
    num_target, num_nontarget = np.array(list(histogram.values())).T
    eer, threshold = compute_eer(np.repeat(values, num_target), np.repeat(values, num_nontarget))
    # At 0.4: miss 7/200, fa 330/2000. At 0.5: miss 36/200, fa 100/2000. The gaps are 0.13 and 0.13: half way.
    assert (eer, threshold) == (pytest.approx((7 / 200 + 36 / 200) / 2, abs=1e-12), 0.5)


def test_metrics_have_the_interface_names_in_its_order():
    metrics = compute_metrics(np.array([0.5, 0.1], dtype=np.float32), np.array([True, False]), 0.01, 10, 1)
    assert list(metrics) == ["num_target", "num_nontarget", "eer_percent", "eer_threshold", "min_dcf",
                             "min_dcf_threshold", "dcf_p_target", "dcf_c_miss", "dcf_c_fa"]
    assert metrics == {"num_target": 1, "num_nontarget": 1, "eer_percent": 0.0, "eer_threshold": 0.5, "min_dcf": 0.0,
                       "min_dcf_threshold": 0.5, "dcf_p_target": 0.01, "dcf_c_miss": 10, "dcf_c_fa": 1}
    assert {type(value) for value in metrics.values()} <= {int, float}


@pytest.mark.parametrize("target, nontarget, message", [
    ([], [1.0], "no target trials: error rates need both classes"),
    ([1.0], [], "no nontarget trials: error rates need both classes"),
    ([np.nan, 1.0], [1.0], "a target score is not finite"),
    ([1.0], [-np.inf, 1.0], "a nontarget score is not finite"),
    ([1.0], [np.inf], "a nontarget score is not finite"),
])
def test_no_number_from_nothing(target, nontarget, message):
    for compute in (compute_det, compute_eer, lambda *both: compute_min_dcf(*both, 0.01)):
        with pytest.raises(ValueError, match=message):
            compute(np.array(target), np.array(nontarget))


@pytest.mark.parametrize("p_target, c_miss, c_fa", [(0, 1, 1), (1, 1, 1), (np.nan, 1, 1), (0.5, 0, 1), (0.5, 1, -1),
                                                    (0.5, np.inf, 1), (0.5, 1, np.nan)])
def test_impossible_operating_points(p_target, c_miss, c_fa):
    with pytest.raises(ValueError, match="want"):
        compute_min_dcf(np.array([1.0]), np.array([0.0]), p_target, c_miss, c_fa)


def test_as_many_labels_as_scores():
    with pytest.raises(ValueError, match="one label a score"):
        compute_metrics(np.array([1.0, 2.0]), np.array([True]))


@settings(max_examples=300, deadline=None)
@given(scores, scores, p_targets, costs, costs)
def test_the_decisive_points_give_the_numbers_of_all(target, nontarget, p_target, c_miss, c_fa):
    whole, few = compute_det(target, nontarget), decisive_det(target, nontarget)
    assert eer_of_det(few) == eer_of_det(whole)
    assert min_dcf_of_det(few, p_target, c_miss, c_fa) == min_dcf_of_det(whole, p_target, c_miss, c_fa)
    assert set(few.thresholds.tolist()) <= set(whole.thresholds.tolist())


def test_few_targets_among_many_nontargets_keep_few_points():
    rng = np.random.default_rng(1)
    target, nontarget = rng.normal(1, 1, 40).astype(np.float32), rng.normal(size=5000).astype(np.float32)
    assert len(decisive_det(target, nontarget).thresholds) <= 44
    assert eer_of_det(decisive_det(target, nontarget)) == compute_eer(target, nontarget)
