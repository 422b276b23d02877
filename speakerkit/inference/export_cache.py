"""Models exported once: the ONNX file of a .safetensors file, kept by the hash of what it was made from."""

import importlib.util
import logging
import os
import time
from pathlib import Path

from speakerkit.errors import DataError, MachineError
from speakerkit.io import files
from speakerkit.models import onnx_file
from speakerkit.models.model_info import ModelInfo

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 300.0  # for another process that exports the same model
GRAPH_VERSION = 3  # of the graph that this speakerkit builds; another is another file


def cache_folder() -> Path:
    """$SPEAKERKIT_CACHE_DIR, else speakerkit/ in $XDG_CACHE_HOME, else ~/.cache/speakerkit."""
    if named := os.environ.get("SPEAKERKIT_CACHE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "speakerkit"


def can_export(info: ModelInfo, is_asked_for: bool) -> bool:
    """Whether the package that exports a model is there; unasked, only what is exact: a graph draws no dither."""
    return importlib.util.find_spec("onnx") is not None and (is_asked_for or info.fbank.dither == 0)


def exported(path: str, sha256: str) -> tuple[str | bytes, ModelInfo]:
    """The ONNX file of a model, or its bytes where it can't be kept, and what it says of itself.

    Args:
        path: a .safetensors model file.
        sha256: the file's SHA-256.

    Raises:
        DataError: the model is damaged.
    """
    kept = cache_folder() / f"{sha256[:32]}-{GRAPH_VERSION}.onnx"
    deadline = time.monotonic() + LONGEST_WAIT_S
    while (info := _read_kept(kept, sha256)) is None:
        try:
            with files.output_lock(kept):
                info = _read_kept(kept, sha256) or _export(path, kept)
        except MachineError as error:
            if not os.path.exists(f"{kept}.lock") or time.monotonic() > deadline:
                log.info("the exported model isn't kept: %s", error)
                return _make(path)
            time.sleep(0.1)  # another process makes it
    return str(kept), info


def _read_kept(kept: Path, sha256: str) -> ModelInfo | None:
    if not os.path.exists(kept):
        return None
    try:
        _, info, facts = onnx_file.read_onnx(kept)
    except DataError as error:
        log.warning("%s; it is made again", error)
        return None
    return info if facts.get("source_sha256") == sha256 else None


def _export(path: str, kept: Path) -> ModelInfo:
    data, info = _make(path)
    with files.open_output(kept) as stream:
        stream.write(data)
    log.info("exported to %s, once", kept)
    return info


def _make(path: str) -> tuple[bytes, ModelInfo]:
    from speakerkit.inference.onnx_export import to_onnx
    from speakerkit.models import model_file

    return to_onnx(model_file.load_model(path))
