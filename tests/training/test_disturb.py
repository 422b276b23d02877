import numpy as np
import pytest

from speakerkit.config import AugmentationConfig
from speakerkit.training.disturb import disturb_chunk

SAMPLES = (0.1 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)


def no_voice(count, generator):
    raise AssertionError("babble is not asked for")


def disturb(seed=1, **options):
    generator = np.random.default_rng(seed)
    return disturb_chunk(SAMPLES, AugmentationConfig(**options), 16000, generator, babble=no_voice)


def test_nothing_asked_nothing_done():
    np.testing.assert_array_equal(disturb(), SAMPLES)


@pytest.mark.parametrize("option", ["noise", "reverberation", "band_limit", "clip"])
def test_each_disturbance_changes_and_keeps_the_shape(option):
    changed = disturb(**{option: 1.0})
    assert changed.shape == SAMPLES.shape and changed.dtype == np.float32
    assert np.isfinite(changed).all()
    if option != "band_limit":  # a low tone passes a band limit as it is
        assert np.abs(changed - SAMPLES).max() > 1e-3


def test_noise_has_the_snr_asked_for():
    noise = disturb(noise=1.0, snr_db=(10.0, 10.0)) - SAMPLES
    snr_db = 10 * np.log10(np.sum(SAMPLES**2) / np.sum(noise**2))
    assert snr_db == pytest.approx(10.0, abs=0.1)


def test_same_generator_same_chunk():
    options = {"noise": 0.7, "reverberation": 0.7, "band_limit": 0.7, "clip": 0.5, "gain_db": (-6.0, 6.0)}
    np.testing.assert_array_equal(disturb(seed=5, **options), disturb(seed=5, **options))
    assert not np.array_equal(disturb(seed=5, **options), disturb(seed=6, **options))


def test_babble_is_what_the_caller_gives():
    generator = np.random.default_rng(1)
    config = AugmentationConfig(noise=1.0, babble=1.0, snr_db=(0.0, 0.0))
    voice = np.random.default_rng(2).standard_normal(16000).astype(np.float32)
    changed = disturb_chunk(SAMPLES, config, 16000, generator, babble=lambda count, _: voice)
    added = changed - SAMPLES
    assert np.corrcoef(added, voice)[0, 1] > 0.999


def test_a_pause_stays_a_pause():
    quiet = np.zeros(16000, np.float32)
    config = AugmentationConfig(noise=1.0)
    np.testing.assert_array_equal(disturb_chunk(quiet, config, 16000, np.random.default_rng(1), no_voice), quiet)
