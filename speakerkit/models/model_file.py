"""Model files: one safetensors that holds the weights and, as metadata, all needed to run and judge them."""

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from speakerkit.errors import DataError
from speakerkit.io import output
from speakerkit.models import onnx_file
from speakerkit.models.golden import compare_golden, golden_embedding
from speakerkit.models.model_header import read_info
from speakerkit.models.model_info import METADATA_KEY, ModelInfo, facts_as_json, sha256_of
from speakerkit.models.networks import make_network, outline_network

__all__ = [
    "ModelInfo", "SpeakerModel", "check_golden", "copy_with_calibration", "hash_weights", "load_model",
    "load_tensors", "model_tensors", "read_info", "save_model", "sha256_of",
]


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


def model_tensors(network: nn.Module, half: bool = False) -> dict[str, torch.Tensor]:
    """The network's tensors as a model file holds them; batch norm stays float32, ``half`` makes the rest float16."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        tensor = tensor.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        tensors[name] = tensor.half() if half and tensor.dim() > 1 else tensor
    return tensors


def wanted_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's own tensors that a model file has to hold, by name."""
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def check_tensors(network: nn.Module, tensors: dict[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Refuse tensors that aren't the network's; its outline is enough.

    Raises:
        DataError: a missing or unexpected tensor, another shape, a value that isn't finite.
    """
    wanted = wanted_tensors(network)
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


def load_tensors(network: nn.Module, tensors: dict[str, torch.Tensor], path: str | os.PathLike) -> None:
    """Put a file's tensors into the network, every name, shape and value checked as ``check_tensors`` does."""
    check_tensors(network, tensors, path)
    _fill(network, tensors)


def _fill(network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    wanted = wanted_tensors(network)
    with torch.no_grad():
        for name, tensor in tensors.items():
            wanted[name].copy_(tensor)


def save_model(path: str | os.PathLike, network: nn.Module, info: ModelInfo, half: bool = False) -> ModelInfo:
    """Write a model file whole or not at all; the golden vector is that of the weights as stored.

    Returns:
        info with ``weights_sha256`` and ``golden`` filled in.

    Raises:
        DataError: the weights don't fit ``info.model``, or their embedding of the golden signal is zero or not finite.
    """
    tensors = model_tensors(network, half)
    stored = make_network(info.model, info.fbank.num_columns).eval()
    load_tensors(stored, tensors, path)
    golden = golden_embedding(stored, info.fbank, info.model)
    if not np.isfinite(golden).all():
        raise DataError(path, "is not written: with these weights an embedding isn't finite")
    if not golden.any():
        raise DataError(path, "is not written: with these weights every value of an embedding is zero")
    info = dataclasses.replace(
        info, weights_sha256=hash_weights(tensors), golden=tuple(float(f"{v:.7g}") for v in golden)
    )
    data = safetensors.torch.save(tensors, metadata={METADATA_KEY: facts_as_json(info)})
    with output.open_output(path) as stream:
        stream.write(data)
    return info


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
    data, tensors = _read_tensors(path, info)
    # Before any memory is taken for it: a file of a few bytes may name a network of terabytes.
    check_tensors(outline_network(info.model, info.fbank.num_columns), tensors, path)
    network = make_network(info.model, info.fbank.num_columns)
    _fill(network, tensors)
    network.eval().requires_grad_(False)
    if golden:
        check_golden(network, info, path, "float32")
    return SpeakerModel(network, info, path, hashlib.sha256(data).hexdigest())


def _read_tensors(path: str | os.PathLike, info: ModelInfo) -> tuple[bytes, dict[str, torch.Tensor]]:
    """A model file's bytes and its tensors, held against the SHA-256 that it names."""
    if onnx_file.is_onnx_file(path):
        raise DataError(path, "is an ONNX model, a graph to be run; want the .safetensors that it was made from")
    try:
        data = Path(path).read_bytes()
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DataError(path, f"truncated or damaged: {error}") from None
    if hash_weights(tensors) != info.weights_sha256:
        raise DataError(path, "damaged: its weights don't have the SHA-256 it names")
    return data, tensors


def copy_with_calibration(path: str | os.PathLike, copy_path: str | os.PathLike, calibration: dict) -> None:
    """Write a model file again with the same weights and facts but for its calibration, whole or not at all.

    Args:
        path: the model file.
        copy_path: the new one.
        calibration: `scale` and `offset` as `scoring.calibration.Calibration` takes them, and what is known of them.

    Raises:
        DataError: `path` is no model file or damaged. MachineError: the copy can't be written.
    """
    info = read_info(path)
    _, tensors = _read_tensors(path, info)
    facts = facts_as_json(dataclasses.replace(info, calibration=calibration))
    with output.open_output(copy_path) as stream:
        stream.write(safetensors.torch.save(tensors, metadata={METADATA_KEY: facts}))


def check_golden(network: nn.Module, info: ModelInfo, path: str | os.PathLike, precision: str) -> float:
    """Cosine between the network's embedding of the golden signal and the stored one.

    Raises:
        DataError: it is below what the precision allows: damaged weights, or a machine that computes wrongly.
    """
    return compare_golden(golden_embedding(network, info.fbank, info.model), info.golden, path, precision)
