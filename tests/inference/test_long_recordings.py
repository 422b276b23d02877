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
from speakerkit.inference.statistics import RES2NETS, TimeStatistics, pooled
from speakerkit.models import model_file, pooling
from speakerkit.models.eres2net import SHAPES

# The published depth on few channels: what a step reaches is that of the real networks.
TINY = {"base_channels": 2, "embedding_dim": 16}
DEEP = {"resnet34": ModelConfig(**TINY),
        "reference": ModelConfig(**TINY, architecture="resnet34_reference", std_floor=1e-12),
        "sibling": ModelConfig(**TINY, architecture="resnet34_sp_l2reg", std_floor=1e-12)}
RES2 = {"base_channels": 8, "embedding_dim": 16, "std_floor": 1e-8}
# Drawn weights at the published depth make of a rounding whatever they like; there float64 shows what is the same.
DEEP |= {name: ModelConfig(**RES2, architecture=name, num_blocks=(1, 2, 1, 1)) for name in RES2NETS}


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
    monkeypatch.setattr(long_recordings, "time_reach", lambda config: time_reach(config) // 24 * 8)
    ours = embed_long(extractor.runner, extractor.info, pieces(minute), 640)
    assert np.abs(ours - whole).max() > 1e-5 * np.abs(ours).max()


# stem 1; 2 * 3 at stride 1; then 2, 2 * 4 - 1 at 2; 4, 11 at 4; 8, 5 at 8: 1 + 6 + 16 + 48 + 48 = 119
def test_reach_by_hand():
    assert time_reach(ModelConfig()) == 120
    # one 3x3 convolution a block: 1 + 3 + (2 + 6) + (4 + 20) + (8 + 16) = 60
    assert time_reach(ModelConfig(architecture="resnet50")) == 64
    assert time_reach(ModelConfig(num_blocks=(1, 1, 1, 1))) == 32  # 1 + 2 + (2 + 2) + (4 + 4) + (8 + 8) = 31


@pytest.mark.parametrize("name", ["resnet34", *RES2NETS])
def test_stretches_have_the_outputs_of_the_whole_at_full_depth(draw_network, name):
    config = ModelConfig(**RES2, architecture=name)
    network, features = draw_network(config, 24).double(), torch.randn(1, 1203, 24, dtype=torch.float64)
    with torch.no_grad():
        whole = network.frame_outputs(features)[0]
        parts = [network.frame_outputs(features[:, s.first : s.last])[0][:, :, s.keep_from : s.keep_to]
                 for s in cut_stretches(1203, time_reach(config), 640)]
    assert len(parts) > 2
    np.testing.assert_allclose(torch.cat(parts, dim=2), whole, atol=1e-9 * whole.abs().max())


@pytest.mark.parametrize("name", RES2NETS)
def test_the_convolutions_in_a_block_are_the_networks(name):
    shape = SHAPES[name]
    assert long_recordings.IN_A_BLOCK.get(name, 1) == shape.parts - shape.last_passes


@pytest.mark.parametrize("name", ["resnet34", *RES2NETS])
def test_a_step_sees_no_further_than_its_reach(draw_network, name):
    """A frame that differs changes outputs up to the reach away, and none beyond."""
    config = ModelConfig(**RES2, architecture=name)
    network, reach = draw_network(config, 24).double().eval(), time_reach(config)
    features = torch.randn(1, 1200, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    changed = features.clone()
    changed[:, 600] += 10.0
    with torch.no_grad():
        moved = (network.frame_outputs(features)[0] != network.frame_outputs(changed)[0]).any(dim=3).any(dim=1)[0]
    steps = 8 * torch.nonzero(moved)[:, 0]
    assert 600 - reach <= steps.min() and steps.max() <= 600 + reach
    assert steps.max() - steps.min() > reach  # and not twice as far as need be


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
    both = pooled(statistics, ModelConfig())
    np.testing.assert_array_equal(pooled(statistics, ModelConfig(pooling="mean")), both[:12])
    np.testing.assert_array_equal(pooled(statistics, ModelConfig(pooling="deviation")), both[12:])


def test_too_short_is_refused(models):
    extractor = load_extractor(models["resnet34"], "cpu", "float32", "onnx")
    with pytest.raises(RecordingError, match="less than one frame of 400 samples"):
        extractor.embed_blocks(lambda: [np.zeros(300, np.float32)])
