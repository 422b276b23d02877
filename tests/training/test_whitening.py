import numpy as np
import pytest
import torch
from torch import nn

from speakerkit.training.whitening import fold_into, wccn_matrix, within_class_covariance

GENERATOR = np.random.default_rng(1)
SPREAD = np.array([4.0, 1.0, 0.25])


def make_classes(num_classes=400, each=10):
    """Classes that spread by SPREAD (standard deviations) around means of their own."""
    labels = np.repeat(np.arange(num_classes), each)
    means = GENERATOR.standard_normal((num_classes, 3))
    return means[labels] + GENERATOR.standard_normal((len(labels), 3)) * SPREAD, labels


def test_covariance_is_that_within_the_classes():
    embeddings, labels = make_classes()
    covariance = within_class_covariance(embeddings, labels)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), SPREAD, rtol=0.05)  # 3,600 degrees of freedom: 1.2 %


def test_after_it_all_directions_spread_alike():
    embeddings, labels = make_classes()
    mapped = embeddings @ wccn_matrix(embeddings, labels, 0.0).T
    covariance = within_class_covariance(mapped, labels)
    np.testing.assert_allclose(covariance / covariance[0, 0], np.eye(3), atol=1e-9)


def test_smoothing_holds_small_directions_down():
    embeddings, labels = make_classes()
    plain, smooth = wccn_matrix(embeddings, labels, 0.0), wccn_matrix(embeddings, labels, 1.0)
    assert np.linalg.cond(smooth) < np.linalg.cond(plain)
    np.testing.assert_allclose(wccn_matrix(embeddings, labels, 1e9), np.eye(3), atol=1e-6)


def test_folded_layer_gives_the_mapped_embedding():
    layer, matrix = nn.Linear(5, 3), GENERATOR.standard_normal((3, 3))
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    wanted = layer(x).detach().double().numpy() @ matrix.T
    fold_into(layer, matrix)
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("affine", [False, True])
def test_folded_layer_with_a_norm_behind_it_gives_the_mapped_embedding(affine):
    layer, norm = nn.Linear(5, 3, bias=affine), nn.BatchNorm1d(3, affine=affine).eval()
    norm.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    norm.running_var.copy_(torch.tensor([0.1, 2.0, 7.0]))
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2.0), nn.init.uniform_(norm.bias)
    matrix, x = GENERATOR.standard_normal((3, 3)), torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    wanted = norm(layer(x)).detach().double().numpy() @ matrix.T
    fold_into(layer, matrix, norm)
    np.testing.assert_allclose(norm(layer(x)).detach().numpy(), wanted, atol=1e-5)


def test_classes_of_one_are_refused():
    with pytest.raises(ValueError, match="no class has two embeddings"):
        within_class_covariance(np.ones((3, 2)), np.arange(3))
