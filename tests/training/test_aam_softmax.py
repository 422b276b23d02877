import math

import pytest
import torch
import torch.nn.functional as F

from speakerkit.training.aam_softmax import AamSoftmax


def make_loss(num_classes=3, dim=2, scale=1.0):
    return AamSoftmax(dim, num_classes, scale, torch.Generator().manual_seed(1))


def test_loss_by_hand():
    # Classes at 0 and 90 degrees, x at 30 degrees, label 0, margin 15 degrees: logits cos 45, cos 60.
    loss = make_loss(num_classes=2, scale=4.0)
    loss.weight.data = torch.tensor([[2.0, 0.0], [0.0, 0.5]])  # lengths don't matter
    x = 7.0 * torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    value, accuracy = loss(x, torch.tensor([0]), math.pi / 12)
    own, other = 4 * math.cos(math.pi / 4), 4 * math.cos(math.pi / 3)
    assert value.item() == pytest.approx(math.log(math.exp(own) + math.exp(other)) - own, abs=1e-6)
    assert accuracy.item() == 1.0


def test_without_margin_it_is_cross_entropy_of_scaled_cosines():
    loss = make_loss(num_classes=5, dim=8, scale=32.0)
    x, labels = torch.randn(6, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 2, 3, 4, 0])
    plain = F.cross_entropy(32.0 * F.normalize(x) @ F.normalize(loss.weight).T, labels)
    torch.testing.assert_close(loss(x, labels, 0.0)[0], plain)


@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_gradient_is_finite_where_the_sine_is_zero(cosine):
    loss = make_loss(num_classes=2)
    x = (cosine * loss.weight.data[:1]).clone().requires_grad_()
    loss(x, torch.tensor([0]), 0.2)[0].backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(loss.weight.grad).all()


def test_target_logit_is_continuous_and_falls_with_the_angle():
    # Sweep the angle to the own class over 0..180 degrees; the loss must rise without a jump.
    loss = make_loss(num_classes=2, scale=1.0)
    loss.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # the other class is always at 90 degrees
    angles = torch.linspace(0.01, math.pi - 0.01, 2000)
    values = [loss(torch.tensor([[math.cos(a), math.sin(a), 0.0]]), torch.tensor([0]), 0.5)[0].item() for a in angles]
    steps = torch.tensor(values).diff()
    assert (steps > -1e-6).all() and steps.max() < 0.005  # 2000 steps over a range of about 1.3


def test_bfloat16_input_gives_a_float32_loss():
    loss = make_loss()
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(torch.randn(4, 2).bfloat16(), torch.tensor([0, 1, 2, 0]), 0.1)[0].dtype == torch.float32
