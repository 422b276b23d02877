"""A voiceprint file: the embeddings of people's recordings, with what is needed to make them again.

One safetensors, whole or not at all: `embeddings` (num_recordings, dim) float32, `speaker` (num_recordings,)
int32, `text` (UTF-8 JSON of speakers and recordings) and metadata that names the model and a SHA-256 of the rest.
About 4 * dim bytes a recording, and 6 * dim a speaker once it is loaded for searching.
"""

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, field

import numpy as np
import safetensors
import safetensors.numpy

from speakerkit.errors import DataError
from speakerkit.io import files
from speakerkit.io.tables import id_fault

FORMAT = 1
METADATA_KEY = "speakerkit_voiceprints"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class VoiceRecording:
    """One enrolled recording."""

    speaker: int        # its place among the speakers
    path: str           # absolute; '' for one that came from memory and can't be read again
    sha256: str         # of its mono float32 samples at their own rate
    seconds: float
    options: dict = field(default_factory=dict)  # fields of AudioOptions that aren't at their default; vad: a detector


@dataclass(frozen=True, eq=False)
class VoiceprintFile:
    """What a voiceprint file holds; recordings of one speaker lie side by side, speakers in order of enrolment."""

    model: str          # name
    model_sha256: str   # of the model file that made the embeddings
    speakers: tuple[str, ...]
    recordings: tuple[VoiceRecording, ...]
    embeddings: np.ndarray  # (num_recordings, dim) float32


def write_voiceprints(path: str | os.PathLike, voices: VoiceprintFile) -> None:
    """Write a voiceprint file, whole or not at all."""
    tensors = {
        "embeddings": np.ascontiguousarray(voices.embeddings, np.float32),
        "speaker": np.array([recording.speaker for recording in voices.recordings], np.int32),
        "text": np.frombuffer(_to_text(voices), np.uint8),
    }
    facts = {"format": FORMAT, "model": voices.model, "model_sha256": voices.model_sha256}
    with files.open_output(path) as stream:
        stream.write(_to_bytes(tensors, facts))


def read_voiceprints(path: str | os.PathLike) -> VoiceprintFile:
    """Read a voiceprint file, every part of it checked.

    Raises:
        DataError: no such file, another kind of file, cut, damaged, or made by a newer speakerkit.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would wait for ever
            raise DataError(path, "is no regular file; want a voiceprint file, which enrol-speakers makes")
        os.close(os.open(path, os.O_RDONLY))  # the library takes one that it may not read for one that isn't there
        with safetensors.safe_open(path, framework="numpy") as opened:
            facts = _parse_facts((opened.metadata() or {}).get(METADATA_KEY), path)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError:
        raise DataError(path, "no such voiceprint file; enrol-speakers makes one") from None
    except PermissionError as error:
        raise DataError(path, f"can't be read: {error.strerror.lower()}") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(path, f"is no voiceprint file, or cut: {' '.join(str(error).split())}") from None
    if facts.pop("sha256", None) != _digest(tensors, facts):
        raise DataError(path, "damaged: its content doesn't have the SHA-256 it names")
    try:
        return _from_tensors(tensors, facts)
    except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise DataError(path, f"damaged: {error}") from None


def speaker_fault(name: str) -> str | None:
    """What is wrong with a speaker's name, or None: it is one word, as ids are everywhere."""
    if not isinstance(name, str) or not name:
        return f"speaker is {name!r}; want a word"
    return id_fault(name)


def _to_text(voices: VoiceprintFile) -> bytes:
    rows = [[recording.path, recording.sha256, recording.seconds, recording.options] for recording in voices.recordings]
    return json.dumps({"speakers": voices.speakers, "recordings": rows}, allow_nan=False).encode()


def _to_bytes(tensors: dict[str, np.ndarray], facts: dict) -> bytes:
    """One metadata entry only: safetensors writes several in any order, and equal content is to be equal bytes."""
    facts = facts | {"sha256": _digest(tensors, facts)}
    return safetensors.numpy.save(tensors, {METADATA_KEY: json.dumps(facts, sort_keys=True)})


def _parse_facts(text: str | None, path: str | os.PathLike) -> dict:
    """What the metadata says of model and format."""
    if text is None:
        raise DataError(path, "is no voiceprint file, but another safetensors; enrol-speakers makes one")
    try:
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise ValueError("it is no JSON object")
    except (ValueError, RecursionError) as error:
        raise DataError(path, f"damaged: its metadata can't be read: {error}") from None
    if facts.get("format") != FORMAT:
        raise DataError(path, f"is of format {facts.get('format')}; this speakerkit reads format {FORMAT}")
    return facts


def _digest(tensors: dict[str, np.ndarray], facts: dict) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _from_tensors(tensors: dict[str, np.ndarray], facts: dict) -> VoiceprintFile:
    """Whoever made a file may have made its SHA-256 too, so what it holds is judged all the same."""
    embeddings, places = tensors["embeddings"], tensors["speaker"]
    text = json.loads(tensors["text"].tobytes())
    speakers, rows = text["speakers"], text["recordings"]
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or places.dtype != np.int32 or places.ndim != 1:
        raise ValueError("embeddings or speakers are of another type or shape")
    if not len(rows) == len(places) == len(embeddings):
        raise ValueError(f"{len(rows)} recordings, {len(places)} places, {len(embeddings)} embeddings")
    for name in speakers:
        if (fault := speaker_fault(name)) is not None:
            raise ValueError(fault)
    if len(set(speakers)) != len(speakers):
        raise ValueError("a speaker is there twice")
    if not np.array_equal(np.unique(places), np.arange(len(speakers))) or (np.diff(places) < 0).any():
        raise ValueError("speakers and recordings don't fit")
    if not np.isfinite(embeddings).all() or not embeddings.any(axis=1).all():
        raise ValueError("an embedding is zero or not finite")
    recordings = tuple(VoiceRecording(int(place), *_check_row(*row)) for place, row in zip(places, rows, strict=True))
    if not isinstance(facts["model"], str) or not _SHA256.fullmatch(facts["model_sha256"]):
        raise ValueError(f"its model is {facts['model']!r}, {facts['model_sha256']!r}")
    return VoiceprintFile(facts["model"], facts["model_sha256"], tuple(speakers), recordings, embeddings)


def _check_row(path: str, sha256: str, seconds: float, options: dict) -> tuple[str, str, float, dict]:
    is_right = isinstance(path, str) and isinstance(sha256, str) and _SHA256.fullmatch(sha256)
    if not is_right or not isinstance(seconds, (int, float)) or not isinstance(options, dict):
        raise ValueError(f"a recording is described by {path!r}, {sha256!r}, {seconds!r}, {options!r}")
    return path, sha256, float(seconds), options
