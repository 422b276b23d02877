"""Every architecture trains: a few steps of a narrow one, as train-model runs it."""

import dataclasses

import pytest
import torch

from speakerkit.config import AugmentationConfig, ModelConfig
from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.training import train

SMALL = {"base_channels": 4, "num_blocks": (1, 1, 1, 1), "embedding_dim": 16}
NARROW = {
    "resnet50": ModelConfig(**SMALL, architecture="resnet50"),
    "resnet_speechbrain": ModelConfig(**SMALL, architecture="resnet_speechbrain", std_floor=1e-5),
    "campplus": ModelConfig(**(SMALL | {"num_blocks": (2, 2, 1)}), architecture="campplus", std_floor=0.0),
    "ecapa": ModelConfig(architecture="ecapa", base_channels=16, num_blocks=(2,), embedding_dim=16),
    "ecapa_speechbrain": ModelConfig(architecture="ecapa_speechbrain", base_channels=16, num_blocks=(2,),
                                     embedding_dim=16),
    "eres2net": ModelConfig(**SMALL, architecture="eres2net", std_floor=1e-8),
    "res2net": ModelConfig(**SMALL, architecture="res2net", std_floor=1e-8),
    "resnet34_sp_l2reg": ModelConfig(**SMALL, architecture="resnet34_sp_l2reg", std_floor=1e-12),
    "eres2netv2": ModelConfig(**SMALL, architecture="eres2netv2", std_floor=1e-8),
}


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
