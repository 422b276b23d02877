"""The network as it is run, not trained: batch norm folded into the convolution before it."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def _fold(convolution: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Identity:
    """Put the norm's scale and shift into the convolution's weight and bias; what replaces the norm does nothing."""
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return nn.Identity()


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy for inference in which every batch norm that follows a convolution is part of it.

    A module says in ``folds`` which norm follows which convolution of its own; norms behind a sum, a
    concatenation or a ReLU stay. The embedding agrees with the plain network's to float32 rounding
    (cosine > 0.999999).
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        for convolution, norm in getattr(module, "folds", ()):
            parent, _, name = norm.rpartition(".")
            folded = _fold(module.get_submodule(convolution), module.get_submodule(norm))
            setattr(module.get_submodule(parent), name, folded)
    return network.requires_grad_(False)


def stays_as_it_is(network: nn.Module, precision: torch.dtype) -> bool:
    """Whether the network asks for its own layers and their order, on a CPU."""
    return precision == torch.float32 and getattr(network, "float32_as_it_is", False)


def prepare_for_inference(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """Folded, channels-last, the convolutional part in ``precision``; pooling and what follows stay float32.

    A network that says ``float32_as_it_is`` keeps its layers and their order of memory in float32, on a CPU: its
    embeddings are then those of the unfolded network bit by bit. Channels-last convolutions sum in an order that
    rounds twice as much.
    """
    if device.type == "cpu" and stays_as_it_is(network, precision):
        return copy.deepcopy(network).eval().requires_grad_(False)
    network = fold_batch_norm(network).to(device, memory_format=torch.channels_last)
    for name in network.convolutional:
        getattr(network, name).to(precision)
    return network
