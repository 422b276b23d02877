"""The exported graph by plain onnxruntime, against torch."""

import dataclasses
import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from speakerkit.config import ModelConfig
from speakerkit.inference import onnx_export
from speakerkit.inference.graph_parts import cut_graph
from speakerkit.models import model_file, onnx_file
from speakerkit.models.model_header import read_info
from speakerkit.models.networks import NETWORKS, make_network

BINS = 25
KINDS = ("resnet34", "two layers", "reference", "sibling", "bottleneck", "no mean")

def open_session(graph):
    """Plain onnxruntime; one thread, for tests share their cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_samples_give_torchs_embedding(models, graphs, utterances, kind, plain_embedding, cosine):
    session = open_session(graphs[kind])
    assert [item.name for item in session.get_inputs()] == ["samples"]
    for samples in [*utterances, utterances[0][9000:9400], utterances[1][8000:9999]]:  # one frame, ten
        embedding = session.run(None, {"samples": samples[None]})[0][0]
        plain = plain_embedding(models[kind], samples)
        # Rounding alone: the same operations in another order.
        assert cosine(embedding, plain) >= 0.999999
        np.testing.assert_allclose(embedding, plain, atol=2e-4 * np.abs(plain).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_changes_nothing(graphs, utterances, kind, cosine):
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


def test_every_architecture_has_a_graph():
    networks = {type(make_network(ModelConfig(architecture=name), BINS)) for name in NETWORKS}
    assert networks == set(onnx_export.GRAPHS)
