"""The three ResNet34 against the original implementations, and in padded batches."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models.resnet import count_parameters, initialise, make_network

GOLDEN = Path(__file__).resolve().parent.parent / "golden"  # see its README.md
STAGE_STARTS = (0, 3, 7, 13)  # of the 3, 4, 6 and 3 blocks, in one list
ORIGINALS = {
    "reference_resnet34": ModelConfig(architecture="resnet34_reference", std_floor=1e-12),
    "wespeaker_resnet34": ModelConfig(),
    "3dspeaker_resnet34": ModelConfig(embedding_dim=192, two_embedding_layers=True, std_floor=1e-8),
}
# learnable parameters without the classification layer; the same with batch norm's running statistics
COUNTS = {"reference_resnet34": (5_587_360, 5_596_960), "wespeaker_resnet34": (6_634_336, 6_642_848),
          "3dspeaker_resnet34": (6_343_648, 6_352_544)}


def reference_name(key: str) -> str | None:
    """FunASR's name of a weight in ours; None for the classification layer."""
    key = re.sub(r"^(encoder|decoder)\.", "", key)
    block = re.match(r"block_(\d)\.layer_(\d)\.(.*)", key)
    if block:
        inner = block[3]
        for theirs, ours in (("bn1.", "norm1."), ("bn2.", "norm2."), ("conv_sc.", "shortcut.0."),
                             ("bn_sc.", "shortcut.1.")):
            inner = inner.replace(theirs, ours)
        return f"trunk.blocks.{STAGE_STARTS[int(block[1])] + int(block[2])}.{inner}"
    for theirs, ours in (("pre_conv_bn.", "trunk.stem_norm."), ("pre_conv.", "trunk.stem."),
                         ("resnet0_dense.", "dense."), ("resnet0_bn.", "dense_norm."),
                         ("resnet1_dense.", "embedding."), ("resnet1_bn.", "embedding_norm."),
                         ("resnet2_dense.", "second."), ("resnet2_bn.", "second_norm.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    assert key.startswith("output_dense")
    return None


def wespeaker_name(key: str) -> str:
    """WeSpeaker's and 3D-Speaker's name of a weight in ours."""
    block = re.match(r"layer(\d)\.(\d+)\.(.*)", key)
    if block:
        return f"trunk.blocks.{STAGE_STARTS[int(block[1]) - 1] + int(block[2])}.{block[3].replace('bn', 'norm')}"
    for theirs, ours in (("conv1.", "trunk.stem."), ("bn1.", "trunk.stem_norm."), ("seg_bn_1.", "second.1."),
                         ("seg_1.", "embedding."), ("seg_2.", "second.2.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    raise AssertionError(key)


def load_original(name: str, weights: dict) -> nn.Module:
    """Our network with the original's weights."""
    network = make_network(ORIGINALS[name], 80).eval().requires_grad_(False)
    state = {}
    for key, weight in weights.items():
        if name == "reference_resnet34":
            ours = reference_name(key)
        else:
            ours = wespeaker_name(key)
            if weight.dim() == 4:  # their images are (frequency, time), ours (time, frequency)
                weight = weight.transpose(2, 3).contiguous()
        if ours is not None:
            state[ours] = weight
    result = network.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)
    return network


@pytest.fixture(scope="module", params=ORIGINALS)
def original(request, original_weights) -> tuple[str, nn.Module]:
    return request.param, load_original(request.param, original_weights(request.param))


def test_embeddings_are_the_originals(original, draw_features):
    name, network = original
    golden = np.load(GOLDEN / f"{name}.npz")
    assert len(golden.files) >= 5
    for key in golden.files:
        theirs = torch.from_numpy(golden[key]).flatten()
        ours = network(draw_features(int(key[1:])))[0]
        assert ours.shape == theirs.shape and ours.dtype == torch.float32
        # Sums in another order, through 36 layers: 2e-6 was the most seen.
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm(), key


def test_number_of_parameters(original):
    name, network = original
    assert count_parameters(network) == COUNTS[name]


def test_whole_network_in_a_padded_batch(original, check_padded_batch):
    _, network = original
    check_padded_batch(network, [1, 2, 5, 9, 16, 37], bins=80, padding=7)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6), padding=st.integers(0, 9),
       kind=st.sampled_from(["resnet34", "two layers", "reference", "campplus"]))
def test_any_padded_batch(make_small_network, check_padded_batch, lengths, padding, kind):
    check_padded_batch(make_small_network(kind), lengths, bins=24, padding=padding)


@pytest.mark.parametrize("bins", [3, 23, 40, 81])
@pytest.mark.parametrize("kind", ["resnet34", "reference", "campplus"])
def test_any_number_of_mel_bins(make_small_network, check_padded_batch, kind, bins):
    check_padded_batch(make_small_network(kind, bins), [1, 8, 19], bins, padding=3)


def test_one_frame_gives_finite_embedding_and_gradient(small_network, draw_features):
    """The peers' unbiased deviation of one pooled frame is NaN."""
    small_network.requires_grad_(True)
    embedding = small_network(draw_features(1, 24))
    embedding.square().sum().backward()
    assert torch.isfinite(embedding).all()
    assert all(torch.isfinite(p.grad).all() for p in small_network.parameters() if p.grad is not None)


def test_the_classifiers_input_has_the_embeddings_shape(small_network, draw_features):
    embedding = small_network(torch.cat([draw_features(20, 24), draw_features(20, 24) + 0.5]))
    assert embedding.shape == small_network.classifier_input(embedding).shape == (2, 16)


def test_initial_weights_follow_the_generator(make_small_network):
    def draw(seed):
        network = make_network(ModelConfig(base_channels=8), 40)
        initialise(network, torch.Generator().manual_seed(seed))
        return network.state_dict()

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["trunk.stem.weight"], other["trunk.stem.weight"])
    weight = first["trunk.blocks.15.conv2.weight"]  # He by fan-out: variance 2 / (64 * 9)
    assert weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.05)
