"""Real speech degraded by known amounts, and signals whose numbers are known by hand."""

import numpy as np
import pytest
import soundfile

from speakerkit.features import augment
from speakerkit.features.quality import (
    FRAME_S,
    LOWEST_HZ,
    NOISE_QUANTILE,
    QUANTILE_FACTOR,
    clipped_fraction,
    collect_slots,
    find_activity,
    measure_quality,
    power_spectra,
    quantile,
)
from speakerkit.features.resample import resample

RATE = 16000


@pytest.fixture(scope="module")
def speech(speech_files) -> list[np.ndarray]:
    return [soundfile.read(paths[1], dtype="float32")[0] for paths in list(speech_files.values())[::6][:10]]


@pytest.fixture(scope="module")
def clean(speech):
    return [measure_quality(samples, RATE) for samples in speech]


def heard_power(samples):
    """Mean square above LOWEST_HZ, where SNR is defined."""
    spectra = np.concatenate(list(power_spectra(samples, RATE)))
    return float(spectra[:, np.fft.rfftfreq(512, 1 / RATE) >= LOWEST_HZ].sum(axis=1).mean())


def in_16_bits(samples):
    return (np.round(samples * 32768) / 32768).astype(np.float32)


def test_spectra_sum_to_the_mean_square():
    noise = np.random.default_rng(1).standard_normal(20 * RATE).astype(np.float32)
    assert np.concatenate(list(power_spectra(noise, RATE))).sum(axis=1).mean() == pytest.approx(1.0, rel=0.02)
    tone = np.sqrt(2) * np.sin(2 * np.pi * 1000 / RATE * np.arange(RATE)).astype(np.float32)
    assert np.concatenate(list(power_spectra(tone, RATE))).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-3)


# The SNR of a clean recording is finite too, so noise added at 20 dB below speech makes a little less than 20.
@pytest.mark.parametrize("tilt", [0, 1, 2], ids=["white", "pink", "brown"])
@pytest.mark.parametrize("snr_db, tolerance", [(5, 4.0), (10, 3.0), (20, 3.0)])
def test_snr_of_speech_with_known_noise(speech, clean, tilt, snr_db, tolerance):
    generator, errors = np.random.default_rng(tilt), []
    for samples, before in zip(speech, clean, strict=True):
        noise = augment.coloured_noise(len(samples), tilt, generator)
        gain = np.sqrt(10 ** (before.level_dbfs / 10) / heard_power(noise) * 10 ** (-snr_db / 10))
        after = measure_quality(samples + np.float32(gain) * noise, RATE)
        wanted = -10 * np.log10(10 ** (-snr_db / 10) + 10 ** (-before.snr_db / 10))
        errors.append(after.snr_db - wanted)
    assert np.abs(errors).max() < tolerance
    assert abs(np.median(errors)) < 1.5


def test_snr_falls_with_noise_and_not_with_level_or_padding(speech, clean):
    for samples, before in zip(speech[:4], clean, strict=False):
        assert measure_quality(0.1 * samples, RATE).snr_db == pytest.approx(before.snr_db, abs=1.5)
        padded = measure_quality(np.pad(samples, 3 * RATE), RATE)  # digital zeros are no noise
        assert padded.snr_db == pytest.approx(before.snr_db, abs=2.0)
        assert padded.speech_s == pytest.approx(before.speech_s, abs=0.5)
        assert padded.silent > 0.4


@pytest.mark.parametrize("band_hz", [2000, 3400, 4000, 6000, 7000])
def test_bandwidth_within_10_percent(speech, band_hz):
    for samples in speech:
        limited = in_16_bits(resample(resample(samples, RATE, 2 * band_hz), 2 * band_hz, RATE))
        assert measure_quality(limited, RATE).bandwidth_hz == pytest.approx(band_hz, rel=0.1)


def test_bandwidth_of_a_whole_band(speech, clean, speech_dir):
    generator = np.random.default_rng(1)
    for rate in (8000, 16000, 48000):
        noise = augment.coloured_noise(2 * rate, 0, generator)
        noise[:rate] *= 1e-3  # so that it stands out of itself
        assert measure_quality(0.1 * noise, rate).bandwidth_hz == pytest.approx(rate / 2, rel=0.01)
    if "speech" in speech_dir.parts:  # artificial talkers end where their maker lets them
        assert min(quality.bandwidth_hz for quality in clean) > 7000
    assert measure_quality(resample(speech[0], RATE, 48000), 48000).bandwidth_hz < 8100


