"""Every configuration of conf/ trains: two steps of its network made narrow, as train-model runs it."""

import dataclasses
from pathlib import Path

import pytest
import torch

from speakerkit.config import ARCHITECTURES, SystemConfig, read_system
from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.training import train

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
SYSTEMS = {path.stem: read_system(path) for path in sorted(CONF.glob("*.toml"))}
WITHOUT_CONF = {"eres2netv2_w24s4ep4": "eres2netv2"}  # architecture -> the configuration it is trained with


def narrow(system: SystemConfig, architecture: str) -> SystemConfig:
    """The same with one block of few channels a stage, for two steps of two short chunks; no teacher."""
    blocks = (1,) * len(ARCHITECTURES[architecture][1])
    model = dataclasses.replace(system.model, architecture=architecture, base_channels=8, num_blocks=blocks,
                                embedding_dim=16, pooled_channels=0)
    steps = {"num_steps": 2, "batch_size": 2, "chunk_frames": 40, "log_interval": 1, "checkpoint_interval": 2}
    return dataclasses.replace(system, model=model, training=dataclasses.replace(system.training, **steps),
                               loss=dataclasses.replace(system.loss, teacher_weight=0.0))


def test_every_architecture_is_among_them():
    assert {system.model.architecture for system in SYSTEMS.values()} | WITHOUT_CONF.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", [*SYSTEMS, *WITHOUT_CONF])
def test_two_steps(train_dir, tmp_path, name):
    whole = SYSTEMS[WITHOUT_CONF.get(name, name)]
    system = narrow(whole, name if name in WITHOUT_CONF else whole.model.architecture)
    report = {}
    options = train.TrainOptions(device="cpu", precision="float32", nj=1, show=False)
    train.train_model(train_dir, tmp_path / "exp", system, options, AudioOptions(), lambda total: 0, report)
    model = model_file.load_model(tmp_path / "exp" / "model.safetensors")  # meets its golden vector
    assert model.info.model == system.model
    assert all(torch.isfinite(tensor).all() for tensor in model.network.state_dict().values())
