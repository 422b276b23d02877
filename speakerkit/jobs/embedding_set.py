"""The embeddings of a file as scoring wants them: rows by id, the model they are of, enrolments made of several."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from speakerkit.errors import DataError, RecordingError, raise_all
from speakerkit.io import ark, files
from speakerkit.io.trials import Trials, read_enrol_map

log = logging.getLogger(__name__)

_FACTS = ("model", "model_sha256", "precision", "vad")


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings of one model.

    Attributes:
        path: where they come from, for messages.
        rows: id -> row of the matrix.
        matrix: (num_embeddings, dim) float32, finite, no row zero.
        model: `model`, `model_sha256`, `precision` and `vad`, as far as a manifest beside the file knows them.
        sources: every file they depend on: the one named, the archives of an scp, an enrolment map.
        made_of: id -> the utterances whose mean it is; empty where each id is its own utterance.
    """
    path: str
    rows: Mapping[str, int]
    matrix: np.ndarray
    model: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    made_of: Mapping[str, list[str]] = field(default_factory=dict)


def load_embeddings(path: str | os.PathLike) -> EmbeddingSet:
    """Read an archive or an scp of embeddings and what the manifest beside it knows of their model.

    Raises:
        DataError, DataErrors: what `ark.read_vector_matrix` refuses; archives of two models in one scp.
    """
    path = os.fspath(path)
    ids, matrix = ark.read_vector_matrix(path)
    known: dict[str, str] = {}
    archives = _archives_of(path)
    for archive in archives:
        model = _model_of(archive)
        refuse_another_model(path, known, archive, model)
        known = known or model
    rows = {utt_id: row for row, utt_id in enumerate(ids)}
    return EmbeddingSet(path, rows, matrix, known, tuple(dict.fromkeys([path, *archives])))


def _archives_of(path: str) -> list[str]:
    """The archives that hold the embeddings of a file that was read already: itself, or those that an scp names."""
    try:
        next(ark.iter_ark(path))
    except DataError:  # no archive, and yet it could be read
        return list(dict.fromkeys(location.ark_path for location in ark.read_scp(path).values()))
    return [path]


def _model_of(archive: str) -> dict[str, str]:
    """What the manifest beside an archive says of the model; a mean a speaker has its utterances' manifest."""
    path = Path(archive)
    for output in (path, path.with_name(path.name.removeprefix("spk_"))):
        manifest = files.read_manifest(output)
        if manifest is not None and path.name in manifest["outputs"]:
            results = manifest["results"]
            return {name: results[name] for name in _FACTS if results.get(name)}
    return {}


def refuse_another_model(path: str, model: Mapping[str, str], other_path: str, other: Mapping[str, str]) -> None:
    sha256, other_sha256 = model.get("model_sha256"), other.get("model_sha256")
    if sha256 and other_sha256 and sha256 != other_sha256:
        raise DataError(other_path, f"embeddings of model {other.get('model')} ({other_sha256[:8]}), but those of "
                                    f"{path} are of {model.get('model')} ({sha256[:8]}); want one model")
    precision, other_precision = model.get("precision"), other.get("precision")
    if precision and other_precision and precision != other_precision:
        log.warning("%s was computed in %s, %s in %s", path, precision, other_path, other_precision)
    if sha256 and other_sha256 and model.get("vad") != other.get("vad"):
        log.warning("%s was computed with %s, %s with %s", path, model.get("vad") or "no VAD", other_path,
                    other.get("vad") or "no VAD")


