"""A published checkpoint as a model file."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from speakerkit import __version__
from speakerkit.errors import ConfigError
from speakerkit.io import files
from speakerkit.io.files import Manifest
from speakerkit.models import model_file
from speakerkit.models.model_file import ModelInfo
from speakerkit.models.networks import count_parameters
from speakerkit.models.published import checkpoint_file, convert, known, recognise

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportOptions:
    """How a checkpoint is taken, and what is kept with it in words."""

    source: str | None = None
    name: str = ""
    training_data: str = ""
    domain: str = ""
    licence: str = ""
    overwrite: bool = False
    version: str = __version__


def import_checkpoint(path: str | os.PathLike, out: str | os.PathLike, options: ImportOptions, report: dict) -> None:
    """Read a checkpoint and write a model file of ours that gives the same embeddings.

    Args:
        path: the checkpoint.
        out: the .safetensors to write; a manifest lies beside it.
        options: whose checkpoint it is, and words to keep.
        report: filled with what was found and made.

    Raises:
        DataError: not a checkpoint, damaged, of a network we don't know, or it holds code.
        ConfigError: ``out`` is the checkpoint itself or was made from something else.
    """
    path, out = os.fspath(path), os.fspath(out)
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out}: want a name that ends in .safetensors")
    if os.path.exists(out) and os.path.exists(path) and os.path.samefile(path, out):
        raise ConfigError(f"{out}: is the checkpoint itself; name another file")
    sha256 = files.sha256_file(path)
    manifest = Manifest("import-model", _options_that_matter(options), {"checkpoint": sha256}, options.version)
    report.update(checkpoint=path, checkpoint_sha256=sha256, output=out)
    if not files.prepare_output(out, manifest, options.overwrite):
        report.update(files.read_manifest(out)["results"])
        log.info("%s: made from this checkpoint already; nothing to do", out)
        return
    facts = _import(path, out, sha256, options)
    files.write_manifest(out, manifest, facts)
    report.update(facts)


def _options_that_matter(options: ImportOptions) -> dict:
    return {name: getattr(options, name) for name in ("source", "name", "training_data", "domain", "licence")}


def _import(path: str, out: str, sha256: str, options: ImportOptions) -> dict:
    tensors = checkpoint_file.read_checkpoint(path)
    recipe = recognise.recognise(tensors, path, options.source)
    network = convert.convert(tensors, recipe, path)
    words = known.KNOWN.get(sha256, {})
    info = ModelInfo(
        name=options.name or Path(out).stem,
        model=recipe.model,
        fbank=recipe.fbank,
        training_data=options.training_data or words.get("training_data", ""),
        domain=options.domain or words.get("domain", ""),
        licence=options.licence or words.get("licence", ""),
        threshold=words.get("threshold"),
        threshold_trials=words.get("threshold_trials", ""),
        training={"imported_from": recipe.source, "checkpoint": Path(path).name, "checkpoint_sha256": sha256,
                  "published_as": words.get("published_as", "")},
    )
    info = model_file.save_model(out, network, info)
    parameters, values = count_parameters(network)
    log.info("%s: a %s from %s, %s parameters, embeddings of %d values%s", path, recipe.kind, recipe.source,
             f"{parameters:,}", info.embedding_dim, f" ({recipe.note})" if recipe.note else "")
    return {"imported_from": recipe.source, "architecture": recipe.model.architecture,
            "embedding_dim": info.embedding_dim, "num_parameters": parameters, "num_values": values,
            "weights_sha256": info.weights_sha256, "licence": info.licence or None}
