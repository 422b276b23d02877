"""Every network by the name of its architecture: made, given first weights, counted."""

import importlib

import torch
from torch import nn

from speakerkit.config import ModelConfig

# architecture -> module of speakerkit.models, class
NETWORKS = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet221", "resnet293"),
                    ("resnet", "ResNet")),
    **dict.fromkeys(("resnet34_reference", "resnet34_sp_l2reg"), ("resnet", "ReferenceResNet34")),
    **dict.fromkeys(("simam_resnet34", "simam_resnet100"), ("simam", "SimamResNet")),
    "resnet_speechbrain": ("resnet_speechbrain", "SpeechBrainResNet"),
    "campplus": ("campplus", "CamPlusPlus"),
    **dict.fromkeys(("ecapa", "ecapa_speechbrain"), ("ecapa", "Ecapa")),
    **dict.fromkeys(("eres2net", "eres2net_huge", "eres2netv2", "eres2netv2_w24s4ep4"), ("eres2net", "ERes2Net")),
    "res2net": ("eres2net", "Res2Net"),
}


def make_network(config: ModelConfig, num_mel_bins: int) -> nn.Module:
    """The network that ``config.architecture`` names, with weights as torch leaves them."""
    module, name = NETWORKS[config.architecture]
    return getattr(importlib.import_module(f"speakerkit.models.{module}"), name)(config, num_mel_bins)


def outline_network(config: ModelConfig, num_mel_bins: int) -> nn.Module:
    """The same without memory for its weights: names, shapes and counts of a network of any size."""
    with torch.device("meta"):
        return make_network(config, num_mel_bins)


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew: He normal by fan-out for convolutions (arXiv:1502.01852), uniform by fan-in for layers."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """(learnable parameters, the same with batch norm's running statistics)."""
    parameters = sum(p.numel() for p in network.parameters())
    running = sum(b.numel() for name, b in network.named_buffers() if not name.endswith("num_batches_tracked"))
    return parameters, parameters + running
