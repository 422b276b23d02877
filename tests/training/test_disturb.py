import numpy as np
import pytest

from speakerkit.config import AugmentationConfig
from speakerkit.features.augment import RoomResponse
from speakerkit.training.disturb import Disturbance, disturb, disturb_together, draw_disturbance

SAMPLES = (0.1 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)


def no_voice(count, generator):
    raise AssertionError("babble is not asked for")


def draw(config, samples=SAMPLES, seed=1, babble=no_voice, **sources):
    return draw_disturbance(samples, len(samples), config, 16000, np.random.default_rng(seed), babble, **sources)


def disturbed(seed=1, **options):
    return disturb(SAMPLES, draw(AugmentationConfig(**options), seed=seed), 16000)


def test_nothing_asked_nothing_done():
    np.testing.assert_array_equal(disturbed(), SAMPLES)


@pytest.mark.parametrize("option", ["noise", "reverberation", "band_limit", "clip"])
def test_each_disturbance_changes_and_keeps_the_shape(option):
    changed = disturbed(**{option: 1.0})
    assert changed.shape == SAMPLES.shape and changed.dtype == np.float32
    assert np.isfinite(changed).all()
    if option != "band_limit":  # a low tone passes a band limit as it is
        assert np.abs(changed - SAMPLES).max() > 1e-3


def test_noise_has_the_snr_asked_for():
    noise = disturbed(noise=1.0, snr_db=(10.0, 10.0)) - SAMPLES
    snr_db = 10 * np.log10(np.sum(SAMPLES**2) / np.sum(noise**2))
    assert snr_db == pytest.approx(10.0, abs=0.1)


def test_same_generator_same_chunk():
    options = {"noise": 0.7, "reverberation": 0.7, "band_limit": 0.7, "clip": 0.5, "gain_db": (-6.0, 6.0)}
    np.testing.assert_array_equal(disturbed(seed=5, **options), disturbed(seed=5, **options))
    assert not np.array_equal(disturbed(seed=5, **options), disturbed(seed=6, **options))


def test_babble_is_what_the_caller_gives():
    config = AugmentationConfig(noise=1.0, babble=1.0, snr_db=(0.0, 0.0))
    voice = np.random.default_rng(2).standard_normal(16000).astype(np.float32)
    added = disturb(SAMPLES, draw(config, babble=lambda count, _: voice), 16000) - SAMPLES
    assert np.corrcoef(added, voice)[0, 1] > 0.999


def test_a_pause_stays_a_pause():
    config = AugmentationConfig(noise=1.0, reverberation=1.0, clip=1.0)
    assert draw(config, np.zeros(16000, np.float32)) == Disturbance()


ALL = {"noise": 0.7, "reverberation": 0.7, "band_limit": 0.7, "clip": 0.5, "gain_db": (-6.0, 6.0)}


@pytest.mark.parametrize("rooms", ["synthetic", "kept", "files"])
@pytest.mark.parametrize("count", [1, 2, 4, 13])
def test_chunks_disturbed_together_are_those_disturbed_alone(rooms, count):
    generator = np.random.default_rng(count)
    recorded = [generator.standard_normal(length).astype(np.float32) for length in (1, 900, 5000, 30000)]
    if rooms == "kept":
        recorded = [RoomResponse(response) for response in recorded]
    sources = {} if rooms == "synthetic" else {"responses": lambda one: recorded[one.integers(4)]}
    chunks = (0.1 * generator.standard_normal((count, 16000))).astype(np.float32)
    drawn = [draw(AugmentationConfig(**ALL), chunk, seed, **sources) for seed, chunk in enumerate(chunks)]
    alone = [disturb(chunk, one, 16000) for chunk, one in zip(chunks, drawn, strict=True)]
    together = disturb_together(chunks.copy(), drawn, 16000, 30000 * (rooms == "kept"))
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)  # rounding of FFTs of other lengths
    if count == 13:
        assert len({tuple(value is None for value in vars(one).values()) for one in drawn}) > 4  # all kinds


def test_nothing_drawn_leaves_chunks_as_they_are():
    chunks = np.stack([SAMPLES, -SAMPLES])
    np.testing.assert_array_equal(disturb_together(chunks.copy(), [Disturbance(), Disturbance()], 16000), chunks)
