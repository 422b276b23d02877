"""Sorted runs on disk: every distinct score once, in order, with its numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.io import score_runs
from speakerkit.io.score_runs import ScoreRuns

scored = st.lists(st.tuples(st.integers(-4, 4) | st.floats(-1, 1), st.booleans()), max_size=60)


@given(scored, st.integers(1, 20), st.integers(1, 20), st.integers(1, 7))
def test_groups_are_those_of_a_sort(trials, block, run_scores, least_read):
    scores, labels = np.array([score for score, _ in trials], dtype=float), np.array([x for _, x in trials], dtype=bool)
    with pytest.MonkeyPatch.context() as patch, ScoreRuns() as runs:
        patch.setattr(score_runs, "RUN_SCORES", run_scores)
        patch.setattr(score_runs, "_LEAST_READ", least_read)
        for start in range(0, len(trials), block):
            runs.add(scores[start:start + block], labels[start:start + block])
        found = list(runs.groups())
        assert runs.totals == [int(np.count_nonzero(~labels)), int(np.count_nonzero(labels))]
    values, targets, nontargets = (np.concatenate([np.empty(0), *(part[column] for part in found)])
                                   for column in range(3))
    assert values.tolist() == np.unique(scores).tolist()
    assert targets.tolist() == [np.count_nonzero(scores[labels] == value) for value in values]
    assert nontargets.tolist() == [np.count_nonzero(scores[~labels] == value) for value in values]
