"""The peers that this machine has: packages of the peers' environment, and checkouts that the user names."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "programs"
CHECKOUTS = {"wespeaker": "wespeaker/bin/extract.py", "3dspeaker": "speakerlab/bin/extract.py"}
TITLES = {"wespeaker": "WeSpeaker", "3dspeaker": "3D-Speaker"}
# package on PyPI -> what is imported to see whether it works
PACKAGES = {
    "torch": "torch", "torchaudio": "torchaudio", "kaldi-native-fbank": "kaldi_native_fbank", "lhotse": "lhotse",
    "sherpa-onnx": "sherpa_onnx", "speechbrain": "speechbrain", "resemblyzer": "resemblyzer",
    "wespeaker-unofficial": "wespeaker", "speakerlab": "speakerlab", "scikit-learn": "sklearn",
}
_PROBE = """
import importlib, importlib.metadata, json, sys
found = {}
for package, module in json.loads(sys.argv[1]).items():
    try:
        version = importlib.metadata.version(package)
        importlib.import_module(module)
        found[package] = [version, ""]
    except importlib.metadata.PackageNotFoundError:
        found[package] = ["", "not installed"]
    except Exception as error:
        found[package] = ["", f"doesn't import: {type(error).__name__}: {error}".splitlines()[0]]
print("\\n" + json.dumps(found))
"""


@dataclass(frozen=True)
class Peers:
    """Where the peers are."""

    python: Path | None  # of their environment
    versions: dict[str, str] = field(default_factory=dict)  # of the packages that import
    missing: dict[str, str] = field(default_factory=dict)  # why the others don't
    checkouts: dict[str, Path] = field(default_factory=dict)

    def has(self, *packages: str) -> bool:
        """Whether all of these import in the peers' environment."""
        return all(package in self.versions for package in packages)

    def describe(self) -> list[str]:
        """A line for each peer."""
        lines = [f"{package} {version}" for package, version in self.versions.items()]
        lines += [f"{TITLES[name]}: checkout {_revision(path)}" for name, path in self.checkouts.items()]
        return lines + [f"{package}: {why}" for package, why in self.missing.items()]


def find_peers(python: Path | None, named: list[str]) -> Peers:
    """Look what works.

    Args:
        python: the interpreter of the peers' environment, or None.
        named: --peer-dir values, 'wespeaker=DIR' or '3dspeaker=DIR'.
    """
    checkouts = {}
    for value in named:
        name, _, folder = value.partition("=")
        if name not in CHECKOUTS:
            raise SystemExit(f"run_benchmarks.py: --peer-dir {value}: want wespeaker=DIR or 3dspeaker=DIR")
        path = Path(folder).resolve()
        if not (path / CHECKOUTS[name]).is_file():
            raise SystemExit(f"run_benchmarks.py: --peer-dir {value}: {path} has no {CHECKOUTS[name]}")
        checkouts[name] = path
    if python is None:
        return Peers(None, checkouts=checkouts, missing=dict.fromkeys(PACKAGES, "no environment of peers"))
    result = subprocess.run([python, "-c", _PROBE, json.dumps(PACKAGES)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"run_benchmarks.py: {python}: {(result.stderr.strip().splitlines() or ['does not run'])[-1]}")
    found = json.loads(result.stdout.strip().splitlines()[-1])
    versions = {package: version for package, (version, why) in found.items() if not why}
    missing = {package: why for package, (_, why) in found.items() if why}
    for package, why in missing.items():
        print(f"{package}: {why}", file=sys.stderr)
    return Peers(python, versions, missing, checkouts)


def _revision(path: Path) -> str:
    if not (path / ".git").exists():
        return "without history"
    result = subprocess.run(["git", "-C", path, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False)
    return result.stdout.strip() or "without history"


def write_wespeaker_config(folder: Path, raw_list: Path, model: Path, embed_ark: Path) -> Path:
    """The YAML (JSON is YAML) that WeSpeaker's extract.py takes, for the network of programs/make_network.py."""
    config = {
        "model": "ResNet34", "model_path": str(model), "embed_ark": str(embed_ark), "data_type": "raw",
        "data_list": str(raw_list), "batch_size": 1, "num_workers": 1,
        "model_args": {"feat_dim": 80, "embed_dim": 256, "pooling_func": "TSTP", "two_emb_layer": False},
        "dataset_args": {"resample_rate": 16000, "cmvn": True,
                         "fbank_args": {"num_mel_bins": 80, "frame_shift": 10, "frame_length": 25, "dither": 0.0}},
    }
    path = folder / f"{raw_list.stem}.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def write_3dspeaker_experiment(folder: Path, model: Path) -> Path:
    """The experiment folder that 3D-Speaker's extract.py takes: config.yaml and a checkpoint."""
    checkpoint = folder / "models" / "CKPT-EPOCH-1-00"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "CKPT.yaml").write_text("unixtime: 1.0\nepoch: 1\n", encoding="utf-8")
    (checkpoint / "embedding_model.ckpt").write_bytes(model.read_bytes())
    config = {
        "sample_rate": 16000, "num_epoch": 1,
        "embedding_model": {"obj": "speakerlab.models.resnet.ResNet.ResNet",
                            "args": {"feat_dim": 80, "embedding_size": 256, "pooling_func": "TSTP",
                                     "two_emb_layer": False}},
        "feature_extractor": {"obj": "speakerlab.process.processor.FBank",
                              "args": {"n_mels": 80, "sample_rate": 16000, "mean_nor": True}},
        "checkpointer": {"obj": "speakerlab.utils.checkpoint.Checkpointer",
                         "args": {"checkpoints_dir": "", "recoverables": {}}},
    }
    (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    return folder
