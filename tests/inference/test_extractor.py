"""Samples to an embedding with a loaded model."""

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import DataError, RecordingError
from speakerkit.features.fbank import compute_fbank
from speakerkit.features.mean_norm import subtract_mean
from speakerkit.features.resample import resample
from speakerkit.inference.backends import load_extractor
from speakerkit.models import model_file, networks, resnet

FBANK = FbankConfig(num_mel_bins=24)


def save_small(path, fbank=FBANK, **options):
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16, **options)
    network = networks.make_network(config, fbank.num_columns)
    networks.initialise(network, torch.Generator().manual_seed(1))
    model_file.save_model(path, network.eval(), model_file.ModelInfo("small", config, fbank))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("model") / "small.safetensors")


@pytest.fixture(scope="module", params=["torch", "onnx", "openvino"])
def extractor(request, model):
    torch.set_num_threads(1)
    return load_extractor(model, "cpu", "float32", request.param)


@pytest.fixture(scope="module")
def speech(speech_files) -> list[np.ndarray]:
    return [soundfile.read(paths[0], dtype="float32", frames=32000)[0] for paths in list(speech_files.values())[:3]]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_it_is_features_mean_network(extractor, model, speech):
    """What training does with features, by the plain network."""
    loaded = model_file.load_model(model)
    for samples in speech:
        embedding = extractor.embed_samples(samples, 16000)
        features = subtract_mean(compute_fbank(torch.from_numpy(samples), loaded.info.fbank))
        plain = loaded.network(features[None])[0].numpy()
        assert embedding.dtype == np.float32 and embedding.shape == (16,) == (extractor.embedding_dim,)
        assert cosine(embedding, plain) > 0.999999
        assert np.linalg.norm(embedding) == pytest.approx(np.linalg.norm(plain), rel=1e-4)  # not length-normalised


def test_the_same_samples_give_the_same_bytes(extractor, speech):
    """Whatever lengths came before: what a library prepares for one may be gone, or be in the way."""
    cut = [samples[: len(samples) - 5000 * number] for number, samples in enumerate([*speech, *speech])]
    first = [extractor.embed_samples(samples, 16000).tobytes() for samples in cut]
    again = [extractor.embed_samples(samples, 16000).tobytes() for samples in reversed(cut)]
    assert first == again[::-1] and len(set(first)) == 6


def test_other_rates_are_resampled(extractor, speech):
    """Up and down again is the same sound below the filter's edge."""
    samples = resample(speech[0], 16000, 48000)
    assert cosine(extractor.embed_samples(samples, 48000), extractor.embed_samples(speech[0], 16000)) > 0.999


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_bfloat16_is_near(model, speech, backend):
    half, extractor = (load_extractor(model, "cpu", p, backend) for p in ("bfloat16", "float32"))
    assert half.precision_name == "bfloat16" and extractor.precision_name == "float32"
    embedding = half.embed_samples(speech[0], 16000)
    assert embedding.dtype == np.float32
    assert cosine(embedding, extractor.embed_samples(speech[0], 16000)) > 0.999


def test_no_mean_removal_where_the_model_has_none(tmp_path, speech):
    path = save_small(tmp_path / "raw.safetensors", mean_norm=False)
    loaded = model_file.load_model(path)
    plain = loaded.network(compute_fbank(torch.from_numpy(speech[0]), loaded.info.fbank)[None])[0].numpy()
    for backend in ("torch", "onnx", "openvino"):
        extractor = load_extractor(path, "cpu", "float32", backend)
        assert cosine(extractor.embed_samples(speech[0], 16000), plain) > 0.999999


def test_a_model_with_dither_is_deterministic(tmp_path, speech):
    path = save_small(tmp_path / "dither.safetensors", FbankConfig(num_mel_bins=24, dither=1.0))
    extractor = load_extractor(path, "cpu", "float32")
    assert extractor.backend == "torch"  # the others can't draw its noise
    first = extractor.embed_samples(speech[0], 16000)
    extractor.embed_samples(speech[1], 16000)
    assert np.array_equal(extractor.embed_samples(speech[0], 16000), first)


@pytest.mark.parametrize("count, rate", [(0, 16000), (399, 16000), (190, 8000)])
def test_less_than_a_frame_is_refused(extractor, count, rate):
    with pytest.raises(RecordingError, match="samples; want at least 400") as caught:
        extractor.embed_samples(np.zeros(count, np.float32), rate)
    assert caught.value.reason == "too-short"


def test_one_frame_is_enough(extractor, speech):
    assert np.isfinite(extractor.embed_samples(speech[0][8000:8400], 16000)).all()


@pytest.mark.parametrize("value, reason", [(np.nan, "nan-embedding"), (0.0, "zero-embedding")])
def test_what_no_score_may_be_computed_from(extractor, speech, monkeypatch, value, reason):
    monkeypatch.setattr(type(extractor.runner), "embed", lambda self, samples: np.full(16, value, np.float32))
    with pytest.raises(RecordingError) as caught:
        extractor.embed_samples(speech[0], 16000)
    assert caught.value.reason == reason


def test_a_model_whose_answer_is_another_is_refused(model, monkeypatch):
    """As on a machine that computes wrongly: the golden vector is held in the precision that is used."""
    monkeypatch.setattr(resnet.ResNet, "forward", lambda self, features: torch.ones(1, 16))
    with pytest.raises(DataError, match=r"gives another embedding for its golden signal: cosine .* in float32"):
        load_extractor(model, "cpu", "float32", "torch")
    with pytest.raises(DataError, match=r"want at least 0.999 in bfloat16"):
        load_extractor(model, "cpu", "bfloat16", "torch")
