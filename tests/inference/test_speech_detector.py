"""Only speech is kept: of padded speech the speech, of noise, tones and silence nothing."""

import importlib.metadata
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import silero_vad
import soundfile
import torch

from speakerkit.errors import ConfigError, RecordingError
from speakerkit.features.resample import resample
from speakerkit.inference.speech_detector import load_detector

RATE = 16000


@pytest.fixture(scope="module")
def detector():
    return load_detector()


@pytest.fixture(scope="module")
def speech(speech_files, detector) -> list[np.ndarray]:
    """Recordings of several speakers in which the detector hears more than a second of speech."""
    recordings = [soundfile.read(paths[0], dtype="float32")[0] for paths in list(speech_files.values())[:6]]
    found = [samples for samples in recordings
             if sum(end - start for start, end in detector.find_speech([samples], RATE)) > RATE]
    assert len(found) >= 3
    return found


def pad(samples, seconds=2.0, level=1e-4):
    noise = np.random.default_rng(1).standard_normal(len(samples) + 2 * int(seconds * RATE)).astype(np.float32) * level
    noise[int(seconds * RATE):int(seconds * RATE) + len(samples)] += samples
    return noise


def test_of_padded_speech_the_speech_is_kept(detector, speech):
    for samples in speech:
        alone = len(detector.keep_speech(samples, RATE))
        padded = pad(samples)
        stretches = detector.find_speech([padded], RATE)
        assert stretches[0][0] >= 2.0 * RATE - 0.1 * RATE
        assert stretches[-1][1] <= 2.0 * RATE + len(samples) + 0.3 * RATE
        kept = detector.keep_speech(padded, RATE)
        assert len(kept) == sum(end - start for start, end in stretches)
        assert len(kept) == pytest.approx(alone, abs=0.25 * alone)
        np.testing.assert_array_equal(kept[:100], padded[stretches[0][0]:][:100])


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_another_rate_gives_the_same_places(detector, speech, rate):
    near = 0
    for samples in speech[:3]:
        wanted = np.array(detector.find_speech([samples], RATE)) / RATE
        found = np.array(detector.find_speech([resample(samples, RATE, rate)], rate)) / rate
        assert (found >= 0).all() and (found <= len(samples) / RATE + 1e-3).all()
        near += found.shape == wanted.shape and np.abs(found - wanted).max() < 0.15
    assert near >= 2  # without its upper half a recording may have a pause more


@pytest.mark.parametrize("samples", [
    np.zeros(2 * RATE, np.float32),
    0.1 * np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32),
    0.5 * np.sin(np.arange(2 * RATE) * 0.3).astype(np.float32),
], ids=["silence", "noise", "tone"])
def test_what_is_no_speech_is_refused(detector, samples):
    assert detector.find_speech([samples], RATE) == []
    with pytest.raises(RecordingError, match=r"samples: no-speech: nobody speaks in 2.00 s \(silero-vad \d") as caught:
        detector.keep_speech(samples, RATE)
    assert caught.value.reason == "no-speech"


def test_too_little_speech(detector, speech):
    with pytest.raises(RecordingError, match=r"too-short: \d+\.\d\d s of speech in .* wanted at least 60 s") as caught:
        detector.keep_speech(pad(speech[0]), RATE, min_duration_s=60.0)
    assert caught.value.reason == "too-short"


@pytest.mark.parametrize("rate", [RATE, 22050])
def test_however_it_is_cut_it_is_the_packages_own_answer(detector, speech, rate):
    """The package is asked by itself here, about the whole recording."""
    samples = resample(np.concatenate([pad(part, 0.7) for part in speech]), RATE, rate)
    heard = torch.from_numpy(resample(samples, rate, RATE))
    with torch.inference_mode():
        found = silero_vad.get_speech_timestamps(heard, detector.network, sampling_rate=RATE)
    wanted = [(round(one["start"] * rate / RATE), min(round(one["end"] * rate / RATE), len(samples))) for one in found]
    assert len(wanted) >= len(speech)
    for size in (len(samples), 100, 5000, 10 * rate):
        blocks = (samples[first:first + size] for first in range(0, len(samples), size))
        assert detector.find_speech(blocks, rate) == wanted


def test_nothing_is_remembered_from_one_recording_to_the_next(detector, speech):
    first = [detector.find_speech([samples], RATE) for samples in speech]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda samples: detector.find_speech([samples], RATE), speech[::-1]))
    assert found == first[::-1]


def test_loading_leaves_torch_its_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    sys.modules.pop("silero_vad.model", None)
    sys.modules.pop("silero_vad", None)
    load_detector()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_it_needs_torch_alone():
    code = ("import sys; sys.modules.update(torchaudio=None, onnxruntime=None, torchcodec=None); "
            "from speakerkit.inference.speech_detector import load_detector; load_detector()")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_not_installed(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r"--vad needs silero-vad, which isn't installed: pip install "
                                          r"'speakerkit\[vad\]'"):
        load_detector()


def test_installed_and_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(ConfigError, match=r"--vad: silero-vad [\d.]+ can't be imported: import of silero_vad halted"):
        load_detector()
