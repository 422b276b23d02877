"""Cells of a trial list: each measured as if it stood alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.scoring.breakdown import compute_cell_metrics
from speakerkit.scoring.metrics import compute_metrics

trials = st.lists(st.tuples(st.integers(-4, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=60)


@given(trials, st.booleans())
def test_a_cell_is_measured_as_if_alone(rows, share_targets):
    scores, is_target, cells = (np.array(column) for column in zip(*rows, strict=True))
    scores = scores.astype(float)
    measured = compute_cell_metrics(scores, is_target, cells, 4, (0.05, 2.0, 1.0), share_targets)
    assert len(measured) == 4
    for cell, metrics in enumerate(measured):
        chosen = (cells == cell) | (is_target & share_targets)
        num_target = np.count_nonzero(is_target[chosen])
        if 0 < num_target < np.count_nonzero(chosen):
            assert metrics == compute_metrics(scores[chosen], is_target[chosen], 0.05, 2.0, 1.0)
        else:
            assert metrics == {"num_target": num_target, "num_nontarget": np.count_nonzero(chosen) - num_target}
    assert sum(metrics["num_nontarget"] for metrics in measured) == np.count_nonzero(~is_target)
    if not share_targets:
        assert sum(metrics["num_target"] for metrics in measured) == np.count_nonzero(is_target)


def test_more_cells_than_sixteen_bits():
    """65,536 and above take another way through the sort."""
    cells = np.array([70_000, 3, 70_000, 3])
    measured = compute_cell_metrics(np.array([1.0, 2, 0, 3]), np.array([1, 0, 0, 1], dtype=bool), cells, 70_001)
    assert measured[70_000]["eer_threshold"] == 1
    assert measured[3]["eer_threshold"] == 3
    assert measured[0] == {"num_target": 0, "num_nontarget": 0}


@pytest.mark.parametrize("cells, told", [
    ([0, 1, 2], "cells from 0 to 2; want 0 to 1"),
    ([-1, 1, 0], "cells from -1 to 1; want 0 to 1"),
    ([0, 1], r"\(3,\) scores, \(3,\) labels and \(2,\) cells; want one a trial"),
])
def test_what_is_refused(cells, told):
    with pytest.raises(ValueError, match=told):
        compute_cell_metrics(np.zeros(3), np.ones(3, dtype=bool), np.array(cells), 2)
