"""SpeechBrain's filterbank against SpeechBrain's own, in batches, and its refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig
from speakerkit.features.fbank import chunk_samples, compute_fbank, num_frames
from speakerkit.models.golden import golden_signal

GOLDEN = np.load(Path(__file__).resolve().parent.parent / "golden" / "speechbrain_front_end.npz")  # see its README.md
CONFIG = FbankConfig(filterbank="speechbrain", low_freq=0.0, waveform_scale=1.0, **SPEECHBRAIN_FBANK)


@pytest.mark.parametrize("name, frames", [("whole", 201), ("short", 19), ("quiet", 201)])
def test_features_are_speechbrains(name, frames):
    signal = golden_signal(16000)
    samples = {"whole": signal, "short": signal[16000:19001], "quiet": signal * np.float32(1e-3)}[name]
    features = compute_fbank(torch.from_numpy(samples), CONFIG)
    assert features.shape == (frames, 80)
    # Decibels from -100 to 20: a last digit of float32. Filters made in float64 are 1e-3 away.
    np.testing.assert_allclose(features[::7].numpy(), GOLDEN[f"fbank_{name}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_samples, frames", [(0, 0), (1, 1), (159, 1), (160, 2), (16000, 101)])
def test_number_of_frames(num_samples, frames):
    assert num_frames(num_samples, CONFIG) == frames
    assert num_frames(torch.tensor([num_samples]), CONFIG).tolist() == [frames]
    if frames:
        assert compute_fbank(torch.ones(num_samples), CONFIG).shape == (frames, 80)
    assert num_frames(chunk_samples(37, CONFIG), CONFIG) == 37


def test_a_padded_batch_changes_nothing():
    signal = torch.from_numpy(golden_signal(16000))
    lengths = [100, 3201, 20000]
    batch = torch.full((3, 20500), 5.0)  # louder than what it pads: it must not set the floor
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = signal[:length]
    together = compute_fbank(batch, CONFIG, lengths=torch.tensor(lengths))
    for features, length in zip(together, lengths, strict=True):
        alone = compute_fbank(signal[:length], CONFIG)
        torch.testing.assert_close(features[: len(alone)], alone, rtol=0, atol=1e-3)


def test_values_end_80_decibels_below_the_loudest():
    click = torch.zeros(16000)
    click[8000] = 1.0
    features = compute_fbank(click, CONFIG)
    assert features.max() - features.min() == pytest.approx(80.0, abs=1e-4)


def test_a_warp_moves_the_filters():
    signal = torch.from_numpy(golden_signal(16000))
    assert not torch.equal(compute_fbank(signal, CONFIG), compute_fbank(signal, CONFIG, vtln_warp=1.1))


@pytest.mark.parametrize("option, message", [
    ({"preemphasis": 0.97}, "preemphasis is 0.97; SpeechBrain's filterbank has 0.0"),
    ({"window_type": "povey"}, "window_type is 'povey'; SpeechBrain's filterbank has 'hamming'"),
    ({"filterbank": "librosa"}, "filterbank is 'librosa'; want one of kaldi, speechbrain"),
])
def test_impossible_options(option, message):
    with pytest.raises(ValueError, match=message):
        FbankConfig(**({"filterbank": "speechbrain"} | SPEECHBRAIN_FBANK | option))
