"""Operations of a network counted by hand, and the peak they are compared with."""

import pytest
import torch

from speakerkit.config import ModelConfig
from speakerkit.models.networks import make_network
from speakerkit.training import capacity
from speakerkit.training.progress import describe


def test_operations_of_a_resnet34():
    """4.53 GFLOP a second of audio (100 frames), measured independently, and a little for pooling and embedding."""
    count = capacity.operations_per_sample(make_network(ModelConfig(), 80).train(), 200, 80)
    assert count == pytest.approx(2 * 4.53e9, rel=0.02)


def test_counting_leaves_the_network_as_it_was(make_system):
    network = make_network(make_system().model, 24).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    capacity.operations_per_sample(network, 40, 24)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_capacity_is_the_product_over_three_passes(make_system, monkeypatch):
    network = make_network(make_system().model, 24)
    monkeypatch.setattr(capacity, "measure_product", lambda device, precision: 1e9)
    operations = capacity.operations_per_sample(network, 40, 24)
    found = capacity.most_samples_per_s(network, 40, 24, torch.device("cpu"), torch.float32)
    assert found == pytest.approx(1e9 / (3 * operations))


def test_a_product_takes_time(monkeypatch):
    monkeypatch.setitem(capacity.MATRIX, "cpu", 64)
    assert 1e6 < capacity.measure_product(torch.device("cpu"), torch.float32) < 1e13


def test_the_log_tells_the_share():
    row = {"step": 1, "epoch": 0.1, "loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1, "margin": 0.0,
           "gradient_norm": 1.0, "samples_per_s": 10.0, "waiting": 0.0}
    assert "of the device's peak" not in describe(row, 60)
    assert "10.0 samples/s, 42 % of the device's peak, waiting 0 %" in describe(row | {"of_peak": 0.42}, 60)
