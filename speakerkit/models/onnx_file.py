"""An ONNX file's facts and soundness, read by its outermost structure: neither onnx nor a runtime is needed.

A file is a protobuf message, ModelProto of onnx.proto: fields of (number, wire type) one after another,
of which the metadata are strings by name. Ours hold the same JSON as a .safetensors model file, and the
SHA-256 of the whole file, computed with zeros in its place.
"""

import hashlib
import json
import os
from pathlib import Path

from speakerkit.errors import DataError
from speakerkit.models.model_info import METADATA_KEY, ModelInfo, parse_facts

DIGEST_KEY = "sha256_without_this"
ZEROS = "0" * 64
_METADATA_FIELD = 14  # of ModelProto; its entries have a name (1) and a value (2)
# Numbers of fields: of ModelProto, GraphProto, NodeProto and TensorProto.
_GRAPH_FIELD, _FUNCTION_FIELD = 7, 25
_NODE_FIELD, _CONSTANT_FIELD, _SPARSE_FIELD = 1, 5, 15
_OPERATOR_FIELD, _DOMAIN_FIELD = 4, 7
_EXTERNAL_FIELDS = {13, 14}  # where else its values lie
# What our graphs are made of. None of it loops, reads a file or comes from a library.
OPERATORS = frozenset((
    "Add", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Div", "Equal", "Expand",
    "Flatten", "Gather", "GatherElements", "Gemm", "Identity", "IsNaN", "Less", "LessOrEqual", "Log", "MatMul",
    "Max", "Min", "Mod", "Mul", "Neg", "Not", "Pad", "QuantizeLinear", "Range", "ReduceMax", "ReduceSum", "Relu",
    "Reshape", "ScatterElements", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub", "Tanh",
    "Transpose", "Unsqueeze", "Where",
))
_SMALLEST_FIELD_TAG = 0x08  # ir_version, which every writer puts first


def is_onnx(head: bytes) -> bool:
    """Whether a file that begins so is an ONNX model; a .safetensors has a brace after eight bytes."""
    return len(head) >= 9 and head[0] == _SMALLEST_FIELD_TAG and head[1] < 0x80 and head[8:9] != b"{"


def is_onnx_file(path: str | os.PathLike) -> bool:
    """The same of a file; what can't be read is none."""
    try:
        with open(path, "rb") as stream:
            return is_onnx(stream.read(9))
    except OSError:
        return False


def read_onnx(path: str | os.PathLike) -> tuple[bytes, ModelInfo, dict]:
    """A whole ONNX model that ``export-onnx`` made, checked.

    Returns:
        data: the file.
        info: what it says of itself.
        facts: the metadata as stored; ``onnx`` holds precision, names and sizes.

    Raises:
        DataError: it can't be read, is cut or changed, isn't one of ours, or holds what none of ours does.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(path, "no such model file") from None
    except OSError as error:
        raise DataError(path, f"can't be read: {error.strerror}") from None
    facts = read_facts(data, path)
    check_graph(data, path)
    return data, info_of(facts, path), facts["onnx"]


def info_of(facts: dict, path: str | os.PathLike) -> ModelInfo:
    """What a file says of itself, of its metadata."""
    info = parse_facts(facts, path)
    if not isinstance(facts.get("onnx"), dict) or facts["onnx"].get("precision") not in ("float32", "int8"):
        raise DataError(path, "damaged: its metadata doesn't say what the graph is")
    return info


def read_facts(data: bytes, path: str | os.PathLike) -> dict:
    """The JSON in an ONNX file's metadata; the file's own SHA-256 is checked."""
    metadata = _read_metadata(data, path)
    if METADATA_KEY not in metadata or DIGEST_KEY not in metadata:
        raise DataError(path, "has no speakerkit metadata: features and scale aren't known; make it with export-onnx")
    stored = metadata[DIGEST_KEY]
    if len(stored) != len(ZEROS) or data.count(stored.encode()) != 1 or digest_of(data, stored) != stored:
        raise DataError(path, "damaged: it doesn't have the SHA-256 it names")
    try:
        facts = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError):
        raise DataError(path, "damaged: its metadata is no JSON") from None
    if not isinstance(facts, dict):
        raise DataError(path, "damaged: its metadata is no JSON object")
    return facts


def check_graph(data: bytes, path: str | os.PathLike) -> None:
    """Refuse a graph that holds what none of ours does, whoever signed it.

    Raises:
        DataError: an operator outside OPERATORS (a loop may never end), a function, or values that lie in
            another file.
    """
    try:
        for number, value in _fields(data):
            if number == _FUNCTION_FIELD:
                raise DataError(path, "holds a function, which export-onnx never writes: refused")
            for kind, part in _fields(value) if number == _GRAPH_FIELD else ():
                if kind == _NODE_FIELD:
                    _check_node(dict(_fields(part)), path)
                elif kind == _SPARSE_FIELD or (kind == _CONSTANT_FIELD and _is_elsewhere(dict(_fields(part)))):
                    raise DataError(path, "has weights in another file or form than export-onnx writes: refused")
    except (IndexError, ValueError, TypeError):
        raise DataError(path, "truncated or damaged: its fields don't fit in it") from None


def _is_elsewhere(tensor: dict) -> bool:
    return not _EXTERNAL_FIELDS.isdisjoint(tensor)


def _check_node(fields: dict, path: str | os.PathLike) -> None:
    name, domain = (bytes(fields.get(number, b"")).decode() for number in (_OPERATOR_FIELD, _DOMAIN_FIELD))
    if name not in OPERATORS or domain not in ("", "ai.onnx"):
        shown = f"{domain[:40]}.{name[:40]}".lstrip(".")
        raise DataError(path, f"holds the operator {shown!r}, which export-onnx never writes: refused")


def digest_of(data: bytes, stored: str) -> str:
    """SHA-256 of the file with zeros where ``stored`` stands."""
    view, first = memoryview(data), data.index(stored.encode())  # a view: the file isn't copied
    digest = hashlib.sha256(view[:first])
    digest.update(b"0" * len(stored))
    digest.update(view[first + len(stored) :])
    return digest.hexdigest()


def sign(data: bytes) -> bytes:
    """A file whose metadata hold ZEROS under DIGEST_KEY, with its SHA-256 in their place."""
    if data.count(ZEROS.encode()) != 1:
        raise ValueError("want one place for the SHA-256")
    return data.replace(ZEROS.encode(), digest_of(data, ZEROS).encode())


def _read_metadata(data: bytes, path: str | os.PathLike) -> dict[str, str]:
    if not is_onnx(data[:9]):
        raise DataError(path, f"is no ONNX model (it starts with {data[:8]!r}); want one that export-onnx made")
    metadata = {}
    try:
        for number, value in _fields(data):
            if number == _METADATA_FIELD and isinstance(value, memoryview):
                entry = {inner: bytes(text).decode() for inner, text in _fields(value) if isinstance(text, memoryview)}
                metadata[entry.get(1, "")] = entry.get(2, "")
    except (IndexError, ValueError):
        raise DataError(path, "truncated or damaged: its fields don't fit in it") from None
    return metadata


def _fields(data: bytes | memoryview):
    """(number, value) of each field of a message: an int, or the bytes of a string or an inner message.

    Raises:
        IndexError, ValueError: a field that ends outside, or of a kind that ONNX doesn't have.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(view, at)
        elif kind == 2:
            size, at = _varint(view, at)
            if at + size > len(view):
                raise ValueError("a field ends outside")
            value, at = view[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
