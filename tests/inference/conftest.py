"""Small models of each kind that the exporter writes down itself, as files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.inference import onnx_export
from speakerkit.models import model_file
from speakerkit.models.golden import prepare_features

SMALL = {"base_channels": 4, "num_blocks": (2, 1, 1, 1), "embedding_dim": 16}
KINDS = {
    "resnet34": ModelConfig(**SMALL),
    "two layers": ModelConfig(**SMALL, two_embedding_layers=True, std_floor=1e-8),
    "reference": ModelConfig(**SMALL, architecture="resnet34_reference", std_floor=1e-12),
    "sibling": ModelConfig(**SMALL, architecture="resnet34_sp_l2reg", std_floor=1e-12),
    "bottleneck": ModelConfig(**SMALL, architecture="resnet50"),
    "no mean": ModelConfig(**SMALL, mean_norm=False),
}
BINS = 25  # odd: "same" padding lies otherwise than with an even number


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory, draw_network) -> dict[str, Path]:
    """kind -> a .safetensors file."""
    folder, fbank = tmp_path_factory.mktemp("models"), FbankConfig(num_mel_bins=BINS)
    for kind, config in KINDS.items():
        info = model_file.ModelInfo(kind, config, fbank, domain="test rooms", threshold=0.25)
        model_file.save_model(folder / f"{kind}.safetensors", draw_network(config, BINS), info)
    return {kind: folder / f"{kind}.safetensors" for kind in KINDS}


@pytest.fixture(scope="session")
def graphs(models) -> dict[str, Path]:
    """kind -> the same as .onnx."""
    for path in models.values():
        path.with_suffix(".onnx").write_bytes(onnx_export.to_onnx(model_file.load_model(path))[0])
    return {kind: path.with_suffix(".onnx") for kind, path in models.items()}


@pytest.fixture(scope="session")
def plain_embedding() -> Callable[[Path, np.ndarray], np.ndarray]:
    """``plain_embedding(path, samples)``: by the network as trained, batch norm and all, without padding."""

    def embed(path: Path, samples: np.ndarray) -> np.ndarray:
        loaded = model_file.load_model(path)
        with torch.no_grad():
            features = prepare_features(torch.from_numpy(samples), loaded.info.fbank, loaded.info.model)
            return loaded.network(features)[0].numpy()

    return embed


@pytest.fixture(scope="session")
def cosine() -> Callable[[np.ndarray, np.ndarray], float]:
    """``cosine(a, b)``, in float64."""

    def compute(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a.astype(np.float64), b.astype(np.float64)
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    return compute


@pytest.fixture(scope="session")
def utterances(speech_files) -> list:
    """Six recordings of as many speakers, up to 4 s, of lengths of every kind modulo a step."""
    whole = [soundfile.read(paths[0], dtype="float32", frames=64000)[0] for paths in list(speech_files.values())[:6]]
    return [samples[: len(samples) - 160 * cut - cut] for cut, samples in enumerate(whole)]
