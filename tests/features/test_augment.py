"""Noise, rooms, bands and levels: each does to the sound what its numbers say, and is drawn from its generator."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.features import augment

RATE = 16000
GENERATOR = np.random.default_rng


def speech_like(num_samples: int = 32000, seed: int = 1) -> np.ndarray:
    noise = GENERATOR(seed).standard_normal(num_samples) * np.abs(np.sin(np.arange(num_samples) / 2000.0))
    return (0.05 * noise).astype(np.float32)


def decibels(ratio: float) -> float:
    return 20 * np.log10(ratio)


# --- noise

@pytest.mark.parametrize("tilt", [-1.0, 0.0, 1.0, 2.0])
def test_coloured_noise_falls_as_it_should(tilt):
    noise = augment.coloured_noise(400_000, tilt, GENERATOR(1))
    assert noise.dtype == np.float32 and noise.shape == (400_000,)
    assert augment.rms(noise) == pytest.approx(1.0, abs=1e-4) and abs(noise.mean()) < 1e-4
    frequency, power = scipy.signal.welch(noise, RATE, nperseg=4096)
    band = (frequency > 100) & (frequency < 7000)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-tilt, abs=0.05)  # 195 averaged spectra: about 0.02 of spread


@pytest.mark.parametrize("num_samples", [2, 3, 17, 1009, 32000])
def test_coloured_noise_of_any_length(num_samples):
    noise = augment.coloured_noise(num_samples, 1.0, GENERATOR(1))
    assert noise.shape == (num_samples,) and np.isfinite(noise).all() and augment.rms(noise) > 0


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 40.0])
def test_noise_is_added_at_the_ratio_asked_for(snr_db):
    samples = speech_like()
    mixed = augment.add_noise(samples, 17.0 * augment.coloured_noise(32000, 1.0, GENERATOR(2)), snr_db)
    assert mixed.dtype == np.float32 and mixed.shape == samples.shape
    assert decibels(augment.rms(samples) / augment.rms(mixed - samples)) == pytest.approx(snr_db, abs=0.01)


def test_nothing_is_added_where_there_is_no_ratio():
    silence, samples = np.zeros(100, np.float32), speech_like(100)
    np.testing.assert_array_equal(augment.add_noise(samples, silence, 10.0), samples)
    np.testing.assert_array_equal(augment.add_noise(silence, samples, 10.0), silence)
    assert augment.add_noise(samples, silence, 10.0) is not samples


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 200), st.integers(0, 2 ** 32))
def test_noise_is_cut_or_goes_round(length, wanted, seed):
    taken = augment.take_noise(np.arange(length, dtype=np.float32), wanted, GENERATOR(seed))
    assert taken.shape == (wanted,)
    assert set(np.diff(taken)) <= {1.0, 1.0 - length}  # the next sample, or from the end to the beginning
    if length >= wanted:
        assert set(np.diff(taken)) <= {1.0}


# --- rooms

def band_decay_s(response: np.ndarray, low_hz: float, high_hz: float) -> float:
    """RT60 of a band from the slope of Schroeder's backward integral between -5 and -25 dB."""
    sections = scipy.signal.butter(4, (low_hz, high_hz), "bandpass", fs=RATE, output="sos")
    energy = np.cumsum(scipy.signal.sosfiltfilt(sections, response)[::-1] ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    first, last = np.argmax(level < -5), np.argmax(level < -25)
    return -60 / np.polyfit(np.arange(first, last) / RATE, level[first:last], 1)[0]


@pytest.mark.parametrize("rt60_s", [0.2, 0.5, 1.0])
def test_a_room_decays_in_its_time_and_treble_first(rt60_s):
    tail = np.mean([[band_decay_s(augment.room_tail(int(rt60_s * RATE), RATE, rt60_s, GENERATOR(seed)), *band)
                     for band in ((300, 900), (4500, 7500))] for seed in range(8)], axis=0)
    assert tail[0] == pytest.approx(rt60_s, rel=0.15)
    assert tail[1] == pytest.approx(0.55 * rt60_s, rel=0.15)


@pytest.mark.parametrize("rt60_s", [0.02, 0.1, 0.3, 1.2])
@pytest.mark.parametrize("drr_db", [-3.0, 0.0, 6.0, 15.0])
def test_direct_sound_leads_and_stands_above_the_rest(rt60_s, drr_db):
    for seed in range(5):
        response = augment.synthetic_room_response(RATE, rt60_s, drr_db, GENERATOR(seed))
        assert response.dtype == np.float32 and response.shape == (int(rt60_s * RATE),)
        assert response[0] == 1.0 == np.abs(response).max() and np.abs(response[1:]).max() < 1.0
        ratio = -10 * np.log10(np.sum(response[1:].astype(np.float64) ** 2))
        assert ratio == pytest.approx(drr_db, abs=0.01) or (drr_db <= 0 and ratio > drr_db)  # clipped reflections


def test_a_response_of_one_impulse_is_no_room():
    samples = speech_like()
    np.testing.assert_allclose(augment.reverberate(samples, np.array([1, 0, 0], np.float32)), samples, atol=1e-6)
    late = augment.reverberate(samples, np.eye(1, 500, 100, dtype=np.float32)[0])
    shifted = samples[:-100] * (augment.rms(samples) / augment.rms(np.concatenate([np.zeros(100), samples[:-100]])))
    np.testing.assert_allclose(late[100:], shifted, atol=1e-6)


@pytest.mark.parametrize("length", [1, 100, 8001, 40000])
def test_reverberation_is_the_convolution_at_the_same_level(length):
    samples, response = speech_like(20000), GENERATOR(3).standard_normal(length).astype(np.float32)
    heard = augment.reverberate(samples, response)
    assert heard.dtype == np.float32 and heard.shape == samples.shape
    assert augment.rms(heard) == pytest.approx(augment.rms(samples), rel=1e-4)
    expected = scipy.signal.fftconvolve(samples.astype(np.float64), response.astype(np.float64))[:20000]
    expected *= augment.rms(samples) / np.sqrt(np.mean(expected ** 2))
    np.testing.assert_allclose(heard, expected, atol=1e-5 * np.abs(expected).max())


def test_a_kept_response_reverberates_as_a_fresh_one():
    response = GENERATOR(3).standard_normal(3000).astype(np.float32)
    kept = augment.RoomResponse(response)
    for length in (20000, 20000, 2000, 20000):
        samples = speech_like(length, seed=length)
        np.testing.assert_array_equal(augment.reverberate(samples, kept), augment.reverberate(samples, response))


# --- bands and levels

@pytest.mark.parametrize("frequency, gain", [
    (100, 0.0), (260, 0.0), (300, 0.5), (350, 1.0), (1000, 1.0), (3000, 1.0), (3400, 0.5), (3800, 0.0), (7000, 0.0)])
def test_a_band_keeps_what_is_inside(frequency, gain):
    tone = np.sin(2 * np.pi * frequency / RATE * np.arange(RATE)).astype(np.float32)
    limited = augment.band_limit(tone, RATE, 300.0, 3400.0)
    assert limited.dtype == np.float32 and limited.shape == tone.shape
    np.testing.assert_allclose(limited[2000:-2000], gain * tone[2000:-2000], atol=0.02)  # zero phase


@pytest.mark.parametrize("low_hz, high_hz", [(0.0, 8000.0), (0.0, 9000.0)])
def test_a_band_over_everything_changes_nothing(low_hz, high_hz):
    samples = speech_like(31999)
    np.testing.assert_allclose(augment.band_limit(samples, RATE, low_hz, high_hz), samples, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 500), st.floats(600, 8500), st.integers(1, 5000), st.sampled_from([8000, 16000, 44100]))
