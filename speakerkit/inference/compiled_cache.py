"""What OpenVINO has compiled, kept beside the exported model: taken up again in a quarter of the time.

Kept is what has given the model's golden vector, so that it needn't be tried before workers are started.

A file is mapped into memory, so worker processes share one copy of the weights. Its name is made of the model's
hash, the precision and what the processor can do; its header says which OpenVINO with which settings made it, and what
the model file says of itself. All of it is held against SHA-256 before OpenVINO sees a byte.

MAGIC, 64 hex digits (SHA-256 of the header), the header's length (8 bytes, little-endian), the header (JSON), then
the parts, each at a multiple of PAGE.
"""

import contextlib
import hashlib
import json
import logging
import mmap
import struct
from pathlib import Path

import numpy as np

from speakerkit.errors import DataError, MachineError
from speakerkit.inference.choice import Choice
from speakerkit.inference.export_cache import GRAPH_VERSION, cache_folder
from speakerkit.io import files
from speakerkit.models import device
from speakerkit.models.model_info import ModelInfo, facts_as_json, parse_facts

log = logging.getLogger(__name__)

MAGIC = b"speakerkit-ov-2\n"
PAGE = 4096
MOST_HEADER_BYTES = 1 << 20
_LENGTH = struct.Struct("<Q")


def kept_path(sha256: str, precision: str) -> Path | None:
    """Where a model's compiled parts are kept; None where nothing tells one processor from another.

    Args:
        sha256: of the model file.
        precision: float32, bfloat16 or int8.
    """
    flags = device.cpu_flags()
    if not flags:
        return None
    processor = hashlib.sha256(" ".join(sorted(flags)).encode()).hexdigest()
    return cache_folder() / f"{sha256[:32]}-{GRAPH_VERSION}-{precision}-{processor[:8]}.openvino"


def read_info(sha256: str, precision: str) -> ModelInfo | None:
    """What the model file says of itself, where its compiled parts are kept."""
    path = kept_path(sha256, precision)
    header = path and _read_header(path)
    try:
        return parse_facts(header["info"], path) if header and header.get("sha256") == sha256 else None
    except (DataError, KeyError):
        return None


def has_held(choice: Choice) -> bool:
    """Whether there are parts that the OpenVINO that is installed has compiled, which isn't imported for it."""
    from importlib import metadata

    path = kept_path(choice.sha256, choice.precision)
    header = path and _read_header(path)
    if not header or header.get("sha256") != choice.sha256:
        return False
    try:
        return header["made_by"]["openvino"].startswith(f"{metadata.version('openvino')}-")
    except (KeyError, metadata.PackageNotFoundError):
        return False


def map_parts(choice: Choice, made_by: dict) -> dict[str, np.ndarray] | None:
    """The compiled parts by name, as bytes mapped into memory; None where there are none, or others or damaged ones.

    Args:
        choice: the model.
        made_by: what the library and its settings are; parts that another one made are none.
    """
    path = kept_path(choice.sha256, choice.precision)
    header = path and _read_header(path)
    if not header or header.get("made_by") != made_by or header.get("sha256") != choice.sha256:
        return None
    try:
        with open(path, "rb") as stream:
            mapped = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        parts = {name: mapped[start : start + size] for name, (start, size, _) in header["parts"].items()}
        if all(hashlib.sha256(parts[name]).hexdigest() == digest for name, (_, _, digest) in header["parts"].items()):
            return parts
    except (OSError, ValueError, TypeError):
        pass
    log.warning("%s: damaged; it is made again", path)
    return None


def keep_parts(choice: Choice, made_by: dict, parts: dict[str, bytes]) -> None:
    """Keep what was compiled, whole or not at all; where that can't be, it isn't, and the run goes on."""
    path = kept_path(choice.sha256, choice.precision)
    if path is None:
        return
    places = {name: [0, len(data), hashlib.sha256(data).hexdigest()] for name, data in parts.items()}
    facts = {"sha256": choice.sha256, "made_by": made_by, "info": json.loads(facts_as_json(choice.info)),
             "parts": places}
    at = first = _pages(len(_head(facts)) + 20 * len(parts))  # with room for the places' digits
    for place in places.values():
        place[0], at = at, at + _pages(place[1])
    with contextlib.suppress(MachineError), files.open_output(path) as stream:
        stream.write(_head(facts).ljust(first, b"\0"))
        for data in parts.values():
            stream.write(data.ljust(_pages(len(data)), b"\0"))


def _head(facts: dict) -> bytes:
    text = json.dumps(facts).encode()
    return MAGIC + hashlib.sha256(text).hexdigest().encode() + _LENGTH.pack(len(text)) + text


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _read_header(path: Path) -> dict | None:
    try:
        with open(path, "rb") as stream:
            magic, digest, length = stream.read(len(MAGIC)), stream.read(64), stream.read(_LENGTH.size)
            if magic != MAGIC or len(length) < _LENGTH.size:
                return None
            text = stream.read(min(_LENGTH.unpack(length)[0], MOST_HEADER_BYTES))
    except OSError:
        return None
    return json.loads(text) if hashlib.sha256(text).hexdigest().encode() == digest else None
