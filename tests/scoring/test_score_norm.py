"""AS-norm's statistics: by hand, against the plain way, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring import score_norm
from speakerkit.scoring.score_norm import SideStatistics, cohort_statistics, normalise


def plain_statistics(embeddings, cohort, top):
    """One embedding and one cohort member at a time, sorted whole, in float64."""
    means, deviations = [], []
    for a in embeddings.astype(np.float64):
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in cohort.astype(np.float64)]
        highest = sorted(cosines, reverse=True)[:top]
        means.append(np.mean(highest))
        deviations.append(np.std(highest))
    return np.array(means), np.array(deviations)


def test_by_hand():
    # Cosines of (1, 0) on the cohort: 1, 0.6, 0, -1; its three highest have mean 1.6 / 3 and squares 1, 0.36, 0.
    mean, deviation = cohort_statistics(np.array([[2.0, 0.0]]), np.array([[5, 0], [3, 4], [0, 1], [-1, 0]]), 3)
    assert mean[0] == pytest.approx(1.6 / 3, abs=1e-7)
    assert deviation[0] == pytest.approx(np.sqrt(1.36 / 3 - (1.6 / 3) ** 2), abs=1e-7)
    assert normalise(np.array([0.9]), [SideStatistics(np.array([0]), mean, deviation)]) == pytest.approx(
        (0.9 - 1.6 / 3) / np.sqrt(1.36 / 3 - (1.6 / 3) ** 2), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(2, 12), st.integers(1, 6), st.data())
def test_as_the_plain_way(num, num_cohort, dim, data):
    top = data.draw(st.integers(2, num_cohort))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    embeddings, cohort = (rng.normal(size=(n, dim)).astype(np.float32) for n in (num, num_cohort))
    mean, deviation = cohort_statistics(embeddings, cohort, top)
    expected = plain_statistics(embeddings, cohort, top)
    np.testing.assert_allclose(mean, expected[0], atol=1e-6)
    np.testing.assert_allclose(deviation, expected[1], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6), st.integers(20, 400), st.sampled_from(["ties", "sorted", "rare", ""]))
def test_the_highest_of_a_long_row(seed, top, size, kind):
    """Whatever the sample says: many equal values, a row whose highest the sample misses, a sorted one."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4, size)).astype(np.float32)
    if kind == "ties":
        rows = np.round(rows)
    if kind == "sorted":
        rows.sort(axis=1)
    if kind == "rare":
        rows[:, ::score_norm._SAMPLE_STEP] += 100  # most of the sample lies above all but itself
    expected = np.sort(rows, axis=1)[:, size - top :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_norm, "_SAMPLE_MARGIN", 1)
        found = score_norm._highest(rows.copy(), top)
    assert np.sort(found, axis=1).tolist() == expected.tolist()
    assert np.sort(score_norm._highest(rows, top), axis=1).tolist() == expected.tolist()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_blocks_and_threads_change_nothing(num_threads, monkeypatch):
    rng = np.random.default_rng(1)
    embeddings, cohort = (rng.normal(size=(n, 8)).astype(np.float32) for n in (50, 40))
    whole = cohort_statistics(embeddings, cohort, 10)
    monkeypatch.setattr(score_norm, "_BLOCK_VALUES", 7 * 40)
    np.testing.assert_allclose(cohort_statistics(embeddings, cohort, 10, num_threads), whole, atol=1e-6)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_both_sides_are_averaged_trial_by_trial(block, monkeypatch):
    monkeypatch.setattr(score_norm, "_BLOCK_TRIALS", block)
    rng = np.random.default_rng(4)
    sides = [SideStatistics(rng.integers(0, 5, 10), rng.normal(size=5), rng.uniform(0.1, 1, 5)) for _ in range(2)]
    scores = rng.normal(size=10)
    plain = [[(score - mean[n]) / deviation[n] for n, score in zip(index, scores, strict=True)]
             for index, mean, deviation in sides]
    assert normalise(scores, sides[1:]).tolist() == plain[1]
    assert normalise(scores, sides).tolist() == [(a + b) / 2 for a, b in zip(*plain, strict=True)]


def test_the_cohorts_order_and_lengths_mean_nothing():
    rng = np.random.default_rng(2)
    embeddings, cohort = rng.normal(size=(5, 8)), rng.normal(size=(30, 8))
    plain = cohort_statistics(embeddings, cohort, 7)
    other = cohort_statistics(3 * embeddings, (cohort * rng.uniform(0.1, 9, (30, 1)))[rng.permutation(30)], 7)
    np.testing.assert_allclose(other, plain, atol=1e-6)


def test_refusals():
    rng = np.random.default_rng(3)
    embeddings, cohort = rng.normal(size=(4, 6)), rng.normal(size=(9, 6))
    for top in (0, 1, 10):
        with pytest.raises(ValueError, match=f"top is {top}; want 2 to the cohort's size, 9"):
            cohort_statistics(embeddings, cohort, top)
    with pytest.raises(ValueError, match="embeddings have 5 values, the cohort's 6"):
        cohort_statistics(embeddings[:, :5], cohort, 3)
    with pytest.raises(ValueError, match="embedding 2 is zero"):
        cohort_statistics(embeddings, np.where(np.arange(9)[:, None] == 2, 0.0, cohort), 3)
    mean, deviation = cohort_statistics(embeddings, np.repeat(cohort[:1], 9, axis=0), 3)
    with pytest.raises(ValueError, match="embedding 0: its cosines on the cohort are all"):
        normalise(np.zeros(4), [SideStatistics(np.arange(4), mean, deviation)])
