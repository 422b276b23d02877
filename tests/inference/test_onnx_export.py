"""The exported graph by plain onnxruntime, against torch."""

import dataclasses
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import ConfigError
from speakerkit.inference import onnx_export, resnet_graph
from speakerkit.inference.graph_parts import cut_graph
from speakerkit.models import model_file, onnx_file
from speakerkit.models.golden import prepare_features
from speakerkit.models.model_info import read_info

BINS = 25
KINDS = ("resnet34", "two layers", "reference", "bottleneck", "no mean")

def open_session(graph):
    """Plain onnxruntime; one thread, for tests share their cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options)


def plain_embedding(path, samples):
    """By the network as trained, batch norm and all."""
    loaded = model_file.load_model(path)
    with torch.no_grad():
        features = prepare_features(torch.from_numpy(samples), loaded.info.fbank, loaded.info.model)
        return loaded.network(features)[0].numpy()


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_samples_give_torchs_embedding(models, graphs, utterances, kind):
    session = open_session(graphs[kind])
    assert [item.name for item in session.get_inputs()] == ["samples"]
    for samples in [*utterances, utterances[0][9000:9400], utterances[1][8000:9999]]:  # one frame, ten
        embedding = session.run(None, {"samples": samples[None]})[0][0]
        plain = plain_embedding(models[kind], samples)
        # Rounding alone: the same operations in another order.
        assert cosine(embedding, plain) >= 0.999999
        np.testing.assert_allclose(embedding, plain, atol=2e-4 * np.abs(plain).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_changes_nothing(graphs, utterances, kind):
    session = open_session(graphs[kind])
    batch = np.full((len(utterances), max(map(len, utterances)) + 777), np.nan, np.float32)
    for row, samples in zip(batch, utterances, strict=True):
        row[: len(samples)] = samples
    together = session.run(None, {"samples": batch})[0]
    for embedding, samples in zip(together, utterances, strict=True):
        assert cosine(embedding, session.run(None, {"samples": samples[None]})[0][0]) >= 0.999999


def test_a_nan_inside_is_never_a_number(graphs, utterances):
    session = open_session(graphs["resnet34"])
    samples = utterances[0].copy()
    samples[20000] = np.nan
    assert np.isnan(session.run(None, {"samples": samples[None]})[0]).all()


def test_the_file_says_all_that_the_model_says(models, graphs):
    data, info, facts = onnx_file.read_onnx(graphs["two layers"])
    assert info == read_info(models["two layers"]) == read_info(graphs["two layers"])
    assert facts["source_sha256"] == model_file.sha256_of(models["two layers"])
    network = model_file.load_model(models["two layers"]).network
    assert facts["num_parameters"] == sum(p.numel() for p in network.parameters())
    props = {item.key: item.value for item in onnx.load_from_string(data).metadata_props}
    assert props["sample_rate"] == "16000" and "float32 (batch, num_samples) in [-1, 1]" in props["input"]


def test_dither_is_left_out_and_told(models, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("speakerkit"), "propagate", True)
    loaded = model_file.load_model(models["resnet34"])
    fbank = dataclasses.replace(loaded.info.fbank, dither=1.0)
    loaded = dataclasses.replace(loaded, info=dataclasses.replace(loaded.info, fbank=fbank))
    _, info = onnx_export.to_onnx(loaded)
    assert info.fbank.dither == 0 and "dither 1 is left out" in caplog.text
    assert info.golden == read_info(models["resnet34"]).golden


def test_parts_of_the_graph_stand_alone(graphs, utterances):
    data = graphs["reference"].read_bytes()
    part = open_session(cut_graph(data, ["framed_samples"], ["fbank"]))
    num_frames = 1 + (len(utterances[0]) - 400) // 160
    assert part.run(None, {"framed_samples": utterances[0][None]})[0].shape == (1, num_frames, BINS)
    whole = open_session(cut_graph(data, ["samples"], ["num_frames", "num_steps"]))
    frames, steps = whole.run(None, {"samples": utterances[0][None]})
    assert (frames.tolist(), steps.tolist()) == ([num_frames], [-(-num_frames // 8)])


class OtherNetwork(nn.Module):
    """What no graph is written down for: a dilated convolution over time, padding masked."""

    def __init__(self, dim):
        super().__init__()
        self.convolution = nn.Conv1d(BINS, dim, 3, padding=2, dilation=2)

    def forward(self, features, lengths=None):
        valid = torch.arange(features.shape[1]) < (
            torch.tensor([features.shape[1]]) if lengths is None else lengths)[:, None]
        x = self.convolution((features * valid[..., None]).transpose(1, 2)).relu() * valid[:, None]
        return x.sum(dim=2) / valid.sum(dim=1)[:, None]


@pytest.mark.timeout(400)  # torch's exporter alone takes 10 s of an idle core
def test_other_networks_are_traced_by_torch():
    network = OtherNetwork(16).eval()
    assert not resnet_graph.is_known(network)
    graph = onnx_export.make_network_graph(network, BINS)
    joined = onnx_export.join_graphs(FbankConfig(num_mel_bins=BINS), ModelConfig(embedding_dim=16), graph)
    session = open_session(joined.SerializeToString())
    samples = np.random.default_rng(1).standard_normal((2, 9000)).astype(np.float32) * 0.1
    samples[1, 5000:] = np.nan
    embeddings = session.run(None, {"samples": samples})[0]
    for embedding, row in zip(embeddings, samples, strict=True):
        valid = torch.from_numpy(row[np.isfinite(row)])
        plain = network(prepare_features(valid, FbankConfig(num_mel_bins=BINS), ModelConfig()))[0].detach().numpy()
        np.testing.assert_allclose(embedding, plain, rtol=1e-3, atol=1e-4)


def test_tracing_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnxscript isn't installed; .* pip install 'speakerkit\[export\]'"):
        onnx_export.make_network_graph(OtherNetwork(16), BINS)
