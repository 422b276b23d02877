"""A network by its authors' own code with drawn weights: the checkpoint as its trainer leaves it, and its embeddings.

Run by the peers' python. FOLDER gets the checkpoint with its configuration and theirs.npz: 'float32/<utt-id>', and
'float64/<utt-id>' by the same network in float64 on the same float32 features. WEIGHTS: initial (as the code draws
them), golden (the rule of tests/golden/README.md), heard (batch norm has heard 200 frames of each line of HEARD.scp).
usage: peer_checkpoints.py NAME WEIGHTS FOLDER wav.scp HEARD.scp [CHECKOUT...]
"""

import importlib
import json
import sys
import types
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

HEARD_FRAMES = 200


def _wespeaker(module: str, name: str, dim: int, **options) -> tuple[str, str, str, dict]:
    return "wespeaker", f"wespeaker.models.{module}", name, {"feat_dim": 80, "embed_dim": dim} | options


def _simam(name: str) -> tuple[str, str, str, dict]:
    options = {"in_planes": 64, "embed_dim": 256, "acoustic_dim": 80, "dropout": 0}
    return "wespeaker", "wespeaker.models.samresnet", name, options


def _3dspeaker(module: str, name: str, **options) -> tuple[str, str, str, dict]:
    return "3dspeaker", f"speakerlab.models.{module}", name, options


def _speechbrain(name: str, **options) -> tuple[str, str, str, dict]:
    return "speechbrain", f"speechbrain.lobes.models.{name}", name, {"input_size": 80} | options


# name -> source, module, class, its arguments
NETWORKS = {
    **{f"wespeaker-resnet{depth}": _wespeaker("resnet", f"ResNet{depth}", 256, pooling_func="TSTP", two_emb_layer=False)
       for depth in (18, 34, 50, 101, 152, 221, 293)},
    "wespeaker-ecapa512": _wespeaker("ecapa_tdnn", "ECAPA_TDNN_GLOB_c512", 192, pooling_func="ASTP"),
    "wespeaker-ecapa1024": _wespeaker("ecapa_tdnn", "ECAPA_TDNN_GLOB_c1024", 192, pooling_func="ASTP"),
    "wespeaker-campplus": _wespeaker("campplus", "CAMPPlus", 512, pooling_func="TSTP"),
    "wespeaker-simam34": _simam("SimAM_ResNet34_ASP"),
    "wespeaker-simam100": _simam("SimAM_ResNet100_ASP"),
    "3dspeaker-resnet34": _3dspeaker("resnet.ResNet", "ResNet", feat_dim=80, embedding_size=192, two_emb_layer=True),
    "3dspeaker-campplus": _3dspeaker("campplus.DTDNN", "CAMPPlus", feat_dim=80, embedding_size=512),
    "3dspeaker-eres2net": _3dspeaker("eres2net.ERes2Net", "ERes2Net", feat_dim=80, embedding_size=192, m_channels=32),
    "3dspeaker-eres2net-large": _3dspeaker("eres2net.ERes2Net", "ERes2Net", feat_dim=80, embedding_size=512,
                                           m_channels=64),
    "3dspeaker-eres2netv2": _3dspeaker("eres2net.ERes2NetV2", "ERes2NetV2", feat_dim=80, embedding_size=192,
                                       m_channels=64),
    "3dspeaker-ecapa": _3dspeaker("ecapa_tdnn.ECAPA_TDNN", "ECAPA_TDNN", input_size=80, lin_neurons=192),
    "speechbrain-ecapa": _speechbrain("ECAPA_TDNN", channels=[1024, 1024, 1024, 1024, 3072],
                                      kernel_sizes=[5, 3, 3, 3, 1], dilations=[1, 2, 3, 4, 1], attention_channels=128,
                                      lin_neurons=192),
    "speechbrain-resnet": _speechbrain("ResNet", channels=[128, 128, 256, 256], strides=[1, 2, 2, 2],
                                       block_sizes=[3, 4, 6, 3], lin_neurons=256),
}


def _kaldi(samples: torch.Tensor, **options) -> torch.Tensor:
    import torchaudio.compliance.kaldi

    fbank = torchaudio.compliance.kaldi.fbank
    features = fbank(samples, num_mel_bins=80, sample_frequency=16000, dither=0.0, **options)
    return (features - features.mean(dim=0))[None]


def _speechbrain_features(samples: torch.Tensor) -> torch.Tensor:
    from speechbrain.lobes.features import Fbank
    from speechbrain.processing.features import InputNormalization

    return InputNormalization(norm_type="sentence", std_norm=False)(Fbank(n_mels=80)(samples), torch.ones(1))


# source -> (1, num_samples) in [-1, 1] to (1, num_frames, 80), as the peer's extraction has it
FEATURES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "wespeaker": lambda samples: _kaldi(samples * 32768, window_type="hamming"),
    "3dspeaker": _kaldi,
    "speechbrain": _speechbrain_features,
}


