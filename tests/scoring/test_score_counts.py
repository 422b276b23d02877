"""Metrics from counts are those of the sorted scores, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring import score_counts
from speakerkit.scoring.metrics import compute_metrics
from speakerkit.scoring.score_counts import ScoreCounts, from_keys, metrics_of_counts, to_keys

# Ties in plenty; neighbours in float32, which share a bin; values of every size and sign.
ties = st.integers(-3, 3).map(lambda n: n / 3)
neighbours = st.integers(0, 40).map(lambda n: float(np.float32(0.25) + np.float32(n) * np.float32(2.0**-26)))
values = st.one_of(ties, neighbours, st.floats(-1, 1, width=32), st.floats(-(2.0**99), 2.0**99, width=32),
                   st.just(-0.0))
trials = st.lists(st.tuples(values, st.booleans()), min_size=2, max_size=60).filter(
    lambda all_: len({label for _, label in all_}) == 2)


@settings(max_examples=150, deadline=None)
@given(trials, st.integers(1, 5), st.integers(1, 3), st.floats(0.001, 0.999), st.floats(0.1, 10))
def test_as_from_sorted_scores(trials, size, bins_at_a_time, p_target, c_miss):
    scores = np.array([score for score, _ in trials], dtype=np.float32)
    labels = np.array([label for _, label in trials])

    def blocks():
        for start in range(0, len(scores), size):
            yield scores[start:start + size], labels[start:start + size]

    counts = ScoreCounts()
    for block in blocks():
        counts.add(*block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_counts, "_BINS_AT_A_TIME", bins_at_a_time)
        assert metrics_of_counts(counts, blocks, p_target, c_miss) == compute_metrics(scores, labels, p_target, c_miss)


def test_many_scores_and_one_label_a_block():
    rng = np.random.default_rng(1)
    target, nontarget = rng.normal(0.4, 0.2, 3000).astype(np.float32), rng.normal(0, 0.2, 90_000).astype(np.float32)
    counts = ScoreCounts()
    for scores, label in ((target, True), (nontarget, False)):
        counts.add(scores.reshape(-1, 10), label)
    passes = []

    def blocks():
        passes.append(1)
        return [(target, True), (nontarget, False)]

    scores, labels = np.concatenate([target, nontarget]), np.arange(93_000) < 3000
    for point in ((0.01, 1, 1), (0.5, 1, 1), (0.001, 10, 1)):
        passes.clear()
        assert metrics_of_counts(counts, blocks, *point) == compute_metrics(scores, labels, *point)
        assert len(passes) <= 2  # few bins can matter


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_keys_are_in_the_order_of_scores(values):
    scores = np.array(values, dtype=np.float32)
    keys = to_keys(scores)
    assert np.array_equal(np.argsort(keys, kind="stable"), np.argsort(scores, kind="stable"))
    assert np.array_equal(from_keys(keys), scores)


def test_one_class_has_no_metrics():
    counts = ScoreCounts()
    counts.add(np.ones(3, np.float32), True)
    with pytest.raises(ValueError, match="no nontarget trials"):
        metrics_of_counts(counts, list)
