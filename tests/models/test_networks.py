"""Every network in padded batches, on any number of mel bins, from its first weights; its size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerkit.config import ARCHITECTURES, ModelConfig
from speakerkit.models.networks import NETWORKS, count_parameters, initialise, make_network

KINDS = ["resnet34", "two layers", "bottleneck", "reference", "campplus", "ecapa", "ecapa_speechbrain", "eres2net",
         "eres2netv2", "eres2net two layers", "res2net", "sp_l2reg", "resnet_speechbrain"]


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6), padding=st.integers(0, 9),
       kind=st.sampled_from(KINDS))
def test_any_padded_batch(make_small_network, check_padded_batch, lengths, padding, kind):
    check_padded_batch(make_small_network(kind), lengths, bins=24, padding=padding)


@pytest.mark.parametrize("bins", [3, 23, 81])
@pytest.mark.parametrize("kind", KINDS)
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


# Learnable parameters at 80 mel bins, without the classification layer, as the originals count them.
@pytest.mark.parametrize("architecture, options, count", [
    ("resnet18", {}, 4_105_440),
    ("resnet34", {}, 6_634_336),
    ("resnet34", {"two_embedding_layers": True, "embedding_dim": 192}, 6_343_648),
    ("resnet50", {}, 11_131_360),
    ("resnet101", {}, 15_892_448),
    ("resnet152", {}, 19_814_880),
    ("resnet221", {}, 23_792_224),
    ("resnet293", {}, 28_626_016),
    ("resnet34_reference", {}, 5_587_360),
    ("resnet_speechbrain", {}, 15_438_336),
    ("campplus", {}, 6_848_544),
    ("campplus", {"embedding_dim": 512}, 7_176_224),
    ("ecapa", {}, 6_190_720),
    ("ecapa", {"base_channels": 1024}, 14_657_088),
    ("ecapa_speechbrain", {}, 20_767_552),
    ("eres2net", {}, 6_610_688),
    ("eres2net", {"embedding_dim": 512}, 9_887_808),
    ("eres2net", {"base_channels": 64}, 22_462_784),
    ("eres2net", {"base_channels": 64, "embedding_dim": 512}, 29_016_704),
    ("eres2net_huge", {}, 55_165_024),
    ("eres2netv2", {}, 17_859_632),
    ("eres2netv2_w24s4ep4", {}, 53_513_632),
    ("res2net", {}, 4_033_600),
    ("res2net", {"base_channels": 64, "embedding_dim": 256, "two_embedding_layers": True}, 13_547_264),
    ("resnet34_sp_l2reg", {}, 7_064_224 - 3465 * 256),
])
def test_number_of_parameters(architecture, options, count):
    with torch.device("meta"):
        network = make_network(ModelConfig(architecture=architecture, **options), 80)
    assert count_parameters(network)[0] == count


def test_every_architecture_has_a_network():
    assert NETWORKS.keys() == ARCHITECTURES.keys()
