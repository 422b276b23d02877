"""What a model file of either kind says of itself, read without its weights and without torch."""

import json
import os
import struct
from pathlib import Path

from speakerkit.errors import DataError
from speakerkit.models.model_info import METADATA_KEY, ModelInfo, parse_facts
from speakerkit.models.onnx_file import is_onnx_file, read_onnx

MOST_HEADER_BYTES = 1 << 20


def read_info(path: str | os.PathLike) -> ModelInfo:
    """What a model file says of itself; the weights aren't read.

    Raises:
        DataError: not a model file, damaged, or made by a newer speakerkit.
    """
    if is_onnx_file(path):
        return read_onnx(path)[1]
    return parse_facts(_read_header(Path(path)), path)


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
        wanted = "want a .safetensors or .onnx made by speakerkit"
        raise DataError(path, f"is no model file (it starts with {head!r}); {wanted}")
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
