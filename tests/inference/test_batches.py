"""Which utterances share a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig
from speakerkit.features.framing import num_frames
from speakerkit.inference.batches import Batch, cut_batches, fill_rows, padded_length, row_samples

FRONT_ENDS = [FbankConfig(), FbankConfig(snip_edges=False),
              FbankConfig(filterbank="speechbrain", **SPEECHBRAIN_FBANK)]


# Longest first: 100 -> 128 frames, two of which a budget of 300 holds; then 40 and 33 -> 64, four of which it holds.
def test_batches_by_hand():
    assert cut_batches([33, 100, 40, 97], 300) == [Batch((1, 3), 128), Batch((2, 0), 64)]
    assert cut_batches([33, 33, 33, 33, 33], 300) == [Batch((0, 1, 2, 3), 64), Batch((4,), 64)]
    assert cut_batches([500, 10], 300) == [Batch((0,), 512), Batch((1,), 32)]
    assert cut_batches([], 300) == []


@given(lengths=st.lists(st.integers(1, 5000), max_size=60), budget=st.integers(1, 20000))
def test_every_utterance_once_within_the_budget(lengths, budget):
    batches = cut_batches(lengths, budget)
    members = [place for batch in batches for place in batch.members]
    assert sorted(members) == list(range(len(lengths)))
    assert [lengths[place] for place in members] == sorted(lengths, reverse=True)
    for batch in batches:
        longest = lengths[batch.members[0]]
        assert longest <= batch.num_frames == padded_length(longest)
        assert len(batch.members) == 1 or len(batch.members) * batch.num_frames <= budget
    for batch, after in zip(batches, batches[1:], strict=False):  # none could have held one more
        assert (len(batch.members) + 1) * batch.num_frames > budget, (batch, after)
    assert cut_batches(lengths, budget) == batches


@given(st.integers(1, 100_000))
def test_little_is_padding(frames):
    padded = padded_length(frames)
    assert frames <= padded == padded_length(padded)
    assert padded - frames < 32 or padded <= frames * 9 / 8


@pytest.mark.parametrize("lengths, budget", [([10, 0], 100), ([10], 0)])
def test_what_cannot_be_cut(lengths, budget):
    with pytest.raises(ValueError, match="want 1 or more"):
        cut_batches(lengths, budget)


@pytest.mark.parametrize("fbank", FRONT_ENDS, ids=["kaldi", "centred", "speechbrain"])
@given(num_samples=st.integers(400, 40000))
def test_a_row_holds_all_that_a_frame_sees(fbank, num_samples):
    frames = num_frames(num_samples, fbank)
    samples = row_samples(padded_length(frames), fbank)
    assert num_frames(samples, fbank) >= padded_length(frames)
    assert samples >= num_samples or (fbank.snip_edges and num_frames(samples, fbank) >= frames)
    rows = np.full((1, samples), np.nan, np.float32)
    lengths = fill_rows(rows, [np.ones(num_samples, np.float32)])
    assert num_frames(int(lengths[0]), fbank) == frames
    assert rows.sum() == lengths[0] and np.isfinite(rows).all()
