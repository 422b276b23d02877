"""Batch norm folded into convolutions: the same embedding, and the network it came from left as it was."""

import pytest
import torch
from torch import nn

from speakerkit.models.folding import fold_batch_norm, prepare_for_inference


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, 61, 24, generator=torch.Generator().manual_seed(3))


def test_the_embedding_stays(small_network, features):
    plain, folded = small_network(features), fold_batch_norm(small_network)(features)
    assert torch.cosine_similarity(plain, folded).min() > 0.999999
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def test_the_embedding_stays_in_a_padded_batch(small_network, features):
    lengths = torch.tensor([61, 17])
    plain, folded = small_network(features, lengths), fold_batch_norm(small_network)(features, lengths)
    assert torch.cosine_similarity(plain, folded).min() > 0.999999


def test_the_network_itself_stays(small_network, features):
    before = {name: tensor.clone() for name, tensor in small_network.state_dict().items()}
    small_network.train()
    folded = fold_batch_norm(small_network)
    assert small_network.training and not folded.training
    assert not any(p.requires_grad for p in folded.parameters())
    assert before.keys() == small_network.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_network.state_dict().items())


def test_few_norms_are_left(make_small_network):
    def norms(kind, dims=nn.BatchNorm2d):
        return sum(isinstance(m, dims) for m in fold_batch_norm(make_small_network(kind)).modules())

    assert norms("resnet34") == norms("two layers") == 0
    assert norms("campplus") == 0 and norms("campplus", nn.BatchNorm1d) == 6 + 3 + 1 + 1  # behind sums, and the last
    assert norms("reference") == 4 + 1  # the first of each block follows a sum; one follows the dense layer's ReLU


def test_bfloat16_ends_before_pooling(small_network, features):
    prepared = prepare_for_inference(small_network, torch.device("cpu"), torch.bfloat16)
    embedding = prepared(features.bfloat16())
    assert embedding.dtype == torch.float32
    assert next(getattr(prepared, prepared.convolutional[0]).parameters()).dtype == torch.bfloat16
    assert prepared.embedding.weight.dtype == torch.float32
    assert torch.cosine_similarity(embedding, small_network(features)).min() > 0.999


def test_float32_is_what_it_was(small_network, features):
    prepared = prepare_for_inference(small_network, torch.device("cpu"), torch.float32)
    assert torch.cosine_similarity(prepared(features), small_network(features)).min() > 0.999999


def test_float32_of_speechbrains_resnet_is_run_as_it_is(make_small_network, features):
    network = make_small_network("resnet_speechbrain")
    prepared = prepare_for_inference(network, torch.device("cpu"), torch.float32)
    assert torch.equal(prepared(features), network(features))
    assert not any(p.requires_grad for p in prepared.parameters()) and prepared is not network
    in_bfloat16 = prepare_for_inference(network, torch.device("cpu"), torch.bfloat16)
    assert isinstance(in_bfloat16.trunk.stem_norm, nn.Identity)
