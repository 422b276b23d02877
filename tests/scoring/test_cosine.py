"""Cosines: of one pair, of lists by either way, and of what has none."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring import cosine
from speakerkit.scoring.cosine import (
    cosine_score,
    cosine_scores,
    exact_pairs,
    exact_products,
    length_normalise,
    scoring_rows,
)


@pytest.mark.parametrize("a, b, expected", [
    ([3, 4], [6, 8], 1.0),
    ([1, 0], [0, 2], 0.0),
    ([1, 1], [-2, -2], -1.0),
    ([3, 4], [4, 3], 24 / 25),
])
def test_cosine_by_hand(a, b, expected):
    assert cosine_score(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-15)


def random_trials(num_enrol=7, num_test=11, dim=5, num_trials=60, seed=3):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(num_enrol, dim)).astype(np.float32), rng.normal(size=(num_test, dim)).astype(np.float32),
            rng.integers(0, num_enrol, num_trials), rng.integers(0, num_test, num_trials))


# Few trials of many pairs are fetched row by row, many of few come out of the product; small blocks make several.
@pytest.mark.parametrize("num_trials, block_scores, block_values", [
    (60, 1 << 24, 1 << 23), (60, 22, 1 << 23), (1, 1 << 24, 1 << 23), (1, 1, 1 << 23), (0, 1 << 24, 1 << 23)])
@pytest.mark.parametrize("pairs_per_trial", [0, 10**6])
def test_both_ways_give_each_pair_its_cosine(monkeypatch, num_trials, block_scores, block_values, pairs_per_trial):
    monkeypatch.setattr(cosine, "_DENSE_PAIRS_PER_TRIAL", pairs_per_trial)
    monkeypatch.setattr(cosine, "_BLOCK_SCORES", block_scores)
    monkeypatch.setattr(cosine, "_BLOCK_VALUES", 4 * 5)
    enrol, test, enrol_index, test_index = random_trials(num_trials=num_trials)
    scores = cosine_scores(enrol, test, enrol_index, test_index)
    expected = [cosine_score(enrol[e], test[t]) for e, t in zip(enrol_index, test_index, strict=True)]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-7)  # a few float32 roundings of sums up to 1


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 3, 192, 256]), st.data())
def test_a_score_is_the_same_number_whatever_the_order_of_its_sum(num_enrol, num_test, dim, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    enrol, test = (rng.normal(size=(n, dim)).astype(np.float32) for n in (num_enrol, num_test))
    if data.draw(st.booleans()):
        test[0] = 3 * enrol[0]  # the largest cosine there is
    a, b = scoring_rows(enrol), scoring_rows(test)
    assert a.dtype == np.float32 and np.array_equal(a * 2.0**26, np.rint(a.astype(np.float64) * 2**26))
    whole, order = exact_products(a, b), rng.permutation(dim)
    pairs = np.indices((num_enrol, num_test)).reshape(2, -1)
    exact = [[Fraction(0) + sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(row, column, strict=True))
              for column in b[:2]] for row in a[:2]]
    assert whole[:2, :2].tolist() == np.clip(np.array(exact, dtype=np.float64), -1, 1).astype(np.float32).tolist()
    for other in (exact_products(a[:, order], b[:, order]), exact_products(b, a).T,
                  exact_pairs(a, b, *pairs).reshape(whole.shape),
                  np.concatenate([exact_products(a[n:n + 1], b) for n in range(num_enrol)])):
        assert whole.tobytes() == other.tobytes()


def test_zero_has_no_sign():
    rows = scoring_rows(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]))
    assert not np.signbit(exact_products(rows[:1], rows[2:])).any()
    assert not np.signbit(exact_pairs(rows, rows, np.array([0, 1]), np.array([2, 2]))).any()


def test_never_outside_minus_one_to_one():
    rng = np.random.default_rng(5)
    enrol = rng.normal(size=(200, 192)).astype(np.float32)
    same = np.arange(200)
    assert cosine_scores(enrol, enrol * 3, same, same).max() <= 1.0
    assert cosine_scores(enrol, -enrol, same, same).min() >= -1.0


@settings(deadline=None)
@given(st.floats(2.0**-60, 2.0**60, width=32))
def test_length_does_not_matter(scale):  # nor does it overflow: 1e18 squared is no float32
    a, b = np.array([0.3, -0.4, 1.2], dtype=np.float32), np.array([1.0, 0.5, 0.25], dtype=np.float32)
    zero = np.zeros(1, dtype=np.int32)
    expected = cosine_score(a, b)
    assert cosine_scores(a[None] * np.float32(scale), b[None], zero, zero)[0] == pytest.approx(expected, abs=2e-7)


def test_rows_of_length_one():
    normalised = length_normalise(np.array([[3.0, 4.0], [0.0, -2.0]]))
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, [[0.6, 0.8], [0.0, -1.0]], atol=1e-7)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_no_cosine_without_a_direction(bad):
    good, index = np.ones((2, 2)), np.array([0])
    embeddings = np.array([[1.0, 0.0], bad])
    with pytest.raises(ValueError, match="zero or not finite"):
        cosine_score(np.array(bad), np.ones(2))
    for enrol, test in ((embeddings, good), (good, embeddings)):
        with pytest.raises(ValueError, match="embedding 1 is zero or not finite"):
            cosine_scores(enrol, test, index, index)


def test_shapes_that_do_not_fit():
    index = np.array([0])
    with pytest.raises(ValueError, match="256 values, test embeddings 192"):
        cosine_scores(np.ones((1, 256)), np.ones((1, 192)), index, index)
    with pytest.raises(ValueError, match="want as many"):
        cosine_scores(np.ones((1, 2)), np.ones((1, 2)), index, np.array([0, 0]))
    with pytest.raises(ValueError, match=r"want two of \(dim,\)"):
        cosine_score(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match=r"want \(num, dim\)"):
        length_normalise(np.ones(3))
