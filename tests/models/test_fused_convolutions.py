"""Convolutions fused with what follows them: the same embedding for any length, the plain network where that fails."""

import logging
import platform
import types

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from speakerkit.models.folding import prepare_for_inference
from speakerkit.models.fused_convolutions import Unpadded, fuse_convolutions, fuse_part

BINS = 24
CPU = torch.device("cpu")
LENGTHS = (1, 2, 7, 33, 64, 131, 200)
only_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="fused on x86-64 only")


def features_of(frames: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, frames, BINS, generator=torch.Generator().manual_seed(frames))


def graphs_of(network: nn.Module) -> list[fx.GraphModule]:
    return [module.graph for module in network.modules() if isinstance(module, Unpadded)]


def operations_of(graph: fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


@torch.inference_mode()
def test_float32_is_the_plain_network(small_network):
    plain = prepare_for_inference(small_network, CPU, torch.float32)
    fused = fuse_convolutions(plain, BINS)
    for frames in LENGTHS:
        features = features_of(frames)
        found, wanted = fused(features), small_network(features)
        assert torch.cosine_similarity(found, wanted).min() > 0.999999, frames
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@torch.inference_mode()
def test_bfloat16_is_as_near_as_unfused(small_network):
    """Drawn weights, few channels: rounding moves an embedding more than in a real network."""
    plain = prepare_for_inference(small_network, CPU, torch.bfloat16)
    fused = fuse_convolutions(plain, BINS)
    for frames in LENGTHS[3:]:
        features = features_of(frames)
        exact = small_network(features)
        lost, lost_before = (1 - float(torch.cosine_similarity(network(features.bfloat16()), exact))
                             for network in (fused, plain))
        assert lost < 2 * lost_before + 1e-4, frames


@torch.inference_mode()
def test_a_padded_batch_takes_the_plain_road(small_network):
    plain = prepare_for_inference(small_network, CPU, torch.float32)
    features, lengths = features_of(61, batch=2), torch.tensor([61, 17])
    assert torch.equal(fuse_convolutions(plain, BINS)(features, lengths), plain(features, lengths))


@only_x86
@pytest.mark.parametrize("kind, sums, activations_left", [
    ("resnet34", 4, 0), ("two layers", 4, 0), ("bottleneck", 4, 0), ("campplus", 4, 0),
    ("reference", 4, 4), ("sp_l2reg", 4, 4),  # the first ReLU of each block follows a norm that follows a sum
    ("res2net", 4, 0), ("eres2net", 4, 0), ("eres2netv2", 4, 0),
])
def test_what_is_fused(make_small_network, kind, sums, activations_left):
    """A residual block's sum is made in the memory of what is added, and no convolution is left outside."""
    (graph,) = graphs_of(fuse_convolutions(prepare_for_inference(make_small_network(kind), CPU, torch.float32), BINS))
    called = operations_of(graph)
    assert called.count("mkldnn._convolution_pointwise_.binary") == sums
    assert not any("conv2d" in name for name in called) and "mkldnn._convolution_pointwise.binary" not in called
    assert sum("function relu" in name for name in called) == activations_left


@pytest.mark.parametrize("kind", ["ecapa", "ecapa_speechbrain", "resnet_speechbrain"])
def test_networks_of_one_dimension_and_those_that_ask_for_it_stay(make_small_network, kind):
    plain = prepare_for_inference(make_small_network(kind), CPU, torch.float32)
    assert fuse_convolutions(plain, BINS) is plain


@torch.inference_mode()
def test_the_network_stays_and_runs_are_independent(make_small_network):
    plain = prepare_for_inference(make_small_network(), CPU, torch.float32)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    features = features_of(50)
    given, fused = features.clone(), fuse_convolutions(plain, BINS)
    first = fused(features)
    fused(features_of(77))
    assert torch.equal(fused(features), first) and torch.equal(features, given)
    assert plain.state_dict().keys() == before.keys() and not graphs_of(plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())


class Twist(nn.Module):
    """What no residual block does: sums whose other half is read afterwards, is a view, or is the input."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.first, self.second, self.narrow = (nn.Conv2d(8, 8, size, padding=size // 2) for size in (3, 3, 1))
        self.padded = nn.Conv2d(8, 8, 1, padding=1)

    def forward(self, x: torch.Tensor, lengths: None = None) -> torch.Tensor:
        y = F.relu(self.first(x))
        if self.kind == "read later":
            return F.relu(self.second(y) + y) * y
        if self.kind == "read through a view":
            view = y[:, :, ::2]
            z = F.relu(self.second(y) + y)
            return z[:, :, ::2] * view
        if self.kind == "the input":
            return F.relu(self.second(y) + x)
        if self.kind == "of itself":
            z = self.second(y)
            return z + z
        if self.kind == "scaled":
            return torch.add(self.second(y), y, alpha=2)
        if self.kind == "broadcast":
            return self.second(y) + y.mean(dim=(2, 3), keepdim=True)
        if self.kind == "a number":
            return F.relu(self.second(y) + 1.0)
        if self.kind == "every second step of some":
            return self.narrow(y[:, :, 1::2, ::2]) + self.second(y)[:, :, 1::2, ::2]
        if self.kind == "every third step":
            return self.narrow(y[:, :, ::3, ::2])
        if self.kind == "every second step, padded":
            return self.padded(y[:, :, ::2, ::2])
        assert self.kind == "used twice"
        z = self.second(y)
        return F.relu(z) - z


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["read later", "read through a view", "the input", "of itself", "scaled", "broadcast",
                                  "a number", "every second step of some", "every third step",
                                  "every second step, padded", "used twice"])
def test_nothing_is_overwritten_that_is_needed(kind):
    torch.manual_seed(5)
    part = Twist(kind).eval()
    x = torch.randn(1, 8, 13, 10).contiguous(memory_format=torch.channels_last)
    given = x.clone()
    found = fuse_part(part, x[:, :, :8])(x)
    torch.testing.assert_close(found, part(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, given)


def test_without_the_operators_the_network_stays(make_small_network, monkeypatch):
    plain = prepare_for_inference(make_small_network(), CPU, torch.float32)
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())
    assert fuse_convolutions(plain, BINS) is plain


def test_on_another_processor_the_network_stays(make_small_network, monkeypatch):
    plain = prepare_for_inference(make_small_network(), CPU, torch.float32)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert fuse_convolutions(plain, BINS) is plain


def test_a_part_that_cannot_be_traced_stays(make_small_network, monkeypatch):
    plain = prepare_for_inference(make_small_network(), CPU, torch.float32)
    block = type(plain.trunk.blocks[0])
    forward = block.forward
    monkeypatch.setattr(block, "forward", lambda self, x, lengths=None: forward(self, x, lengths) if x.sum() else x)
    assert fuse_convolutions(plain, BINS) is plain


@only_x86
def test_operators_that_compute_wrongly_are_told(make_small_network, monkeypatch, caplog):
    plain = prepare_for_inference(make_small_network(), CPU, torch.float32)
    real = torch.ops.mkldnn
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace(
        _reorder_convolution_weight=lambda kernel, *layout: real._reorder_convolution_weight(kernel.flip(3), *layout),
        _convolution_pointwise=real._convolution_pointwise, _convolution_pointwise_=real._convolution_pointwise_))
    with caplog.at_level(logging.WARNING):
        assert fuse_convolutions(plain, BINS) is plain
    assert "convolutions aren't fused: with this torch they give another embedding, cosine" in caplog.text
