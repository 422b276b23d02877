"""A published model by its name: its checkpoint from a hub, checked and converted once, then from the cache.

The hubs' own client libraries (extra `hub`) fetch. A checkpoint that was put into the cache by hand is taken
as if it had been fetched, so that a machine without a network needs none.
"""

import contextlib
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError, MachineError
from speakerkit.io import files
from speakerkit.models.published.catalogue import HUGGINGFACE, MODELSCOPE, Published, look_up

log = logging.getLogger(__name__)

CLIENTS = {MODELSCOPE: "modelscope_hub", HUGGINGFACE: "huggingface_hub"}


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/speakerkit/published`, `~/.cache` where the variable isn't set."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one is to be ignored, its specification says
    return (named if named.is_absolute() else Path.home() / ".cache") / "speakerkit" / "published"


def find_published(name: str) -> Path | None:
    """The model file of a published model; None where nobody published that name.

    Args:
        name: a name or repository of the catalogue.

    Raises:
        ConfigError: it isn't in the cache and the hub's client library isn't installed.
        DataError: the hub has no such file, or it isn't the published one.
        MachineError: the hub can't be reached, or the cache can't be written.
    """
    entry = look_up(name)
    if entry is None:
        return None
    folder = cache_folder() / entry.name
    model = folder / f"{entry.name}-{__version__}.safetensors"
    if model.is_file():
        return model
    files.check_writable(model)
    with files.output_lock(model):
        if not model.is_file():  # another process may have made it
            checkpoint = folder / entry.file
            if checkpoint.is_file():
                check_checkpoint(checkpoint, entry, str(checkpoint))
            else:
                fetch_checkpoint(entry, checkpoint)
            _convert(entry, checkpoint, model)
    return model


def check_checkpoint(path: Path, entry: Published, name: str) -> None:
    """Hold a checkpoint to the published file's size and SHA-256, where they are known.

    Args:
        path: the checkpoint.
        entry: what it has to be.
        name: what the error calls it.

    Raises:
        DataError: it is another file.
    """
    num_bytes = path.stat().st_size
    if entry.num_bytes not in (None, num_bytes):
        raise DataError(name, f"has {num_bytes:,} bytes; {entry.file} of {entry.repository} has {entry.num_bytes:,}")
    if entry.sha256 is not None and (sha256 := files.sha256_file(path)) != entry.sha256:
        raise DataError(name, f"has SHA-256 {sha256}; {entry.file} of {entry.repository} has {entry.sha256}")


def fetch_checkpoint(entry: Published, checkpoint: Path) -> None:
    """Fetch into a folder beside, check, and only then give the file its name.

    Raises:
        ConfigError, DataError, MachineError: as `find_published`; nothing stays.
    """
    place = f"{entry.file} of {entry.repository} at {checkpoint}"
    try:
        client = importlib.import_module(CLIENTS[entry.hub])
    except ImportError:
        raise ConfigError(f"{entry.name}: isn't in the cache, and {CLIENTS[entry.hub].replace('_', '-')} isn't "
                          f"installed: pip install 'speakerkit[hub]', or put {place}") from None
    temp = checkpoint.parent / f".fetch-{os.getpid()}"
    log.info("%s: fetching %s of %s from %s (licence: %s)", entry.name, entry.file, entry.repository, entry.hub,
             entry.licence)
    try:
        fetched = _fetch(client, entry, temp, place)
        check_checkpoint(fetched, entry, f"what {entry.hub} sent as {entry.name}")
        os.replace(fetched, checkpoint)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _fetch(client, entry: Published, folder: Path, place: str) -> Path:
    """The client's own call, and its failures in our words."""
    not_there = _errors_of_absence(client, entry)
    try:
        with _quiet_unless_watched(client.__name__):
            if entry.hub == MODELSCOPE:
                path = _modelscope(client).download_file(entry.repository, "model", entry.file, local_dir=folder)
            else:
                path = client.hf_hub_download(entry.repository, entry.file, local_dir=folder,
                                              endpoint=os.environ.get("HF_ENDPOINT") or None)
        return Path(path)
    except not_there as error:
        if "LocalEntryNotFound" not in type(error).__name__:  # Hugging Face's way to say that it can't be reached
            raise DataError(f"{entry.hub}: {entry.repository}", f"has no {entry.file} that can be fetched "
                            f"({_first_line(error)}); put {place}") from None
        raise _unreachable(entry, error.__cause__ or error, place) from None
    except Exception as error:  # noqa: BLE001 - those of the clients' network libraries too: it didn't come
        raise _unreachable(entry, error, place) from None


def _modelscope(client):
    """Its client asks for the variable once in a process's life."""
    return client.HubApi(endpoint=os.environ.get("MODELSCOPE_ENDPOINT") or None)


def _errors_of_absence(client, entry: Published) -> tuple[type[Exception], ...]:
    if entry.hub == MODELSCOPE:
        return (client.NotExistError, client.NotFoundError)
    from huggingface_hub import errors

    return (errors.EntryNotFoundError, errors.RepositoryNotFoundError)


def _unreachable(entry: Published, error: BaseException, place: str) -> MachineError:
    return MachineError(f"{entry.name}: can't be fetched from {entry.hub} ({_first_line(error)}); run again, or put "
                        f"{place}")


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split("\n")[0].split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


@contextlib.contextmanager
def _quiet_unless_watched(client: str) -> Iterator[None]:
    """Progress bars on a terminal only; of the client's own talk errors only, which are told in our words."""
    logging.getLogger(client).setLevel(logging.CRITICAL)
    if sys.stderr.isatty():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _convert(entry: Published, checkpoint: Path, model: Path) -> None:
    from speakerkit.models.published.make_model import Words, make_model

    words = Words(entry.name, entry.training_data, "", entry.licence)
    make_model(checkpoint, model, files.sha256_file(checkpoint), entry.source, words)
