"""The network as it is run, not trained: batch norm folded into the convolution before it."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from speakerkit.models.blocks import ResidualBlock, ResidualTrunk


def _fold(convolution: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Identity:
    """Put the norm's scale and shift into the convolution's weight and bias; what replaces the norm does nothing."""
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return nn.Identity()


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy for inference in which every batch norm that follows a convolution is part of it.

    In pre-activation blocks the first norm follows a sum and stays. The embedding agrees with the
    plain network's to float32 rounding (cosine > 0.999999).
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, ResidualTrunk):
            module.stem_norm = _fold(module.stem, module.stem_norm)
        elif isinstance(module, ResidualBlock):
            if module.pre_activation:
                module.norm2 = _fold(module.conv1, module.norm2)
            else:
                module.norm1 = _fold(module.conv1, module.norm1)
                module.norm2 = _fold(module.conv2, module.norm2)
            if module.shortcut is not None:
                module.shortcut = nn.Sequential(module.shortcut[0], _fold(module.shortcut[0], module.shortcut[1]))
        for convolution, norm in getattr(module, "folds", ()):  # what a network says of itself
            setattr(module, norm, _fold(getattr(module, convolution), getattr(module, norm)))
    return network.requires_grad_(False)


def prepare_for_inference(network: nn.Module, device: torch.device, precision: torch.dtype) -> nn.Module:
    """Folded, channels-last, the convolutional part in ``precision``; pooling and what follows stay float32."""
    network = fold_batch_norm(network).to(device, memory_format=torch.channels_last)
    for name in network.convolutional:
        getattr(network, name).to(precision)
    return network
