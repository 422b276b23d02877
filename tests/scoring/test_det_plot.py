"""The points of a drawn DET curve."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from speakerkit.scoring.det_plot import det_points, det_range, det_ticks
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


def test_the_eer_lies_on_the_curve_where_scores_tie():
    """Half of the targets and half of the nontargets share a score: between (1/4, 3/4) and (3/4, 1/4) the rates are
    joined straight, which in deviates is a bow; both classes meet at 1/2."""
    target, nontarget = np.array([0.0, 1, 1, 2]), np.array([0.0, 1, 1, 2])
    x, y = det_points(compute_det(target, nontarget))
    assert len(x) > 40
    rates = ndtr(x) + ndtr(y)  # p_fa + p_miss is 1 all along
    np.testing.assert_allclose(rates, 1, atol=1e-9)
    assert np.min(np.hypot(x, y)) < 0.05  # a point near the EER of 1/2, whose deviate is 0


@pytest.mark.parametrize("rates, wanted", [
    ([0.05, 0.1], (0.1, 40)), ([], (0.1, 40)), ([0.0, 0.4], (0.1, 40)), ([0.0009], (0.01, 40)),
    ([0.00005], (0.001, 40)), ([1e-9], (0.0001, 40)), ([0.41], (0.1, 60)), ([0.9], (0.1, 90)), ([1.0], (0.1, 99)),
])
def test_axes_reach_what_is_marked(rates, wanted):
    assert det_range(np.array(rates)) == wanted
    places, texts = det_ticks(*wanted)
    assert (float(texts[0]), float(texts[-1])) == wanted
    np.testing.assert_allclose(ndtr(places) * 100, [float(text) for text in texts])
