"""The nearest rows by a compact copy are those of a sort of all products, ties and all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.scoring import nearest
from speakerkit.scoring.nearest import NearestRows, exact_products


def sorted_all(rows, query, count):
    """By every product; of equal ones the earlier."""
    scores = exact_products(rows, np.arange(len(rows)), query)
    return sorted(range(len(rows)), key=lambda row: (-scores[row], row))[:count]


def unit(rows):
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)).astype(np.float32)


def random_voices(rng, count, dim):
    return unit(rng.standard_normal((count, dim)))


def clustered(rng, count, dim):
    """Speakers so alike that thousands may be the nearest."""
    centres = rng.standard_normal((12, dim))
    return unit(centres[rng.integers(12, size=count)] + 0.02 * rng.standard_normal((count, dim)))


def twins(rng, count, dim):
    """Each voice many times, so that the earlier decides."""
    return random_voices(rng, 40, dim)[rng.integers(40, size=count)]


def whole_numbers(rng, count, dim):
    return rng.integers(-2, 3, (count, dim)).astype(np.float32)


def a_hair_apart(rng, count, dim):
    """Rows that differ in float32's last digits alone: what 16 bits can't see."""
    row = random_voices(rng, 1, dim)
    return (row * (1 + 1e-7 * rng.integers(-4, 5, (count, dim)))).astype(np.float32)


def one_giant(rng, count, dim):
    """A row that makes all others small in 16 bits."""
    rows = random_voices(rng, count, dim)
    rows[count // 2] *= -1e4
    return rows


def spikes(rng, count, dim):
    """One value a row: what rounds best and what rounds worst side by side."""
    rows = np.zeros((count, dim), np.float32)
    rows[np.arange(count), rng.integers(dim, size=count)] = rng.uniform(-1, 1, count)
    return rows


def equal(rng, count, dim):
    return np.repeat(random_voices(rng, 1, dim), count, axis=0)


def zeros(rng, count, dim):
    return np.zeros((count, dim), np.float32)


KINDS = (random_voices, clustered, twins, whole_numbers, a_hair_apart, one_giant, spikes, equal, zeros)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([4096, 5003, 9000]), dim=st.sampled_from([1, 7, 32, 256]),
       top=st.sampled_from([1, 2, 5, 40, 70]), near=st.booleans())
def test_it_is_a_sort_of_all_products(kind, seed, count, dim, top, near):
    rng = np.random.default_rng(seed)
    rows = kind(rng, count, dim)
    query = rng.standard_normal(dim)
    if near:  # a voice that is among them
        query = rows[rng.integers(count)] + 1e-3 * query
    query = query.astype(np.float32)
    assert NearestRows(rows).top(query, top) == sorted_all(rows, query, top)
    assert NearestRows(rows).prepare().top(query, top) == sorted_all(rows, query, top)


def test_few_rows_are_looked_at_again(monkeypatch):
    """The compact pass leaves a hundredth of random voices, and the voice itself of those that are enrolled."""
    rng = np.random.default_rng(1)
    rows = random_voices(rng, 20000, 256)
    searched, seen = NearestRows(rows).prepare(), []
    plain = nearest.exact_products
    monkeypatch.setattr(nearest, "exact_products", lambda *given: seen.append(len(given[1])) or plain(*given))
    assert searched.top(random_voices(rng, 1, 256)[0], 5) and searched.top(rows[77], 1) == [77]
    assert seen[0] < 1000 and seen[1] < 10
    assert sum(block.nbytes for block in searched._compact.blocks) == rows.nbytes // 2


@pytest.mark.parametrize("top", [1, 3, 62, 63, 100, 3999, 5000])
def test_as_many_as_are_asked_for(top):
    rows = whole_numbers(np.random.default_rng(2), 4000 if top == 3999 else 4096, 4)
    query = np.array([1, -1, 2, 0.5], np.float32)
    assert NearestRows(rows).prepare().top(query, top) == sorted_all(rows, query, top)


@pytest.mark.parametrize("rows, query, top, message", [
    (np.ones((3, 2)), np.ones(2), 1, r"rows are float64 of shape \(3, 2\); want float32 \(num, dim\)"),
    (np.ones((3, 2), np.float32), np.ones(3), 1, r"query has shape \(3,\); want \(2,\)"),
    (np.ones((3, 2), np.float32), np.ones(2), 0, "top is 0; want 1 or more"),
])
def test_impossible_arguments(rows, query, top, message):
    with pytest.raises(ValueError, match=message):
        NearestRows(rows).top(query, top)