def test_any_band_is_finite_and_no_louder(low_hz, high_hz, num_samples, rate):
    samples = speech_like(num_samples)
    limited = augment.band_limit(samples, rate, low_hz, high_hz)
    assert limited.shape == samples.shape and np.isfinite(limited).all()
    assert augment.rms(limited) <= augment.rms(samples) * (1 + 1e-4) + 1e-9


def test_gain_and_clipping():
    samples = speech_like()
    louder = augment.change_gain(samples, 6.0)
    assert decibels(augment.rms(louder) / augment.rms(samples)) == pytest.approx(6.0, abs=1e-3)
    crest = [np.abs(clipped).max() / augment.rms(clipped)
             for clipped in (samples, augment.soft_clip(samples, 0.1), augment.soft_clip(samples, 2.0),
                             augment.soft_clip(samples, 10.0))]
    assert crest[0] == pytest.approx(crest[1], rel=0.01) and crest[1] > crest[2] > crest[3]
    for drive in (0.1, 2.0, 10.0):
        clipped = augment.soft_clip(samples, drive)
        assert clipped.dtype == np.float32
        assert augment.rms(clipped) == pytest.approx(augment.rms(samples), rel=1e-4)
    np.testing.assert_array_equal(augment.soft_clip(np.zeros(9, np.float32), 2.0), np.zeros(9))


# --- randomness and mistakes

def test_the_same_generator_gives_the_same_sound():
    def draw(seed):
        generator = GENERATOR(seed)
        return np.concatenate([augment.coloured_noise(1000, 1.0, generator),
                               augment.synthetic_room_response(RATE, 0.3, 3.0, generator),
                               augment.take_noise(np.arange(5000, dtype=np.float32), 100, generator)])
    np.testing.assert_array_equal(draw(7), draw(7))
    assert not np.array_equal(draw(7), draw(8))


def test_inputs_are_left_alone():
    samples, noise = speech_like(), speech_like(seed=2)
    response = augment.synthetic_room_response(RATE, 0.3, 3.0, GENERATOR(1))
    before = [array.copy() for array in (samples, noise, response)]
    augment.add_noise(samples, noise, 5.0)
    augment.reverberate(samples, response)
    augment.band_limit(samples, RATE, 300, 3400)
    augment.change_gain(samples, -3.0)
    augment.soft_clip(samples, 3.0)
    for array, copy in zip((samples, noise, response), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("call, message", [
    (lambda: augment.coloured_noise(1, 0.0, GENERATOR(1)), "num_samples is 1"),
    (lambda: augment.take_noise(np.zeros(0, np.float32), 5, GENERATOR(1)), "noise has no samples"),
    (lambda: augment.add_noise(np.ones(5, np.float32), np.ones(4, np.float32), 0), "noise has 4 samples, the speech 5"),
    (lambda: augment.synthetic_room_response(RATE, 0.0, 0.0, GENERATOR(1)), "rt60_s is 0.0"),
    (lambda: augment.synthetic_room_response(RATE, float("nan"), 0.0, GENERATOR(1)), "rt60_s is nan"),
    (lambda: augment.band_limit(np.ones(9, np.float32), RATE, 4000, 300), "band is 4000 to 300 Hz"),
    (lambda: augment.soft_clip(np.ones(9, np.float32), 0.0), "drive is 0.0"),
])
def test_a_callers_mistake(call, message):
    with pytest.raises(ValueError, match=message):
        call()