@pytest.mark.parametrize("fraction", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_clipping_of_a_known_fraction(speech, fraction, gain):
    found = []
    for samples in speech:
        limit = np.quantile(np.abs(samples), 1 - fraction)
        clipped = in_16_bits(gain * np.clip(samples, -limit, limit))
        found.append(clipped_fraction(clipped))
    assert np.median(found) == pytest.approx(fraction, rel=0.15)
    if fraction >= 0.01:
        assert max(abs(value - fraction) for value in found) < 0.3 * fraction


def test_clean_speech_is_not_clipped(speech, clean):
    assert [quality.clipped for quality in clean] == [0.0] * len(clean)
    assert clipped_fraction(in_16_bits(0.01 * speech[0])) == 0.0


def test_clipping_by_hand():
    flat = np.array([0, 1, 1, 1, 0, -0.2, 1, 1, 1, 0, -0.3, 1, 1, 1, 1, 0.5, 1, 0.2, -0.1, 0], np.float32)
    assert clipped_fraction(flat) == 11 / 20  # once it is clipping, a lone sample at the limit counts too
    assert clipped_fraction(-flat) == 11 / 20
    assert clipped_fraction(flat[:10]) == 0.0  # twice may be chance
    assert clipped_fraction(np.zeros(10, np.float32)) == 0.0


def test_activity_by_hand():
    power = np.full(200, 1e-6)
    for start, end in ((20, 60), (80, 100), (103, 104), (150, 152), (160, 180)):
        power[start:end] = 1.0
    active = find_activity(power, power / 1e-6)
    wanted = np.zeros(200, dtype=bool)
    wanted[20:100] = True     # a pause of 20 frames, 0.32 s, belongs to speech
    wanted[160:180] = True    # one of 60, 0.96 s, doesn't; bursts of 1 and 2 frames are clicks
    np.testing.assert_array_equal(active, wanted)


def test_level_and_offset_by_hand(speech, clean):
    tone = np.sin(2 * np.pi * 440 / RATE * np.arange(RATE)).astype(np.float32)
    bursts = np.concatenate([np.zeros(RATE), 0.1 * tone, np.zeros(RATE)]).astype(np.float32)
    bursts += 1e-4 * np.random.default_rng(1).standard_normal(len(bursts)).astype(np.float32) + np.float32(0.02)
    quality = measure_quality(bursts, RATE)
    assert quality.level_dbfs == pytest.approx(-23.0, abs=0.3)  # rms 0.1 / sqrt 2
    assert quality.speech_s == pytest.approx(1.0, abs=0.05)
    assert quality.dc_offset == pytest.approx(0.02, abs=1e-4)
    assert quality.peak_dbfs == pytest.approx(20 * np.log10(0.12), abs=0.1)
    for samples, before in zip(speech[:3], clean, strict=False):
        assert measure_quality(samples * 0.5, RATE).level_dbfs == pytest.approx(before.level_dbfs - 6.02, abs=0.05)


@pytest.mark.parametrize("tilt", [-1, 0, 1, 2])
def test_noise_alone_is_no_speech(tilt):
    quality = measure_quality(0.1 * augment.coloured_noise(5 * RATE, tilt, np.random.default_rng(3)), RATE)
    assert (quality.speech_s, quality.snr_db, quality.bandwidth_hz, quality.level_dbfs) == (0.0, None, None, None)


def test_zeros_a_tone_and_a_constant_are_no_speech():
    for samples in (np.zeros(RATE, np.float32), np.full(RATE, 0.5, np.float32),
                    0.3 * np.sin(0.3 * np.arange(2 * RATE)).astype(np.float32)):
        quality = measure_quality(samples, RATE)
        assert (quality.speech_s, quality.snr_db) == (0.0, None)
    quality = measure_quality(np.zeros(RATE, np.float32), RATE)
    assert (quality.silent, quality.peak_dbfs) == (1.0, None)


def test_the_factor_is_that_of_steady_noise():
    white = np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32)
    slots = collect_slots(white, RATE, np.ones(round(FRAME_S * RATE) // 2 + 1, dtype=bool))[:, 1:-1]
    factor = np.quantile(slots, NOISE_QUANTILE, axis=0).mean() / slots.mean()
    assert pytest.approx(factor, rel=1e-6) == QUANTILE_FACTOR  # of means of 4 half-overlapping exponential powers
    noise = augment.coloured_noise(20 * RATE, 0, np.random.default_rng(5))
    noise[:RATE] *= 100.0  # a second at 40 dB above 19 s of noise
    assert measure_quality(1e-3 * noise, RATE).snr_db == pytest.approx(40.0, abs=0.5)


def test_long_recordings_are_sampled(monkeypatch, speech):
    long = np.tile(speech[0], 6)
    whole = measure_quality(long, RATE)
    monkeypatch.setattr("speakerkit.features.quality.MAX_SPECTRUM_VALUES", 20_000)
    sampled = measure_quality(long, RATE)
    assert sampled.snr_db == pytest.approx(whole.snr_db, abs=2.0)


@pytest.mark.parametrize("samples", [np.zeros(500, np.float32), np.zeros((RATE, 2), np.float32)])
def test_what_can_not_be_measured(samples):
    with pytest.raises(ValueError, match=r"samples have shape .*; want one channel of 0.032 s or more"):
        measure_quality(samples, RATE)


@pytest.mark.parametrize("count", [1, 2, 3, 100, 101])
def test_a_quantile_is_numpys(count):
    values = np.random.default_rng(count).random((count, 5)).astype(np.float32)
    for share in (0.05, 0.5, 0.95, 0.98):
        np.testing.assert_allclose(quantile(values, share), np.quantile(values, share, axis=0), rtol=1e-6)
        assert quantile(values[:, 0], share) == pytest.approx(np.quantile(values[:, 0], share), rel=1e-6)
