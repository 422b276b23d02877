"""The filterbank against kaldi-native-fbank and torchaudio on speech, and what they can't show."""

import importlib
import sys
import types

import kaldi_native_fbank
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.config import FbankConfig
from speakerkit.features import fbank
from speakerkit.features.fbank import chunk_samples, compute_fbank, mel_filters, num_frames, warp_frequency

# Natural logarithms of energies. Where a bin holds a millionth or less of its frame's loudest, the
# float32 rounding of the DFT shows: 0.038 was the most seen on 40 recordings, 1e-5 the mean.
MOST, MEAN = 0.05, 1e-4
MOST_LOUD, LOUD = 2e-3, np.log(1e-6)

OPTION_SETS = {
    "default": {},
    "hamming": {"window_type": "hamming"},
    "hanning": {"window_type": "hanning", "num_mel_bins": 40},
    "blackman": {"window_type": "blackman"},
    "rectangular": {"window_type": "rectangular", "preemphasis": 0.0},
    "band": {"num_mel_bins": 64, "low_freq": 100.0, "high_freq": -400.0},
    "top": {"num_mel_bins": 23, "high_freq": 3700.0},
    "frames": {"frame_length_ms": 32.0, "frame_shift_ms": 12.5},
    "energy": {"use_energy": True},
    "energy after the window, last": {"use_energy": True, "raw_energy": False, "htk_compat": True},
    "energy floor": {"use_energy": True, "energy_floor": 1e8},
    "dc": {"remove_dc_offset": False},
    "reflected": {"snip_edges": False},
    "magnitude": {"use_power": False},
}


@pytest.fixture(scope="module")
def speech(speech_files) -> list[torch.Tensor]:
    """Up to three seconds of each of four speakers."""
    return [torch.from_numpy(soundfile.read(paths[0], dtype="float32", frames=48000)[0])
            for paths in list(speech_files.values())[:4]]


