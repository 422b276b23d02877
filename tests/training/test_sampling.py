import numpy as np
import pytest

from speakerkit.training.sampling import BatchSampler

LABELS = np.array([0] * 7 + [1] * 2 + [2] * 1)


def test_every_epoch_has_every_item_once_in_a_new_order():
    sampler = BatchSampler(LABELS, 4, "uniform", seed=1)
    drawn = np.concatenate([sampler.items(step) for step in range(5)])  # 20 draws: two epochs of 10
    assert sorted(drawn[:10]) == list(range(10)) == sorted(drawn[10:])
    assert list(drawn[:10]) != list(drawn[10:])


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_a_step_does_not_depend_on_the_steps_before(sampling):
    in_order = BatchSampler(LABELS, 4, sampling, seed=3)
    steps = [in_order.items(step) for step in range(8)]
    fresh = BatchSampler(LABELS, 4, sampling, seed=3)
    for step in (7, 0, 5, 2):
        np.testing.assert_array_equal(fresh.items(step), steps[step])


def test_seed_changes_order_and_chunks():
    one, other = BatchSampler(LABELS, 10, "uniform", seed=1), BatchSampler(LABELS, 10, "uniform", seed=2)
    assert list(one.items(0)) != list(other.items(0))
    assert one.chunk_generator(0, 0).random() != other.chunk_generator(0, 0).random()
    assert one.chunk_generator(0, 0).random() != one.chunk_generator(0, 1).random()


def test_balanced_draws_speakers_evenly():
    sampler = BatchSampler(LABELS, 100, "balanced", seed=1)
    drawn = LABELS[np.concatenate([sampler.items(step) for step in range(30)])]
    shares = np.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)  # 3,000 draws: standard deviation 0.009


def test_balanced_reaches_every_item_of_a_speaker():
    sampler = BatchSampler(LABELS, 200, "balanced", seed=1)
    assert set(np.concatenate([sampler.items(step) for step in range(2)])) == set(range(10))
