"""A training directory of real speech and a network that trains on it in seconds."""

import json

import pytest

from speakerkit.config import (
    AugmentationConfig,
    FbankConfig,
    LossConfig,
    ModelConfig,
    SystemConfig,
    TrainingConfig,
    as_dict,
)


@pytest.fixture
def train_dir(tmp_path, speech_wav_scp):
    """Four speakers, four recordings each: wav.scp and utt2spk."""
    speech_wav_scp(tmp_path / "train", speakers=4, recordings=4)
    return tmp_path / "train"


@pytest.fixture
def make_system():
    """``make_system(num_steps=8)`` is a whole system of a tiny network; keywords go to [training]."""

    def make(augmentation: AugmentationConfig | None = None, **training) -> SystemConfig:
        options = {"num_steps": 12, "batch_size": 4, "chunk_frames": 40, "learning_rate": 0.02, "average_from": 0.5}
        options |= {"final_learning_rate": 1e-3, "log_interval": 4, "checkpoint_interval": 4, "valid_interval": 6}
        return SystemConfig(
            fbank=FbankConfig(num_mel_bins=24),
            model=ModelConfig(embedding_dim=16, base_channels=4, num_blocks=(1, 1, 1, 1)),
            loss=LossConfig(margin=0.1, margin_start=0.2, margin_end=0.6),
            training=TrainingConfig(**(options | training)),
            augmentation=augmentation or AugmentationConfig(speeds=(0.9, 1.0), noise=0.5, reverberation=0.5),
        )

    return make


@pytest.fixture
def toml():
    """``toml(system)`` is the text of a configuration file of it."""

    def value(v) -> str:
        return json.dumps(v) if not isinstance(v, list) else "[" + ", ".join(map(value, v)) + "]"

    def make(system: SystemConfig) -> str:
        return "".join(f"[{section}]\n" + "".join(f"{k} = {value(v)}\n" for k, v in options.items())
                       for section, options in as_dict(system).items())

    return make
