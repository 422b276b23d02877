"""Model files: one safetensors that holds the weights and, as metadata, all needed to run and judge them."""

import dataclasses
import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from speakerkit.config import FbankConfig, ModelConfig, as_dict, make_section
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import files, output
from speakerkit.models.golden import LEAST_COSINE, golden_embedding
from speakerkit.models.resnet import make_network

FORMAT = 1
METADATA_KEY = "speakerkit"
MOST_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of its weights."""

    name: str
    model: ModelConfig
    fbank: FbankConfig
    training_data: str = ""  # corpora, speakers, hours
    domain: str = ""  # the speech it is for
    licence: str = ""
    threshold: float | None = None  # cosine at or above which two recordings are taken as one speaker
    threshold_trials: str = ""  # the trials the threshold comes from, with their error rates
    calibration: dict | None = None  # score -> log-likelihood ratio: scale and offset
    training: dict = field(default_factory=dict)  # command, commit, seconds, steps, speakers, configuration
    results: dict = field(default_factory=dict)  # name of a trial list -> metrics
    weights_sha256: str = ""
    golden: tuple[float, ...] = ()

    @property
    def embedding_dim(self) -> int:
        """Values an embedding."""
        return self.model.embedding_dim


@dataclass(frozen=True)
class SpeakerModel:
    """A network in evaluation mode with what is known of it."""

    network: nn.Module
    info: ModelInfo
    path: str
    sha256: str  # of the whole file


def hash_weights(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_facts(facts: dict) -> str:
    """SHA-256 over a model file's metadata but for itself: a threshold with a flipped digit looks like any other."""
    others = {name: value for name, value in facts.items() if name != "facts_sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def model_tensors(network: nn.Module, half: bool = False) -> dict[str, torch.Tensor]:
    """The network's tensors as a model file holds them; batch norm stays float32, ``half`` makes the rest float16."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        tensor = tensor.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        tensors[name] = tensor.half() if half and tensor.dim() > 1 else tensor
    return tensors


def load_tensors(network: nn.Module, tensors: dict[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Put a file's tensors into the network, every name and shape checked.

    Raises:
        DataError: a missing or unexpected tensor, another shape, a value that isn't finite.
    """
    wanted = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    missing, unexpected = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unexpected:
        raise DataError(
            path,
            f"the weights don't fit the architecture: {len(missing)} missing {missing[:5]}, "
            f"{len(unexpected)} unexpected {unexpected[:5]}",
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise DataError(path, f"'{name}' has shape {list(tensor.shape)}; want {list(wanted[name].shape)}")
        if not torch.isfinite(tensor).all():
            raise DataError(path, f"'{name}' holds values that aren't finite")
    with torch.no_grad():
        for name, tensor in tensors.items():
            wanted[name].copy_(tensor)


def save_model(path: str | os.PathLike, network: nn.Module, info: ModelInfo, half: bool = False) -> ModelInfo:
    """Write a model file whole or not at all; the golden vector is that of the weights as stored.

    Returns:
        info with ``weights_sha256`` and ``golden`` filled in.
    """
    tensors = model_tensors(network, half)
    stored = make_network(info.model, info.fbank.num_columns).eval()
    load_tensors(stored, tensors, path)
    golden = golden_embedding(stored, info.fbank, info.model)
    info = dataclasses.replace(
        info, weights_sha256=hash_weights(tensors), golden=tuple(float(f"{v:.7g}") for v in golden)
    )
    facts = json.loads(json.dumps(as_dict(info) | {"format": FORMAT}, allow_nan=False))
    facts["facts_sha256"] = hash_facts(facts)
    data = safetensors.torch.save(
        tensors, metadata={METADATA_KEY: json.dumps(facts, ensure_ascii=False)}
    )
    with output.open_output(path) as stream:
        stream.write(data)
    return info


def _read_header(path: Path) -> dict:
    """The metadata, after checks that need no library: a file cut, padded or of another kind is told as such."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
            size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            text = stream.read(size) if 2 <= size <= MOST_HEADER_BYTES else b""
    except FileNotFoundError:
        raise DataError(path, "no such model file") from None
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}") from None
    if 0 < len(text) < size and text.startswith(b"{"):
        raise DataError(path, f"truncated: {len(text)} of {size} bytes of its header")
    if len(text) != size or not text.startswith(b"{"):
        raise DataError(path, f"is no model file (it starts with {head!r}); want a .safetensors made by speakerkit")
    try:
        facts = json.loads(json.loads(text)["__metadata__"][METADATA_KEY])
    except (ValueError, RecursionError):
        raise DataError(path, "truncated or damaged: the header is no JSON") from None
    except (KeyError, TypeError):
        raise DataError(
            path,
            "has no speakerkit metadata: features and architecture aren't known; "
            "convert it with import-model, or train one with train-model",
        ) from None
    if not isinstance(facts, dict):
        raise DataError(path, "damaged: its metadata is no JSON object")
    return facts


def read_info(path: str | os.PathLike) -> ModelInfo:
    """What a model file says of itself; the weights aren't read.

    Raises:
        DataError: not a model file, damaged, or made by a newer speakerkit.
    """
    facts = _read_header(Path(path))
    if facts.get("format") != FORMAT:
        raise DataError(path, f"is of format {facts.get('format')!r}; this speakerkit reads format {FORMAT}")
    if facts.get("facts_sha256", hash_facts(facts)) != hash_facts(facts):
        raise DataError(path, "damaged: its metadata doesn't have the SHA-256 it names")
    try:
        known = {f.name for f in dataclasses.fields(ModelInfo)}
        values = {k: v for k, v in facts.items() if k in known}
        _check_types(values)
        values["model"] = make_section(ModelConfig, facts["model"], path, "model")
        values["fbank"] = make_section(FbankConfig, facts["fbank"], path, "fbank")
        values["golden"] = tuple(float(v) for v in facts["golden"])
        return ModelInfo(**values)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(path, f"damaged: its metadata is incomplete: {error}") from None


def _check_types(facts: dict) -> None:
    """TypeError for a value that is no such thing; the sections check themselves."""
    for name, value in facts.items():
        if name == "threshold":
            right = value is None or (isinstance(value, (int, float)) and math.isfinite(value))
        elif name == "calibration":
            right = value is None or isinstance(value, dict)
        elif name in ("golden", "model", "fbank", "training", "results"):
            right = isinstance(value, list if name == "golden" else dict)
        else:
            right = isinstance(value, str)
        if not right:
            raise TypeError(f"'{name}' is {value!r}")


def load_model(path: str | os.PathLike, golden: bool = True) -> SpeakerModel:
    """Load a model file to the CPU, in float32 and evaluation mode; its weights' SHA-256 is checked.

    Args:
        path: the file.
        golden: also compute the golden vector and hold it against the stored one.

    Raises:
        DataError: not a model file, damaged, weights that don't fit or aren't those it names, a
            golden vector that isn't met.
    """
    path = os.fspath(path)
    info = read_info(path)
    try:
        data = Path(path).read_bytes()
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(path, f"truncated or damaged: {error}") from None
    if hash_weights(tensors) != info.weights_sha256:
        raise DataError(path, "damaged: its weights don't have the SHA-256 it names")
    network = make_network(info.model, info.fbank.num_columns)
    load_tensors(network, tensors, path)
    network.eval().requires_grad_(False)
    if golden:
        check_golden(network, info, path, "float32")
    return SpeakerModel(network, info, path, hashlib.sha256(data).hexdigest())


def check_golden(network: nn.Module, info: ModelInfo, path: str | os.PathLike, precision: str) -> float:
    """Cosine between the network's embedding of the golden signal and the stored one.

    Raises:
        DataError: it is below what the precision allows: damaged weights, or a machine that computes wrongly.
    """
    ours = golden_embedding(network, info.fbank, info.model).astype(np.float64)
    stored = np.array(info.golden)
    cosine = (
        float(ours @ stored / max(np.linalg.norm(ours) * np.linalg.norm(stored), 1e-30))
        if len(stored) == len(ours)
        else 0.0
    )
    if not cosine >= LEAST_COSINE[precision]:
        raise DataError(
            path,
            f"gives another embedding for its golden signal: cosine {cosine:.7f}; "
            f"want at least {LEAST_COSINE[precision]} in {precision}",
        )
    return cosine


def find_model(name: str | os.PathLike | None) -> Path:
    """The file that ``--model`` means.

    Args:
        name: a .safetensors file, an experiment folder (its model.safetensors), a bundled model's
            name, or None: $SPEAKERKIT_MODEL, else the bundled default.

    Raises:
        DataError: none of these.
    """
    source = "--model"
    if name is None:
        name, source = os.environ.get("SPEAKERKIT_MODEL"), "$SPEAKERKIT_MODEL"
    bundled = sorted((Path(__file__).parent.parent / "pretrained").glob("*.safetensors"))
    if not name:
        if bundled:
            return bundled[0]
        raise DataError("--model", "no model is bundled with this installation; name one")
    path = Path(name)
    if path.is_dir():
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        raise DataError(path, "is a folder without model.safetensors: training hasn't finished there")
    if path.is_file():
        return path
    for candidate in bundled:
        if candidate.stem == os.fspath(name):
            return candidate
    raise DataError(
        os.fspath(name),
        f"no such model ({source}); want a .safetensors file, an experiment folder or one of "
        f"{', '.join(p.stem for p in bundled) or 'no bundled models'}",
    )


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of the whole file, as results name it."""
    return files.sha256_file(path)
