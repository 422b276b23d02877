"""A published checkpoint as a model file."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from speakerkit import __version__
from speakerkit.errors import ConfigError
from speakerkit.io import files
from speakerkit.io.files import Manifest
from speakerkit.models.published import locate, yaml_config
from speakerkit.models.published.checkpoint_file import check_file
from speakerkit.models.published.front_ends import FrontEnd
from speakerkit.models.published.make_model import Words, make_model

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
        path: the checkpoint, or a folder with one: a hub's snapshot or a trainer's experiment.
        out: the .safetensors to write; a manifest lies beside it.
        options: whose checkpoint it is, and words to keep.
        report: filled with what was found and made.

    Raises:
        DataError: not a checkpoint, damaged, of a network we don't know, or it holds code.
        ConfigError: a folder holds several; ``out`` is the checkpoint itself or was made from something else.
    """
    path, out = os.fspath(path), os.fspath(out)
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"{out}: want a name that ends in .safetensors")
    if os.path.exists(out) and os.path.exists(path) and os.path.samefile(path, out):
        raise ConfigError(f"{out}: is the checkpoint itself; name another file")
    found = find_published(path, options)
    check_file(found.checkpoint)
    sha256 = files.sha256_file(found.checkpoint)
    inputs = {"checkpoint": sha256} | ({"config": files.sha256_file(found.config)} if found.config else {})
    manifest = Manifest("import-model", _options_that_matter(options), inputs, options.version)
    report.update(checkpoint=found.checkpoint, checkpoint_sha256=sha256, config=found.config, output=out)
    if not files.prepare_output(out, manifest, options.overwrite):
        report.update(files.read_manifest(out)["results"])
        log.info("%s: made from this checkpoint already; nothing to do", out)
        return
    words = Words(options.name, options.training_data, options.domain, options.licence)
    facts = make_model(found.checkpoint, out, sha256, found.source, words, found.front_end)
    files.write_manifest(out, manifest, facts)
    report.update(facts)


def _options_that_matter(options: ImportOptions) -> dict:
    return {name: getattr(options, name) for name in ("source", "name", "training_data", "domain", "licence")}


@dataclass(frozen=True)
class Found:
    """A checkpoint, and what its configuration tells where there is one."""

    checkpoint: str
    config: str | None = None
    source: str | None = None
    front_end: FrontEnd | None = None


def find_published(path: str, options: ImportOptions) -> Found:
    """The checkpoint that a file or folder stands for, with the configuration that is named or lies beside it.

    A configuration that was named must be one; what merely lies beside is taken where it is one and fits ``--from``.
    """
    in_folder = os.path.isdir(path)
    checkpoint = _in_folder(locate.snapshot_of(path)) if in_folder else path
    if in_folder:
        log.info("%s: taking %s", path, os.path.relpath(checkpoint, path))
    if options.config:
        told, front_end = yaml_config.read_published_config(options.config)
        if options.source not in (None, told):
            raise ConfigError(f"{options.config}: is {told}'s configuration; --from says {options.source}")
        return Found(checkpoint, options.config, told, front_end)
    for config in locate.configs_beside(checkpoint):
        told = _beside(config, options.source)
        if told is None:
            log.info("%s: lies beside and is no configuration of a system we know; not used", config)
        elif options.source not in (None, told[0]):
            log.info("%s: lies beside and is %s's; not used, for --from says %s", config, told[0], options.source)
        else:
            log.info("%s: lies beside and tells %s's front end; used", config, told[0])
            return Found(checkpoint, config, *told)
    return Found(checkpoint, source=options.source)


def _in_folder(folder: str) -> str:
    named = epoch = None
    for name in locate.CONFIGS:
        if os.path.isfile(config := os.path.join(folder, name)):
            told = yaml_config.named_checkpoint(yaml_config.read_yaml(config))
            named, epoch = named or told[0], epoch if told[1] is None else told[1]
    return locate.find_checkpoint(folder, named, epoch)


def _beside(config: str, source: str | None) -> tuple[str, FrontEnd] | None:
    try:
        return yaml_config.interpret(yaml_config.read_yaml(config), config)
    except ConfigError:
        if source is None:
            raise
        return None
