"""Recordings in stretches: the embedding of the whole, whatever the stretches and the library."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import RecordingError
from speakerkit.features.fbank import compute_fbank
from speakerkit.inference import long_recordings
from speakerkit.inference.backends import load_extractor
from speakerkit.inference.long_recordings import cut_stretches, embed_long, fbank_blocks, time_reach
from speakerkit.inference.statistics import TimeStatistics, pooled
from speakerkit.models import model_file, pooling

# The published depth on few channels: what a step reaches is that of the real networks.
TINY = {"base_channels": 2, "embedding_dim": 16}
DEEP = {"resnet34": ModelConfig(**TINY),
        "reference": ModelConfig(**TINY, architecture="resnet34_reference", std_floor=1e-12),
        "sibling": ModelConfig(**TINY, architecture="resnet34_sp_l2reg", std_floor=1e-12)}


@pytest.fixture(scope="module")
def minute(speech_files):
    """60 s of several speakers, joined; 5,998 frames, which leave 6 over a step."""
    joined = np.concatenate([soundfile.read(p, dtype="float32")[0] for p in sum(speech_files.values(), [])[:40]])
    return joined[: 60 * 16000]


@pytest.fixture(scope="module", params=DEEP)
def deep_model(request, tmp_path_factory, draw_network):
    config, path = DEEP[request.param], tmp_path_factory.mktemp("deep") / "deep.safetensors"
    info = model_file.ModelInfo("deep", config, FbankConfig(num_mel_bins=24))
    model_file.save_model(path, draw_network(config, 24), info)
    return path


@pytest.fixture(scope="module")
def whole(deep_model, minute):
    """The minute's embedding by torch in one piece."""
    return load_extractor(deep_model, "cpu", "float32", "torch").runner.embed(minute)


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def pieces(samples, size=12345):
    return lambda: (samples[start : start + size] for start in range(0, len(samples), size))


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_small_stretches_give_the_embedding_of_the_whole(deep_model, minute, whole, backend):
    extractor = load_extractor(deep_model, "cpu", "float32", backend)
    ours = embed_long(extractor.runner, extractor.info, pieces(minute), 640)
    assert cosine(ours, whole) >= 0.999999
    np.testing.assert_allclose(ours, whole, atol=1e-3 * np.abs(whole).max())
    assert cosine(extractor.embed_samples(minute, 16000), whole) >= 0.999999


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_what_fits_in_one_piece_is_read_once_and_gives_the_same_bytes(models, utterances, backend, monkeypatch):
    extractor, passes = load_extractor(models["resnet34"], "cpu", "float32", backend), []

    def blocks():
        passes.append(1)
        return pieces(utterances[0])()

    num_frames = 1 + (len(utterances[0]) - 400) // 160
    once = embed_long(extractor.runner, extractor.info, blocks, num_frames)
    assert len(passes) == 1
    embed_long(extractor.runner, extractor.info, blocks, num_frames - 1)
    assert len(passes) == 3
    survey = long_recordings._survey
    monkeypatch.setattr(long_recordings, "_survey", lambda *args: (*survey(*args)[:2], []))  # forgotten: a second pass
    assert once.tobytes() == embed_long(extractor.runner, extractor.info, blocks, num_frames).tobytes()
    assert len(passes) == 5


@pytest.mark.parametrize("cut", range(8))
def test_every_length_modulo_a_step(models, utterances, cut):
    """Where "same" padding lies goes by the parity of the whole at each of three levels."""
    samples = utterances[0][: 64000 - 160 * cut]
    for kind in ("resnet34", "reference", "sibling"):
        extractor = load_extractor(models[kind], "cpu", "float32", "torch")
        ours = embed_long(extractor.runner, extractor.info, pieces(samples), 200)
        assert cosine(ours, extractor.runner.embed(samples)) >= 0.999999


def test_less_overlap_would_show(deep_model, minute, whole, monkeypatch):
    """The test's own teeth: with a third of the reach the embedding is another."""
    extractor = load_extractor(deep_model, "cpu", "float32", "torch")
    monkeypatch.setattr("speakerkit.inference.long_recordings.time_reach", lambda config: 40)
    ours = embed_long(extractor.runner, extractor.info, pieces(minute), 640)
    assert np.abs(ours - whole).max() > 1e-5 * np.abs(ours).max()


# stem 1; 2 * 3 at stride 1; then 2, 2 * 4 - 1 at 2; 4, 11 at 4; 8, 5 at 8: 1 + 6 + 16 + 48 + 48 = 119
def test_reach_by_hand():
    assert time_reach(ModelConfig()) == 120
    # one 3x3 convolution a block: 1 + 3 + (2 + 6) + (4 + 20) + (8 + 16) = 60
    assert time_reach(ModelConfig(architecture="resnet50")) == 64
    assert time_reach(ModelConfig(num_blocks=(1, 1, 1, 1))) == 32  # 1 + 2 + (2 + 2) + (4 + 4) + (8 + 8) = 31


@pytest.mark.parametrize("total", [1, 8, 399, 400, 401, 1000, 1003, 5998])
def test_every_output_step_is_kept_once(total):
    kept = [step for s in cut_stretches(total, 120, 400) for step in range(s.first // 8 + s.keep_from,
                                                                           s.first // 8 + s.keep_to)]
    assert kept == list(range(-(-total // 8)))
    for stretch in cut_stretches(total, 120, 400):
        assert stretch.first % 8 == 0 and (stretch.last - stretch.first) % 8 == total % 8
        assert stretch.last - stretch.first <= 400
    with pytest.raises(ValueError, match="240 frames are no more than the reach of 120 on both sides"):
        list(cut_stretches(1000, 120, 240))


@pytest.mark.parametrize("config", [
    FbankConfig(), FbankConfig(snip_edges=False), FbankConfig(dither=1.0),
    FbankConfig(frame_length_ms=10.0, frame_shift_ms=15.0, snip_edges=False, num_mel_bins=23),
], ids=["snip", "mirrored", "dither", "gaps"])
def test_features_in_blocks_are_those_of_the_whole(models, minute, config):
    runner = load_extractor(models["resnet34"], "cpu", "float32", "torch").runner
    info = dataclasses.replace(runner.info, fbank=config)
    runner = dataclasses.replace(runner, info=info)
    dither = torch.Generator().manual_seed(0) if config.dither else None
    for samples in (minute[: 16000 * 12 + 57], minute[:700]):
        whole = compute_fbank(torch.from_numpy(samples), config, generator=dither).numpy()
        if dither:
            dither.manual_seed(0)
        ours = np.concatenate(list(fbank_blocks(pieces(samples, 999)(), runner.front_end(), config)))
        np.testing.assert_array_equal(ours, whole)


def test_statistics_are_those_of_the_networks(models):
    x = 100 + np.random.default_rng(1).standard_normal((4, 37, 3)).astype(np.float32)
    statistics = TimeStatistics()
    for start, stop in ((0, 1), (1, 1), (1, 20), (20, 37)):
        statistics.add(x[:, start:stop])
    given = torch.from_numpy(x.astype(np.float64))[None]
    for config, plain in ((ModelConfig(), pooling.pool_over_time),
                          (DEEP["reference"], pooling.pool_over_time_and_frequency)):
        np.testing.assert_allclose(pooled(statistics, config), plain(given.float(), None, config.std_floor)[0],
                                   rtol=1e-4)


def test_too_short_is_refused(models):
    extractor = load_extractor(models["resnet34"], "cpu", "float32", "onnx")
    with pytest.raises(RecordingError, match="less than one frame of 400 samples"):
        extractor.embed_blocks(lambda: [np.zeros(300, np.float32)])