def subtract_mean(embeddings: EmbeddingSet, mean_of: EmbeddingSet) -> EmbeddingSet:
    """The embeddings less the mean of others, as WeSpeaker's recipes do with their training set's before scoring.

    Raises:
        DataError: embeddings of two models; one that is the mean itself, which leaves it no direction.
    """
    refuse_another_model(embeddings.path, embeddings.model, mean_of.path, mean_of.model)
    if embeddings.matrix.shape[1] != mean_of.matrix.shape[1]:
        raise DataError(mean_of.path, f"has {mean_of.matrix.shape[1]} values an embedding, {embeddings.path} has "
                                      f"{embeddings.matrix.shape[1]}: embeddings of two models?")
    matrix = embeddings.matrix - mean_of.matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    if len(zero := np.flatnonzero(~matrix.any(axis=1))):
        utt_id = list(embeddings.rows)[zero[0]]
        raise RecordingError(embeddings.path, "zero-embedding", f"'{utt_id}' is the mean of {mean_of.path}")
    sources = tuple(dict.fromkeys((*embeddings.sources, *mean_of.sources)))
    return dataclasses.replace(embeddings, matrix=matrix, sources=sources)


def average_enrolments(map_path: str | os.PathLike, utterances: EmbeddingSet) -> EmbeddingSet:
    """Enrolments that stand for several utterances: the plain mean of their embeddings.

    Args:
        map_path: '<enrol-id> <utt-id>...' lines.
        utterances: the embeddings of those utterances.

    Raises:
        DataError, DataErrors: what `read_enrol_map` refuses; an utterance without an embedding; a mean of zero.
    """
    enrol_map = read_enrol_map(map_path)
    raise_all([DataError(map_path, f"'{utt_id}' has no embedding in {utterances.path}", line)
               for line, utt_ids in enumerate(enrol_map.values(), 1)
               for utt_id in utt_ids if utt_id not in utterances.rows])
    means = np.empty((len(enrol_map), utterances.matrix.shape[1]), dtype=np.float32)
    for row, (enrol_id, utt_ids) in enumerate(enrol_map.items()):
        means[row] = utterances.matrix[[utterances.rows[utt_id] for utt_id in utt_ids]].mean(axis=0, dtype=np.float64)
        if not means[row].any():
            raise RecordingError(map_path, "zero-embedding", f"the mean of '{enrol_id}' is zero in every dimension")
    rows = {enrol_id: row for row, enrol_id in enumerate(enrol_map)}
    sources = (*utterances.sources, os.fspath(map_path))
    return EmbeddingSet(os.fspath(map_path), rows, means, utterances.model, sources, enrol_map)


def refuse_unlike_sides(enrol: EmbeddingSet, test: EmbeddingSet) -> None:
    """DataError for embeddings of two models, by their manifests or by their dimensions."""
    refuse_another_model(test.path, test.model, enrol.path, enrol.model)
    if enrol.matrix.shape[1] != test.matrix.shape[1]:
        raise DataError(enrol.path, f"'{next(iter(enrol.rows))}' has {enrol.matrix.shape[1]} values, "
                                    f"'{next(iter(test.rows))}' in {test.path} has {test.matrix.shape[1]}: "
                                    "embeddings of two models?")


def embeddings_of_trials(trials: Trials, enrol: EmbeddingSet, test: EmbeddingSet) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a list's enrolments and tests, in the order of `trials.enrol_ids` and `trials.test_ids`.

    Returns:
        (num_enrol_ids, dim) and (num_test_ids, dim) float32.

    Raises:
        DataErrors: every id without an embedding, at the line where it stands first.
        DataError: embeddings of two models, by their manifests or by their dimensions.
    """
    refuse_unlike_sides(enrol, test)
    sides = ((trials.enrol_ids, enrol), (trials.test_ids, test))
    rows = [np.array([embeddings.rows.get(key, -1) for key in ids], dtype=np.int64) for ids, embeddings in sides]
    if any((found < 0).any() for found in rows):
        faults = [DataError(trials.path, f"'{ids[number]}' has no embedding in {embeddings.path}", int(lines[number]))
                  for (ids, embeddings), found, lines in zip(sides, rows, trials.first_lines(), strict=True)
                  for number in np.flatnonzero(found < 0)]
        raise_all(sorted(faults, key=lambda fault: fault.line))
    return enrol.matrix[rows[0]], test.matrix[rows[1]]
