"""The silence rule: speech at any level passes; zeros, offsets, clicks and dither don't."""

import numpy as np
import pytest

from speakerkit.errors import RecordingError
from speakerkit.io import audio, silence

NUM = 5  # seconds
RNG = np.random.default_rng(1)


def tone(rate: int, start_s: float, end_s: float, level: float = 0.1) -> np.ndarray:
    """Five seconds of nothing but a 440 Hz tone from start to end; `level` is its rms."""
    samples = np.zeros(NUM * rate, np.float32)
    place = np.arange(round(start_s * rate), round(end_s * rate))
    samples[place] = level * np.sqrt(2) * np.sin(2 * np.pi * 440 / rate * place)
    return samples


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 44100, 48000, 192000])
def test_active_time_is_the_time_that_is_heard(rate):
    # Frames of 20 ms: one more or one less at each end.
    assert silence.active_seconds(tone(rate, 1.0, 2.5), rate) == pytest.approx(1.5, abs=0.041)
    assert silence.active_seconds(np.zeros(NUM * rate, np.float32), rate) == 0.0


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_what_is_silent_at_every_rate(rate):
    num_samples = NUM * rate
    click = np.zeros(num_samples, np.float32)
    click[num_samples // 2] = 1.0
    triangular = RNG.uniform(-1, 1, num_samples) + RNG.uniform(-1, 1, num_samples)
    for samples in (
        np.zeros(num_samples),
        np.full(num_samples, 0.3),                                       # an offset
        np.where(np.arange(num_samples) < num_samples / 2, -0.2, 0.5),   # a step of the offset
        click,
        0.5 * click + 0.25,
        np.round(triangular) / 32768,                                    # dither of two steps, as editors add it
        RNG.standard_normal(num_samples) / 32768,                        # dither 1.0, as Kaldi adds it
    ):
        with pytest.raises(RecordingError, match="^x.wav: silent: 0.0[0-2] s above") as caught:
            silence.check_samples(samples.astype(np.float32), rate, "x.wav")
        assert caught.value.reason == "silent"


def test_the_level_and_the_time_at_the_border():
    just_heard, just_not = (tone(16000, 1.0, 2.0, factor * silence.ACTIVE_RMS) for factor in (1.02, 0.98))
    assert silence.active_seconds(just_heard, 16000) == pytest.approx(1.0, abs=0.021)
    assert silence.active_seconds(just_not, 16000) == 0.0
    silence.check_samples(tone(16000, 1.0, 1.0 + silence.MIN_ACTIVE_S), 16000, "x.wav")
    with pytest.raises(RecordingError, match="silent: 0.08 s above"):
        silence.check_samples(tone(16000, 1.0, 1.08), 16000, "x.wav")


def test_an_offset_changes_nothing():
    samples = tone(16000, 1.0, 2.0, 0.001)
    expected = silence.active_seconds(samples, 16000)
    assert silence.active_seconds(samples + np.float32(0.5), 16000) == expected


def test_real_speech_passes_also_when_very_quiet(speech_files):
    """One recording a speaker; all 2,500 of the real corpus were checked when the rule was made."""
    for recordings in speech_files.values():
        for path in recordings[:1]:
            samples, rate = audio.load_audio(path)
            assert silence.active_seconds(samples, rate) >= 0.3 * len(samples) / rate
            silence.check_samples(np.float32(0.01) * samples, rate, str(path))


def test_peak_comes_back_and_scale_is_told():
    samples = tone(16000, 1.0, 2.0)
    assert silence.check_samples(samples, 16000, "x") == pytest.approx(0.1 * np.sqrt(2), rel=1e-3)
    assert silence.check_samples(-3 * samples, 16000, "x") == pytest.approx(0.3 * np.sqrt(2), rel=1e-3)
    silence.check_samples(samples * np.float32(64 / 0.15), 16000, "x")
    with pytest.raises(RecordingError, match="unsupported-format: peak is .*16-bit scale"):
        silence.check_samples(samples * 1000, 16000, "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_not_finite_is_found_and_named(value):
    samples = tone(8000, 1.0, 2.0)
    samples[12345] = value
    with pytest.raises(RecordingError, match=r"not-finite: sample 12345 \(1.5431 s\) is "):
        silence.check_samples(samples, 8000, "x")


def test_less_than_one_frame_is_silent_not_a_crash():
    with pytest.raises(RecordingError, match="silent"):
        silence.check_samples(np.full(7, 0.5, np.float32), 16000, "x")
