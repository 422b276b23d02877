"""From the last training step to the network that is kept."""

import numpy as np
import torch
from torch import nn

from speakerkit.training.checkpoint import TrainingState
from speakerkit.training.loop import Run, read_batches
from speakerkit.training.whitening import fold_into, wccn_matrix

BATCH_NORM_BATCHES = 60  # set the averaged network's batch norm statistics
WCCN_SAMPLES = 6400  # chunks whose embeddings give the within-class covariance


def finish_network(state: TrainingState, run: Run) -> nn.Module:
    """The network to keep, in evaluation mode.

    The averaged weights where there are any, with batch norm statistics of their own; then, where
    the configuration asks for it, within-class covariance normalisation in the last layer. Both use
    batches past the last step, so the result is as repeatable as the training.
    """
    network = state.network
    if state.average:
        network.load_state_dict(state.average, strict=False)
        _set_batch_norm(network, run)
    network.eval()
    if run.system.training.wccn > 0:
        embeddings, labels = _embed_batches(network, run)
        matrix = wccn_matrix(embeddings, labels, run.system.training.wccn)
        fold_into(network.last_layer, matrix, getattr(network, "last_norm", None))
    return network


@torch.no_grad()
def _set_batch_norm(network: nn.Module, run: Run) -> None:
    """Running statistics as plain means over batches of the network as it stands."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None
    network.train()
    for features, _, _ in read_batches(run, run.num_steps, run.num_steps + BATCH_NORM_BATCHES, whole=True):
        with torch.autocast(run.device.type, run.precision, enabled=run.precision != torch.float32):
            network.classifier_input(network(features))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum


@torch.no_grad()
def _embed_batches(network: nn.Module, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and classes of disturbed training chunks: what varies within a speaker, channel included."""
    first = run.num_steps + BATCH_NORM_BATCHES
    count = -(-WCCN_SAMPLES // run.system.training.batch_size)
    embeddings, labels = [], []
    for features, classes, _ in read_batches(run, first, first + count, whole=True):
        with torch.autocast(run.device.type, run.precision, enabled=run.precision != torch.float32):
            embeddings.append(network(features).float().cpu().numpy())
        labels.append(classes.cpu().numpy())
    return np.concatenate(embeddings), np.concatenate(labels)
