"""Within-class covariance normalisation of a trained network's embeddings, folded into its last layer.

WCCN (Hatch, Kajarekar and Stolcke, Interspeech 2006) scales every direction of the embedding space
down by how much recordings of one speaker differ along it, so that the cosine counts differences
between speakers. As a linear map it costs nothing at inference: it becomes part of the last layer.
"""

import numpy as np
import torch
from torch import nn


def within_class_covariance(embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pooled covariance of embeddings around their class means.

    Args:
        embeddings: (n, dim).
        labels: (n,) classes; those with a single embedding tell nothing and are left out.

    Returns:
        (dim, dim) float64, unbiased.

    Raises:
        ValueError: no class has two embeddings.
    """
    rows, freedom = [], 0
    for label in np.unique(labels):
        own = embeddings[labels == label].astype(np.float64)
        if len(own) > 1:
            rows.append(own - own.mean(axis=0))
            freedom += len(own) - 1
    if not rows:
        raise ValueError("no class has two embeddings: their spread within a class can't be estimated")
    deviations = np.concatenate(rows)
    return deviations.T @ deviations / freedom


def wccn_matrix(embeddings: np.ndarray, labels: np.ndarray, smoothing: float) -> np.ndarray:
    """The map A that makes the within-class covariance of A x the identity, but for smoothing.

    Args:
        embeddings: (n, dim).
        labels: (n,) classes.
        smoothing: share of the mean variance that is added to every direction; keeps directions
            that hardly vary in this sample from being blown up.

    Returns:
        (dim, dim) float64, symmetric: (covariance + smoothing * mean variance * I) ** -1/2, scaled so
        that its largest value on a direction is 1.
    """
    values, vectors = np.linalg.eigh(within_class_covariance(embeddings, labels))
    values = np.maximum(values, 0) + smoothing * values.mean()
    scale = np.sqrt(values.min() / values)
    return (vectors * scale) @ vectors.T


@torch.no_grad()
def fold_into(layer: nn.Linear, matrix: np.ndarray, norm: nn.BatchNorm1d | None = None) -> None:
    """Make the layer give A (W x + b) where it gave W x + b.

    Args:
        layer: the last one.
        matrix: A, (dim, dim).
        norm: a batch norm that follows it. The layer then gives A norm(W x + b), and what the norm did is in
            the layer: of the norm itself only its shift is left.
    """
    a = torch.from_numpy(matrix).to(layer.weight.device)
    if norm is not None:
        scale = (norm.running_var.double() + norm.eps).rsqrt() * (norm.weight.double() if norm.affine else 1.0)
        shift = (norm.bias.double() if norm.affine else 0.0) - norm.running_mean.double() * scale
        a, moved = a * scale, a @ shift  # norm(y) = scale * y + shift
        norm.running_var.fill_(1.0 - norm.eps)
        norm.running_mean.copy_(-moved.float())
        if norm.affine:
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    layer.weight.copy_((a @ layer.weight.double()).float())
    if layer.bias is not None:
        layer.bias.copy_((a @ layer.bias.double()).float())