@pytest.fixture(scope="module")
def torchaudio_fbank():
    """torchaudio's compliance.kaldi.fbank, which is plain Python, whether or not its libraries can be loaded here.

    Its wheel on PyPI is a CUDA build, whose import fails beside a CPU build of torch.
    """
    try:
        importlib.import_module("torchaudio")
    except (OSError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stub = types.ModuleType("torchaudio._extension")
        stub.fail_if_no_align = lambda function: function
        stub.lazy_import_sox_ext = lambda: None
        stub._IS_ALIGN_AVAILABLE = stub._IS_RIR_AVAILABLE = stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
        sys.modules["torchaudio._extension"] = stub
    return importlib.import_module("torchaudio.compliance.kaldi").fbank


def kaldi_fbank(samples: torch.Tensor, config: FbankConfig) -> np.ndarray:
    """kaldi-native-fbank's, which is Kaldi's own code."""
    options = kaldi_native_fbank.FbankOptions()
    frames, mel = options.frame_opts, options.mel_opts
    frames.samp_freq, frames.dither, frames.snip_edges = config.sample_rate, 0.0, config.snip_edges
    frames.frame_length_ms, frames.frame_shift_ms = config.frame_length_ms, config.frame_shift_ms
    frames.window_type, frames.preemph_coeff = config.window_type, config.preemphasis
    frames.remove_dc_offset = config.remove_dc_offset
    mel.num_bins, mel.low_freq, mel.high_freq = config.num_mel_bins, config.low_freq, config.high_freq
    options.use_energy, options.raw_energy, options.htk_compat = config.use_energy, config.raw_energy, config.htk_compat
    options.energy_floor, options.use_power = config.energy_floor, config.use_power
    options.use_log_fbank = config.use_log_fbank
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(config.sample_rate, (samples * config.waveform_scale).tolist())
    extractor.input_finished()
    return np.stack([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])


def assert_close(ours: torch.Tensor, theirs: np.ndarray, config: FbankConfig) -> None:
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    difference = np.abs(ours.numpy() - theirs)
    assert difference.max() <= MOST and difference.mean() <= MEAN
    quiet = theirs.max(axis=1, keepdims=True) + (LOUD if config.use_power else LOUD / 2)
    assert difference[theirs > quiet].max() <= MOST_LOUD


@pytest.mark.parametrize("name", OPTION_SETS)
def test_as_kaldi(speech, name):
    config = FbankConfig(**OPTION_SETS[name])
    for samples in speech[:2]:
        assert_close(compute_fbank(samples, config), kaldi_fbank(samples, config), config)


@pytest.mark.parametrize("window", ["hamming", "povey", "hanning", "blackman"])
def test_torchaudios_rounding_too(speech, torchaudio_fbank, window):
    """Networks amplify what differs: steps rounded otherwise were 1.5e-3 away in quiet bins, window and filters made
    in float64 1e-5."""
    config = FbankConfig(window_type=window)
    for samples in speech:
        theirs = torchaudio_fbank(samples[None] * 32768.0, dither=0.0, num_mel_bins=80, window_type=window)
        torch.testing.assert_close(compute_fbank(samples, config), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("warp", [0.8, 0.9, 1.1, 1.25])
def test_vocal_tract_warp_as_torchaudio(speech, torchaudio_fbank, warp):
    config = FbankConfig()
    theirs = torchaudio_fbank(speech[0][None] * 32768.0, dither=0.0, num_mel_bins=80, window_type="povey",
                              vtln_warp=warp, vtln_low=100.0, vtln_high=-500.0)
    ours = compute_fbank(speech[0], config, vtln_warp=warp)
    assert_close(ours, theirs.numpy(), config)
    assert (ours - compute_fbank(speech[0], config)).abs().mean() > 0.05  # another voice


def test_a_warp_of_the_frequency_is_rising_and_keeps_the_edges():
    config = FbankConfig()
    hz = np.linspace(20, 8000, 500)
    for warp in (0.7, 1.0, 1.4):
        warped = warp_frequency(hz, warp, config)
        assert (np.diff(warped) > 0).all() and warped[0] == 20 and warped[-1] == 8000
        assert warp_frequency(1000.0, warp, config) == pytest.approx(1000 / warp)


@pytest.mark.parametrize("name", OPTION_SETS)
def test_as_torchaudio(speech, torchaudio_fbank, name):
    config = FbankConfig(**OPTION_SETS[name])
    for samples in speech[2:]:
        theirs = torchaudio_fbank(
            samples[None] * config.waveform_scale, dither=0.0, sample_frequency=float(config.sample_rate),
            frame_length=config.frame_length_ms, frame_shift=config.frame_shift_ms, window_type=config.window_type,
            num_mel_bins=config.num_mel_bins, low_freq=config.low_freq, high_freq=config.high_freq,
            preemphasis_coefficient=config.preemphasis, remove_dc_offset=config.remove_dc_offset,
            snip_edges=config.snip_edges, use_energy=config.use_energy, raw_energy=config.raw_energy,
            htk_compat=config.htk_compat, energy_floor=config.energy_floor, use_power=config.use_power)
        assert_close(compute_fbank(samples, config), theirs.numpy(), config)


def test_other_rates_and_scales(speech):
    narrow = FbankConfig(sample_rate=8000, num_mel_bins=40)
    assert_close(compute_fbank(speech[0], narrow), kaldi_fbank(speech[0], narrow), narrow)
    small = FbankConfig(waveform_scale=1.0)  # 3D-Speaker's: the floor of the logarithm is near
    assert_close(compute_fbank(speech[0], small), kaldi_fbank(speech[0], small), small)


def test_energies_without_the_logarithm(speech):
    config = FbankConfig(use_log_fbank=False)
    theirs = kaldi_fbank(speech[0], config)
    np.testing.assert_allclose(compute_fbank(speech[0], config).numpy(), theirs, rtol=MOST, atol=theirs.max() * 1e-7)


@pytest.mark.parametrize("num_samples", [80, 81, 100, 159, 240, 399, 400, 401, 1000])
def test_mirrored_ends_of_very_short_input(speech, num_samples):
    """Shorter than half a frame, the signal is mirrored more than once."""
    config = FbankConfig(snip_edges=False)
    samples = speech[1][4000:4000 + num_samples].contiguous()
    assert_close(compute_fbank(samples, config), kaldi_fbank(samples, config), config)


@pytest.mark.parametrize("num_samples, frames", [(399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_number_of_frames_by_hand(num_samples, frames):
    assert num_frames(num_samples, FbankConfig()) == frames
    assert num_frames(torch.tensor([num_samples]), FbankConfig()).tolist() == [frames]
    if frames:
        assert chunk_samples(frames, FbankConfig()) <= num_samples
        assert compute_fbank(torch.zeros(num_samples), FbankConfig()).shape == (frames, 80)


@pytest.mark.parametrize("num_samples, frames", [(79, 0), (80, 1), (239, 1), (240, 2), (16000, 100)])
def test_number_of_mirrored_frames_by_hand(num_samples, frames):
    config = FbankConfig(snip_edges=False)
    assert num_frames(num_samples, config) == frames
    if frames:
        assert compute_fbank(torch.ones(num_samples), config).shape == (frames, 80)


@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(400, 4000), min_size=1, max_size=5), snip_edges=st.booleans())
def test_a_padded_batch_is_one_by_one(lengths, snip_edges):
    config = FbankConfig(snip_edges=snip_edges)
    generator = torch.Generator().manual_seed(sum(lengths))
    batch = torch.full((len(lengths), max(lengths) + 123), 0.7)  # what is padded with must not matter
    utterances = [0.1 * torch.randn(length, generator=generator) for length in lengths]
    for row, utterance in zip(batch, utterances, strict=True):
        row[:len(utterance)] = utterance
    together = compute_fbank(batch, config, lengths=torch.tensor(lengths))
    for row, utterance in zip(together, utterances, strict=True):
        alone = compute_fbank(utterance, config)
        # The same arithmetic; only the order of sums in a matrix product may differ with its size.
        torch.testing.assert_close(row[:len(alone)], alone, rtol=0, atol=1e-4)


def test_blocks_are_the_whole(speech, monkeypatch):
    samples = torch.cat(speech)
    for config in (FbankConfig(), FbankConfig(snip_edges=False, use_energy=True)):
        monkeypatch.setattr(fbank, "BLOCK_FRAMES", 10 ** 9)
        whole = compute_fbank(samples, config)
        for frames in (1, 7, 500):
            monkeypatch.setattr(fbank, "BLOCK_FRAMES", frames)
            torch.testing.assert_close(compute_fbank(samples[:9999], config)[:50], whole[:50], rtol=0, atol=1e-4)
        torch.testing.assert_close(compute_fbank(samples, config), whole, rtol=0, atol=1e-4)


# --- dither --------------------------------------------------------------------------------------------------------


def test_dither_is_normal_noise_in_16_bit_steps():
    """Without window and pre-emphasis the energy column is the frame's energy: that of the noise alone here."""
    config = FbankConfig(dither=2.0, use_energy=True, remove_dc_offset=False)
    features = compute_fbank(torch.zeros(400 + 160 * 4999), config, generator=torch.Generator().manual_seed(1))
    energies = features[:, 0].exp().double()  # 5,000 independent sums of 400 squares: mean 400 s^2, variance 800 s^4
    mean, variance = 400 * 2.0 ** 2, 800 * 2.0 ** 4
    assert abs(energies.mean() - mean) < 5 * (variance / 5000) ** 0.5
    assert energies.var() == pytest.approx(variance, rel=0.15)


def test_dither_has_no_side(monkeypatch):
    """The noise itself: mean 0, the spread that was asked for, as often up as down, no tails but a normal's."""
    seen = []
    monkeypatch.setattr(fbank, "_log_energy", lambda frames, config: seen.append(frames.clone()) or frames[..., :1])
    config = FbankConfig(dither=3.0, use_energy=True, remove_dc_offset=False, frame_shift_ms=25.0)
    compute_fbank(torch.zeros(400 * 500), config, generator=torch.Generator().manual_seed(2))
    noise = torch.cat([frames.flatten() for frames in seen]).double() / 3.0
    count = len(noise)
    assert count == 400 * 500
    assert abs(noise.mean()) < 5 / count ** 0.5
    assert noise.var().item() == pytest.approx(1.0, abs=5 * (2 / count) ** 0.5)
    assert abs((noise > 0).double().mean() - 0.5) < 5 * 0.5 / count ** 0.5
    assert abs((noise ** 3).mean()) < 5 * (15 / count) ** 0.5
    assert (noise ** 4).mean().item() == pytest.approx(3.0, abs=5 * (96 / count) ** 0.5)


def test_dither_is_drawn_from_the_generator_given():
    config, samples = FbankConfig(dither=1.0), torch.zeros(8000)

    def draw(seed):
        return compute_fbank(samples, config, generator=torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), state)
    first, second = draw(1)[0], draw(1)[40]
    assert not torch.equal(first, second)


# --- filters, floors, refusals -----------------------------------------------------------------------------------


def test_filters_are_triangles_that_sum_to_one():
    """Between the centres of the first and the last filter two neighbours overlap, and their weights sum to one."""
    config = FbankConfig()
    filters = mel_filters(config)
    assert filters.shape == (257, 80) and (filters >= 0).all() and (filters <= 1).all()
    peaks = filters.argmax(axis=0)
    assert (np.diff(peaks) >= 0).all()
    np.testing.assert_allclose(filters[peaks[0] + 1:peaks[-1]].sum(axis=1), 1.0, atol=1e-12)
    assert not filters[0].any() and not filters[256].any()


def test_silence_is_the_floor():
    features = compute_fbank(torch.zeros(16000), FbankConfig())
    assert torch.equal(features, torch.full((98, 80), np.log(np.float32(1.1920929e-07)).item()))


@pytest.mark.parametrize("samples, options, message", [
    (torch.zeros(399), {}, "399 samples are less than one frame of 400"),
    (torch.zeros(79), {"snip_edges": False}, "79 samples are less than one frame"),
    (torch.zeros(0), {}, "0 samples"),
    (torch.zeros(8000, dtype=torch.float64), {}, r"float64 of shape \(8000,\); want float32"),
    (torch.zeros(8000, dtype=torch.int16), {}, "int16"),
    (torch.zeros(1, 1, 8000), {}, r"\(1, 1, 8000\)"),
    (torch.zeros(8000), {"dither": 1.0}, "dither 1.0 needs a generator"),
])
def test_what_is_refused(samples, options, message):
    with pytest.raises(ValueError, match=message):
        compute_fbank(samples, FbankConfig(**options))
