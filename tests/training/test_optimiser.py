import pytest
import torch
from torch import nn

from speakerkit.config import TrainingConfig
from speakerkit.training.optimiser import make_optimiser


def one_step(**options):
    """Weight and bias after one step from 1.0 with a gradient of 0: what the decay alone does."""
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    config = TrainingConfig(learning_rate=0.1, final_learning_rate=0.1, momentum=0.0, **options)
    optimiser = make_optimiser([layer], config)
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 1), torch.zeros(1)
    optimiser.step()
    return layer.weight.item(), layer.bias.item()


def test_sgd_decays_all_and_l2_only_matrices():
    assert one_step(optimizer="sgd", weight_decay=0.5) == pytest.approx((0.95, 0.95))  # 1 - 0.1 * 0.5
    assert one_step(optimizer="sgd", weight_decay=0.0, l2=0.5) == pytest.approx((0.95, 1.0))


def test_adam_decays_decoupled_and_l2_goes_through_its_moments():
    assert one_step(optimizer="adam", weight_decay=0.5) == pytest.approx((0.95, 0.95))
    # Coupled: the gradient 0.5 is normalised to a step of the whole learning rate.
    assert one_step(optimizer="adam", weight_decay=0.0, l2=0.5) == pytest.approx((0.9, 1.0), abs=1e-6)


def test_adam_refuses_both():
    with pytest.raises(ValueError, match="l2 and weight_decay are both set"):
        one_step(optimizer="adam", weight_decay=0.1, l2=0.1)
