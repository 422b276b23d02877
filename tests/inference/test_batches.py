"""Which utterances share a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig
from speakerkit.features.framing import num_frames
from speakerkit.inference.batches import (
    LEAST_FRAMES,
    LEAST_SHARE,
    Batch,
    cut_batches,
    fill_rows,
    padded_length,
    row_samples,
)

FRONT_ENDS = [FbankConfig(), FbankConfig(snip_edges=False),
              FbankConfig(filterbank="speechbrain", **SPEECHBRAIN_FBANK)]


# Longest first: 100 -> 128 frames, two of which a budget of 300 holds; then 40 and 33 -> 64, four of which it holds.
def test_batches_by_hand():
    assert cut_batches([33, 100, 40, 97], 300) == [Batch((1, 3), 128), Batch((2, 0), 64)]
    assert cut_batches([33, 33, 33, 33, 33], 300) == [Batch((0, 1, 2, 3), 64), Batch((4,), 64)]
    assert cut_batches([500, 10], 300) == [Batch((0,), 512), Batch((1,), 32)]
    assert cut_batches([], 300) == []


# 16 rows of 1024 frames are enough; 900 -> 928 are at least 0.85 of it, 800 -> 832 are not.
@pytest.mark.parametrize("lengths, rows", [
    ([1024] * 20 + [800] * 9, [16, 13]),  # 20 are alike, cut to a multiple of 16; with the rest the others may go
    ([1024] * 20 + [500] * 40, [16, 16, 28]),  # the second is filled up until it is enough
    ([1024] * 10 + [100] * 30, [16, 24]),
    ([1024] * 10 + [900] * 30, [40]),  # the last isn't cut
    ([1024] * 10 + [900] * 30 + [100], [32, 9]),
    ([1024] * 60 + [900] * 8, [64, 4]),  # as many as the budget holds
])
def test_unlike_lengths_share_no_batch_that_is_full_enough(lengths, rows):
    assert [len(batch.members) for batch in cut_batches(lengths, 65536)] == rows


@given(lengths=st.lists(st.integers(1, 5000), max_size=60), budget=st.integers(1, 80000))
def test_every_utterance_once_within_the_budget(lengths, budget):
    batches = cut_batches(lengths, budget)
    members = [place for batch in batches for place in batch.members]
    assert sorted(members) == list(range(len(lengths)))
    assert [lengths[place] for place in members] == sorted(lengths, reverse=True)
    for batch in batches:
        longest = lengths[batch.members[0]]
        assert longest <= batch.num_frames == padded_length(longest)
        assert len(batch.members) == 1 or len(batch.members) * batch.num_frames <= budget
        shortest = padded_length(lengths[batch.members[-1]])
        assert shortest >= LEAST_SHARE * longest or (len(batch.members) - 1) * batch.num_frames < LEAST_FRAMES
    for batch in batches[:-1]:  # none is small where it could have held one more
        assert (len(batch.members) + 1) * batch.num_frames > min(budget, LEAST_FRAMES)
    assert cut_batches(lengths, budget) == batches


def test_shapes_come_again_and_little_is_padding():
    """An hour at a time of lengths as CN-Celeb's: 0.4 to 60 s, half of them under 4.5 s."""
    generator, shapes, area, frames, num_batches = np.random.default_rng(1), set(), 0, 0, 0
    for _ in range(40):
        lengths = (100 * generator.lognormal(np.log(4.5), 0.9, 540).clip(0.4, 60)).astype(int)
        batches = cut_batches(lengths.tolist(), 65536)
        shapes.update((len(batch.members), batch.num_frames) for batch in batches)
        area += sum(len(batch.members) * batch.num_frames for batch in batches)
        frames, num_batches = frames + lengths.sum(), num_batches + len(batches)
    assert 1 - frames / area < 0.13
    assert area / num_batches > LEAST_FRAMES and len(shapes) < num_batches / 3


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
