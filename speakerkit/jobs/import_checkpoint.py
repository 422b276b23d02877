"""A published checkpoint as a model file."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from speakerkit import __version__
from speakerkit.errors import ConfigError
from speakerkit.io import files
from speakerkit.io.files import Manifest
from speakerkit.models.published.make_model import Words, make_model
from speakerkit.models.published.yaml_config import read_published_config

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportOptions:
    """How a checkpoint is taken, and what is kept with it in words."""

    source: str | None = None
    config: str | None = None  # the published model's own YAML
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
    inputs = {"checkpoint": sha256} | ({"config": files.sha256_file(options.config)} if options.config else {})
    manifest = Manifest("import-model", _options_that_matter(options), inputs, options.version)
    report.update(checkpoint=path, checkpoint_sha256=sha256, output=out)
    if not files.prepare_output(out, manifest, options.overwrite):
        report.update(files.read_manifest(out)["results"])
        log.info("%s: made from this checkpoint already; nothing to do", out)
        return
    words = Words(options.name, options.training_data, options.domain, options.licence)
    source, front_end = options.source, None
    if options.config:
        told, front_end = read_published_config(options.config)
        if source not in (None, told):
            raise ConfigError(f"{options.config}: is {told}'s configuration; --from says {source}")
        source = told
    facts = make_model(path, out, sha256, source, words, front_end)
    files.write_manifest(out, manifest, facts)
    report.update(facts)


def _options_that_matter(options: ImportOptions) -> dict:
    return {name: getattr(options, name) for name in ("source", "name", "training_data", "domain", "licence")}
