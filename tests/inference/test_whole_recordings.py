"""What a network sees whole is refused in one line where there is no memory for it."""

import numpy as np
import pytest

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import RecordingError
from speakerkit.inference import whole_recordings
from speakerkit.inference.backends import load_extractor
from speakerkit.inference.whole_recordings import check_room, memory_available, memory_needed
from speakerkit.models import model_file


def test_the_memory_by_hand():
    assert memory_needed(ModelConfig(architecture="campplus", base_channels=32), 3600) == 6 * 3600
    assert memory_needed(ModelConfig(architecture="ecapa", base_channels=512), 60) == 14 * 60 / 2
    assert 100 < memory_available() < 1 << 24


def test_only_what_does_not_fit_is_refused(monkeypatch):
    config = ModelConfig(architecture="campplus", base_channels=32)
    monkeypatch.setattr(whole_recordings, "memory_available", lambda: 6000.0)
    check_room(config, 1000.0)
    with pytest.raises(RecordingError, match=r"too-long: 1100 s; campplus sees a recording whole and may take 6\.4 GB "
                                             r"of memory for it, 5\.9 GB are there; want a part of it \(--segments\)"):
        check_room(config, 1100.0)
    monkeypatch.setattr(whole_recordings, "memory_available", lambda: None)
    check_room(config, 1e6)


@pytest.mark.parametrize("architecture, refused", [("campplus", True), ("resnet34", False)])
def test_an_extractor_asks_where_it_matters(tmp_path, draw_network, monkeypatch, architecture, refused):
    blocks = (1, 1, 1) if architecture == "campplus" else (1, 1, 1, 1)
    config = ModelConfig(architecture=architecture, base_channels=4, num_blocks=blocks, embedding_dim=16)
    info = model_file.ModelInfo("m", config, FbankConfig(num_mel_bins=24))
    model_file.save_model(tmp_path / "m.safetensors", draw_network(config, 24), info)
    extractor = load_extractor(tmp_path / "m.safetensors", "cpu", "float32", "torch")
    monkeypatch.setattr(whole_recordings, "memory_available", lambda: 10.0)
    samples = 0.1 * np.random.default_rng(1).standard_normal(24 * 16000).astype(np.float32)
    assert extractor.embed_samples(samples[:32000], 16000).shape == (16,)
    if refused:
        with pytest.raises(RecordingError, match="too-long: 24 s; campplus sees a recording whole"):
            extractor.embed_samples(samples, 16000)
    else:
        assert extractor.embed_samples(samples, 16000).shape == (16,)
