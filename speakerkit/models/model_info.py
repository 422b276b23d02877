"""What a model file says of its weights: as a dataclass, and as the JSON that every kind of file keeps."""

import dataclasses
import hashlib
import json
import math
import os
from dataclasses import dataclass, field

from speakerkit.config import FbankConfig, ModelConfig, as_dict, make_section
from speakerkit.errors import ConfigError, DataError
from speakerkit.io import files

FORMAT = 1
METADATA_KEY = "speakerkit"


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


def hash_facts(facts: dict) -> str:
    """SHA-256 over a model file's metadata but for itself: a threshold with a flipped digit looks like any other."""
    others = {name: value for name, value in facts.items() if name != "facts_sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def facts_as_json(info: ModelInfo, **others: object) -> str:
    """A model file's metadata: what ``parse_facts`` reads, with its own SHA-256; ``others`` are kept beside it."""
    facts = json.loads(json.dumps(as_dict(info) | others | {"format": FORMAT}, allow_nan=False))
    facts["facts_sha256"] = hash_facts(facts)
    return json.dumps(facts, ensure_ascii=False)


def parse_facts(facts: dict, path: str | os.PathLike) -> ModelInfo:
    """A model file's metadata as it judges itself.

    Raises:
        DataError: damaged, incomplete, or made by a newer speakerkit.
    """
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


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of the whole file, as results name it."""
    return files.sha256_file(path)
