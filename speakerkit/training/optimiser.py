"""The optimiser of a configuration."""

import torch
from torch import nn

from speakerkit.config import TrainingConfig


def make_optimiser(modules: list[nn.Module], config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or Adam.

    ``l2`` is the gradient of l2 / 2 * sum of squares, on matrices and kernels only. ``weight_decay``
    is added to the gradient of every parameter by SGD, and decoupled from it by Adam (AdamW).

    Raises:
        ValueError: Adam with both.
    """
    parameters = [p for module in modules for p in module.parameters()]
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    if config.optimizer == "sgd":
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay + config.l2},
            {"params": vectors, "weight_decay": config.weight_decay},
        ]
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    if config.l2 > 0 and config.weight_decay > 0:
        raise ValueError("l2 and weight_decay are both set; adam takes one of them")
    if config.l2 > 0:
        groups = [{"params": matrices, "weight_decay": config.l2}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.Adam(groups, lr=config.learning_rate)
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
