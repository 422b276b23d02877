"""Metrics of distinct scores in order, some at a time: those of all scores at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.scoring.metrics import compute_metrics
from speakerkit.scoring.score_groups import ScoreGroups, metrics_of_groups

few_values = st.lists(st.integers(-5, 5), min_size=1, max_size=30)  # many ties
any_values = st.lists(st.floats(-2, 2), min_size=1, max_size=30)


def groups_of(target, nontarget, size):
    scores = np.unique(np.concatenate([target, nontarget]))
    counts = [np.array([np.count_nonzero(own == score) for score in scores]) for own in (target, nontarget)]
    return [ScoreGroups(*(column[start:start + size] for column in (scores, *counts)))
            for start in range(0, len(scores), size)]


@given(few_values | any_values, few_values | any_values, st.integers(1, 40), st.floats(0.001, 0.999),
       st.floats(0.1, 10))
def test_metrics_are_those_of_all_scores(target, nontarget, size, p_target, c_fa):
    target, nontarget = np.array(target, dtype=float), np.array(nontarget, dtype=float)
    found = metrics_of_groups(groups_of(target, nontarget, size), len(target), len(nontarget), p_target, 1.0, c_fa)
    is_target = np.arange(len(target) + len(nontarget)) < len(target)
    assert found == compute_metrics(np.concatenate([target, nontarget]), is_target, p_target, 1.0, c_fa)


def test_refusals():
    groups = groups_of(np.array([1.0, 2.0]), np.array([0.0]), 2)
    with pytest.raises(ValueError, match="no nontarget trials"):
        metrics_of_groups(groups, 2, 0)
    with pytest.raises(ValueError, match="groups of 2 targets and 1 nontargets; want 3 and 1"):
        metrics_of_groups(groups, 3, 1)
    with pytest.raises(ValueError, match="p_target is 2"):
        metrics_of_groups(groups, 2, 1, 2.0)
