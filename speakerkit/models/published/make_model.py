"""A checkpoint's weights, front end and what is known of them, as a model file."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from speakerkit.models import model_file
from speakerkit.models.model_file import ModelInfo
from speakerkit.models.networks import count_parameters
from speakerkit.models.published import checkpoint_file, convert, known, recognise
from speakerkit.models.published.front_ends import FrontEnd

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Words:
    """What is kept with a model in words; '' takes what is known of the checkpoint by its SHA-256."""

    name: str = ""  # '': the model file's
    training_data: str = ""
    domain: str = ""
    licence: str = ""


def make_model(path: str | os.PathLike, out: str | os.PathLike, sha256: str, source: str | None, words: Words,
               front_end: FrontEnd | None = None) -> dict:
    """Read a checkpoint and write the model file that gives the same embeddings.

    Args:
        path: the checkpoint.
        out: the .safetensors to write.
        sha256: the checkpoint's.
        source: whose it is; None takes what its keys say.
        words: what is kept with it.
        front_end: where its configuration tells it; None takes the source's own.

    Returns:
        facts: what was found and made, under the names that reports have.

    Raises:
        DataError: not a checkpoint, damaged, of a network we don't know, or it holds code.
    """
    tensors = checkpoint_file.read_checkpoint(path)
    recipe = recognise.recognise(tensors, path, source, front_end)
    network = convert.convert(tensors, recipe, path)
    told = known.KNOWN.get(sha256, {})
    info = ModelInfo(
        name=words.name or Path(out).stem,
        model=recipe.model,
        fbank=recipe.fbank,
        training_data=words.training_data or told.get("training_data", ""),
        domain=words.domain or told.get("domain", ""),
        licence=words.licence or told.get("licence", ""),
        threshold=told.get("threshold"),
        threshold_trials=told.get("threshold_trials", ""),
        training={"imported_from": recipe.source, "checkpoint": Path(path).name, "checkpoint_sha256": sha256,
                  "published_as": told.get("published_as", "")},
    )
    info = model_file.save_model(out, network, info)
    parameters, values = count_parameters(network)
    log.info("%s: a %s from %s, %s parameters, embeddings of %d values%s", path, recipe.kind, recipe.source,
             f"{parameters:,}", info.embedding_dim, f" ({recipe.note})" if recipe.note else "")
    return {"imported_from": recipe.source, "architecture": recipe.model.architecture,
            "embedding_dim": info.embedding_dim, "num_parameters": parameters, "num_values": values,
            "weights_sha256": info.weights_sha256, "licence": info.licence or None}
