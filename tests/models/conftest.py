"""One thread for small tensors, and a small network of each kind."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from speakerkit.config import ModelConfig
from speakerkit.models import resnet

SMALL = {"base_channels": 4, "num_blocks": (1, 1, 1, 1), "embedding_dim": 16}
KINDS = {
    "resnet34": ModelConfig(**SMALL),
    "two layers": ModelConfig(**SMALL, two_embedding_layers=True, std_floor=1e-8),
    "reference": ModelConfig(**SMALL, architecture="resnet34_reference", std_floor=1e-12),
}


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_small_network() -> Callable[..., nn.Module]:
    """``make_small_network("reference", bins=24)``: evaluation mode, drawn weights, batch norm that does something."""

    def make(kind: str = "resnet34", bins: int = 24, seed: int = 1) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        network = resnet.make_network(KINDS[kind], bins)
        resnet.initialise(network, generator)
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                if module.affine:
                    nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
                    nn.init.normal_(module.bias, 0, 0.05, generator=generator)
        return network.eval().requires_grad_(False)

    return make


@pytest.fixture(params=KINDS)
def small_network(request, make_small_network) -> nn.Module:
    """A small network of each kind, on 24 mel bins."""
    return make_small_network(request.param)