def read_features(path: str, source: str) -> dict[str, torch.Tensor]:
    """utt_id -> features of every line of a wav.scp."""
    entries = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return {key: FEATURES[source](torch.from_numpy(soundfile.read(name, dtype="float32")[0])[None])
            for key, name in entries}


def draw_weights(network: nn.Module) -> None:
    """Every tensor by its key: see tests/golden/README.md."""
    for key, tensor in network.state_dict().items():
        rng, shape = np.random.default_rng(zlib.crc32(key.encode())), tuple(tensor.shape)
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var"):
            drawn = rng.uniform(0.5, 1.5, shape)
        elif key.endswith(("running_mean", "bias")):
            drawn = (0.05 if key.endswith("bias") else 0.1) * rng.standard_normal(shape)
        elif len(shape) == 1:
            drawn = rng.uniform(0.8, 1.2, shape)
        else:
            drawn = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        tensor.copy_(torch.from_numpy(np.asarray(drawn)))


def hear(network: nn.Module, features: list[torch.Tensor]) -> None:
    """Batch norm takes its statistics from one batch; shorter recordings begin anew."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    rows = [x.repeat(1, 1 + HEARD_FRAMES // x.shape[1], 1)[:, :HEARD_FRAMES] for x in features]
    network.train()(torch.cat(rows))
    network.eval()


def write_checkpoint(folder: Path, name: str, network: nn.Module) -> None:
    """The files that import-model is given: a folder, or for SpeechBrain embedding_model.ckpt in it."""
    source, module, kind, options = NETWORKS[name]
    state = network.state_dict()
    if source == "wespeaker":
        fbank = {"num_mel_bins": 80, "frame_shift": 10, "frame_length": 25, "dither": 1.0}
        config = {"model": kind, "model_args": options,
                  "dataset_args": {"resample_rate": 16000, "cmvn": True, "frontend": "fbank", "fbank_args": fbank}}
        torch.save(state | {"projection.weight": torch.randn(30, options["embed_dim"])}, folder / "avg_model.pt")
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    elif source == "3dspeaker":
        epoch = folder / "models" / "CKPT-EPOCH-1-00"
        epoch.mkdir(parents=True, exist_ok=True)
        torch.save(state, epoch / "embedding_model.ckpt")
        (epoch / "CKPT.yaml").write_text("unixtime: 1.0\nepoch: 1\n", encoding="utf-8")
        fbank = {"obj": "speakerlab.process.processor.FBank",
                 "args": {"n_mels": 80, "sample_rate": 16000, "mean_nor": True}}
        config = {"sample_rate": 16000, "num_epoch": 1, "feature_extractor": fbank,
                  "embedding_model": {"obj": f"{module}.{kind}", "args": options}}
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    else:
        torch.save(state, folder / "embedding_model.ckpt")
        lines = ["compute_features: !new:speechbrain.lobes.features.Fbank", "    n_mels: 80",
                 "mean_var_norm: !new:speechbrain.processing.features.InputNormalization", "    norm_type: sentence",
                 "    std_norm: False", f"embedding_model: !new:{module}.{kind}",
                 *(f"    {key}: {value}" for key, value in options.items())]
        (folder / "hyperparams.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def embed(network: nn.Module, features: dict[str, torch.Tensor], precision: torch.dtype) -> dict[str, np.ndarray]:
    """'<precision>/<utt-id>' -> the embedding: the last of what a network gives."""
    network.to(precision)
    found = {}
    for key, x in features.items():
        given = network(x.to(precision))
        embedding = given[-1] if isinstance(given, tuple) else given
        found[f"{str(precision).removeprefix('torch.')}/{key}"] = embedding.ravel().numpy()
    return found


@torch.no_grad()
def main(name: str, weights: str, place: str, wav_scp: str, heard_scp: str, *checkouts: str) -> None:
    for checkout in checkouts:  # a package's own __init__ may need more than its networks do
        for package in ("wespeaker", "speakerlab"):
            if (Path(checkout) / package).is_dir():
                sys.modules[package] = types.ModuleType(package)
                sys.modules[package].__path__ = [str(Path(checkout) / package)]
    source, module, kind, options = NETWORKS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    network = getattr(importlib.import_module(module), kind)(**options).eval()
    if weights == "golden":
        draw_weights(network)
    elif weights == "heard":
        hear(network, list(read_features(heard_scp, source).values()))
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder, name, network)
    features = read_features(wav_scp, source)
    theirs, exact = (embed(network, features, precision) for precision in (torch.float32, torch.float64))
    np.savez(folder / "theirs.npz", **theirs, **exact)


if __name__ == "__main__":
    main(*sys.argv[1:])
