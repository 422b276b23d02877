"""One thread for small tensors, and a small network of each kind."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from speakerkit.config import ModelConfig

SMALL = {"base_channels": 4, "num_blocks": (1, 1, 1, 1), "embedding_dim": 16}
KINDS = {
    "resnet34": ModelConfig(**SMALL),
    "two layers": ModelConfig(**SMALL, two_embedding_layers=True, std_floor=1e-8),
    "reference": ModelConfig(**SMALL, architecture="resnet34_reference", std_floor=1e-12),
    "campplus": ModelConfig(**(SMALL | {"num_blocks": (2, 2, 2)}), architecture="campplus", std_floor=0.0),
    "bottleneck": ModelConfig(**SMALL, architecture="resnet50"),
    "ecapa": ModelConfig(**(SMALL | {"base_channels": 16, "num_blocks": (2,)}), architecture="ecapa"),
    "ecapa_speechbrain": ModelConfig(**(SMALL | {"base_channels": 16, "num_blocks": (2,)}), std_floor=1e-12,
                                     architecture="ecapa_speechbrain"),
    "eres2net": ModelConfig(**SMALL, architecture="eres2net", std_floor=1e-8),
    "eres2netv2": ModelConfig(**SMALL, architecture="eres2netv2", std_floor=1e-8),
    "eres2net two layers": ModelConfig(**SMALL, architecture="eres2net", two_embedding_layers=True),
    "res2net": ModelConfig(**SMALL, architecture="res2net"),
    "sp_l2reg": ModelConfig(**SMALL, architecture="resnet34_sp_l2reg", std_floor=1e-12),
    "attention": ModelConfig(**SMALL, pooling="attention"),
    "mean": ModelConfig(**SMALL, pooling="mean", two_embedding_layers=True),
    "deviation": ModelConfig(**SMALL, architecture="resnet50", pooling="deviation"),
    "ecapa_norm": ModelConfig(**(SMALL | {"base_channels": 16, "num_blocks": (2,)}), architecture="ecapa",
                              embedding_norm=True),
    "simam": ModelConfig(**SMALL, architecture="simam_resnet34", std_floor=1e-5),
    "resnet_speechbrain": ModelConfig(**SMALL, architecture="resnet_speechbrain", std_floor=1e-5),
}


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_small_network(draw_network) -> Callable[..., nn.Module]:
    """``make_small_network("reference", bins=24)``: evaluation mode, drawn weights, batch norm that does something."""

    def make(kind: str = "resnet34", bins: int = 24, seed: int = 1) -> nn.Module:
        return draw_network(KINDS[kind], bins, seed)

    return make


@pytest.fixture(params=KINDS)
def small_network(request, make_small_network) -> nn.Module:
    """A small network of each kind, on 24 mel bins."""
    return make_small_network(request.param)


@pytest.fixture(scope="session")
def draw_features() -> Callable[..., torch.Tensor]:
    """``draw_features(frames, bins=80)``: the golden files' input of so many frames."""

    def draw(frames: int, bins: int = 80) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(frames).standard_normal((1, frames, bins)).astype(np.float32))

    return draw


@pytest.fixture(scope="session")
def check_padded_batch(draw_features) -> Callable[..., None]:
    """Each utterance alone and in the batch; what is padded with must not matter."""

    def check(network: nn.Module, lengths: list[int], bins: int, padding: int) -> None:
        batch = torch.full((len(lengths), max(lengths) + padding, bins), 3.7)
        for row, length in zip(batch, lengths, strict=True):
            row[:length] = draw_features(length, bins)[0]
        together = network(batch, torch.tensor(lengths))
        for embedding, row, length in zip(together, batch, lengths, strict=True):
            alone = network(row[None, :length])[0]
            assert torch.isfinite(alone).all()
            assert torch.cosine_similarity(embedding, alone, dim=0) >= 0.999999, length
            torch.testing.assert_close(embedding, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()))

    return check
