"""The facts of models and configurations; the reference's sizes are those its publication's weights have."""

from pathlib import Path

import pytest
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import ConfigError, DataError
from speakerkit.models import model_file
from speakerkit.models.description import describe, front_end_in_words
from speakerkit.models.networks import initialise, make_network

CONF = Path(__file__).resolve().parents[2] / "conf"
SMALL = ModelConfig(embedding_dim=16, base_channels=4, num_blocks=(1, 1, 1, 1))


@pytest.fixture
def small_model(tmp_path):
    fbank = FbankConfig(num_mel_bins=40)
    network = make_network(SMALL, 40)
    initialise(network, torch.Generator().manual_seed(1))
    info = model_file.ModelInfo(name="small", model=SMALL, fbank=fbank, training_data="3 talkers", licence="CC BY 4.0",
                                threshold=0.25, threshold_trials="10 trials", training={"num_steps": 7})
    path = tmp_path / "model.safetensors"
    model_file.save_model(path, network.eval(), info)
    return path


def test_sizes_of_the_reference():
    facts = {}
    describe(CONF / "resnet34_reference.toml", facts, num_classes=3465)
    # 5,596,960 values in the published file's state dictionary; 3,465 classes of 256 weights on top: 887,040.
    assert facts["num_values"] == 5_596_960
    assert facts["num_parameters"] == 5_587_360
    assert facts["num_parameters_with_classifier"] == 6_474_400
    assert facts["kind"] == "training configuration"
    assert facts["licence"] is facts["training_data"] is None


def test_facts_of_a_model(small_model):
    facts = {}
    describe(small_model, facts)
    assert facts["kind"] == "model"
    assert (facts["name"], facts["architecture"], facts["embedding_dim"]) == ("small", "resnet34", 16)
    assert facts["num_values"] - facts["num_parameters"] == 2 * (4 + 2 * (4 + 8 + 16 + 32) + 8 + 16 + 32)
    assert facts["sha256"] == model_file.sha256_of(small_model)
    assert (facts["licence"], facts["training_data"], facts["domain"]) == ("CC BY 4.0", "3 talkers", None)
    assert (facts["threshold"], facts["threshold_trials"]) == (0.25, "10 trials")
    assert facts["fbank"]["num_mel_bins"] == 40
    assert facts["training"] == {"num_steps": 7}
    assert facts["golden_cosine"] > 0.99999
    assert "num_classes" not in facts


def test_a_folder_is_its_final_model(small_model):
    facts = {}
    describe(small_model.parent, facts, num_classes=10)
    assert facts["path"] == str(small_model)
    assert facts["num_parameters_with_classifier"] == facts["num_parameters"] + 160


def test_a_configuration_of_any_size_is_counted(tmp_path):
    """9.9e12 parameters, 40 TB as float32: their number takes no memory for them."""
    (tmp_path / "x.toml").write_text("[model]\nbase_channels = 4096\nnum_blocks = [64, 64, 64, 64]\n")
    facts = {}
    describe(tmp_path / "x.toml", facts)
    assert facts["num_parameters"] > 10 ** 12


def test_what_is_known_stays_when_the_weights_are_damaged(small_model):
    data = bytearray(small_model.read_bytes())
    data[-1] ^= 1
    small_model.write_bytes(data)
    facts = {}
    with pytest.raises(DataError, match="damaged: its weights don't have the SHA-256 it names"):
        describe(small_model, facts)
    assert facts["name"] == "small"
    assert "golden_cosine" not in facts


@pytest.mark.parametrize("text, message", [
    ("[model]\narchitekture = 'resnet34'\n", "did you mean 'architecture'"),
    ("[model]\narchitecture = 'xvector'\n", "want one of resnet18, resnet34"),
])
def test_configurations_that_can_not_be(tmp_path, text, message):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        describe(tmp_path / "x.toml", {})


def test_too_few_classes():
    with pytest.raises(ConfigError, match="1 classes; want at least 2"):
        describe(CONF / "resnet34.toml", {}, num_classes=1)


def test_front_end_in_words():
    assert front_end_in_words(ModelConfig(mean_norm=False), FbankConfig(dither=1.0, high_freq=-400.0)) == (
        "80 log-mel bins from 20 to 7600 Hz, povey windows of 25 ms every 10 ms, samples times 32768, dither 1, "
        "mean over time kept")
    assert front_end_in_words(ModelConfig(), FbankConfig(use_energy=True, use_log_fbank=False)).endswith(
        "energy as a further column, mean over time removed")
