"""Every architecture trains: a few steps of a narrow one, as train-model runs it."""

import dataclasses

import pytest
import torch

from speakerkit.config import AugmentationConfig, ModelConfig
from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.training import train

NARROW = {"campplus": ModelConfig(architecture="campplus", base_channels=4, num_blocks=(2, 2, 1), embedding_dim=16,
                                  std_floor=0.0)}


@pytest.mark.parametrize("name", NARROW)
def test_two_steps(train_dir, make_system, tmp_path, name):
    system = make_system(AugmentationConfig(speeds=(1.0,)), num_steps=2, log_interval=1, checkpoint_interval=2,
                         average_from=1.0)
    system = dataclasses.replace(system, model=NARROW[name])
    report = {}
    options = train.TrainOptions(device="cpu", precision="float32", nj=1, show=False)
    train.train_model(train_dir, tmp_path / "exp", system, options, AudioOptions(), lambda total: 0, report)
    model = model_file.load_model(tmp_path / "exp" / "model.safetensors")  # meets its golden vector
    assert model.info.model == NARROW[name]
    assert all(torch.isfinite(tensor).all() for tensor in model.network.state_dict().values())
