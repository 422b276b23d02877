"""The points of a drawn DET curve."""

import numpy as np
import pytest
from scipy.special import ndtri

from speakerkit.scoring.det_plot import det_points, det_ticks
from speakerkit.scoring.metrics import compute_det


def test_few_points_are_all_kept():
    det = compute_det(np.array([1.0, 3.0, 4.0]), np.array([0.0, 2.0]))
    x, y = det_points(det)  # at 0 1 2 3 4 inf
    edge = ndtri(1 - 0.0005)
    np.testing.assert_allclose(x, [edge, 0, 0, -edge, -edge, -edge], atol=1e-12)
    np.testing.assert_allclose(y, [-edge, -edge, ndtri(1 / 3), ndtri(1 / 3), ndtri(2 / 3), edge], atol=1e-12)


def test_normal_scores_make_a_straight_line():
    """Both classes normal with spread 1, apart by 2: deviates x of p_fa and y of p_miss have x + y = -2."""
    rng = np.random.default_rng(8)
    det = compute_det(rng.normal(2, 1, 200_000), rng.normal(0, 1, 200_000))
    x, y = det_points(det, max_points=300)
    assert len(x) <= 300
    assert np.all(np.diff(x) <= 0)
    assert np.all(np.diff(y) >= 0)
    middle = (np.abs(x + 1) < 1) & (np.abs(y + 1) < 1)
    assert middle.sum() > 50
    # 200,000 draws: a rate of 2.3 % (deviate 2) is off by 0.0003, which is 0.006 deviates; five times that for both.
    assert np.abs(x + y + 2)[middle].max() < 0.03


def test_a_separated_list_is_an_angle():
    x, y = det_points(compute_det(np.array([1.0]), np.array([0.0])))
    edge = ndtri(1 - 0.0005)
    np.testing.assert_allclose([x, y], [[edge, -edge, -edge], [-edge, -edge, edge]], atol=1e-12)


def test_ticks_are_percent():
    places, texts = det_ticks()
    assert places[texts.index("5")] == pytest.approx(-1.6448536, abs=1e-6)  # the normal table's 5 % point
    assert np.all(np.diff(places) > 0)
