"""What `--model` means: a file, an experiment folder, a bundled model's name, a published one's."""

import os
from pathlib import Path

from speakerkit.errors import DataError
from speakerkit.models.published import fetch


def _bundled_files() -> list[Path]:
    return sorted((Path(__file__).parent.parent / "pretrained").glob("*.safetensors"))


def bundled_names() -> list[str]:
    """Names of the models that come with this installation."""
    return [path.stem for path in _bundled_files()]


def find_model(name: str | os.PathLike | None) -> Path:
    """The file that ``--model`` means.

    Args:
        name: a .safetensors or .onnx file, an experiment folder (its model.safetensors), a bundled model's
            name, a published model's (`published.catalogue`), or None: $SPEAKERKIT_MODEL, else the
            bundled default.

    Raises:
        DataError: none of these, or a published model that isn't as it was published.
        ConfigError, MachineError: a published model that can't be fetched.
    """
    source = "--model"
    if name is None:
        name, source = os.environ.get("SPEAKERKIT_MODEL") or None, "$SPEAKERKIT_MODEL"
    elif not os.fspath(name):
        raise DataError("--model", "is empty; want a model file, an experiment folder or a model's name")
    bundled = _bundled_files()
    if name is None:
        if bundled:
            return bundled[0]
        raise DataError("--model", "no model is bundled with this installation; name one")
    path = Path(name)
    try:
        if path.is_dir():
            if (path / "model.safetensors").is_file():
                return path / "model.safetensors"
            raise DataError(path, "is a folder without model.safetensors: training hasn't finished there")
        if path.is_file():
            return path
    except OSError as error:  # a folder on the way that can't be entered, a name that is too long
        raise DataError(path, f"can't be read: {(error.strerror or str(error)).lower()}") from None
    for candidate in bundled:
        if candidate.stem == os.fspath(name):
            return candidate
    if published := fetch.find_published(os.fspath(name)):
        return published
    raise DataError(
        os.fspath(name),
        f"no such model ({source}); want a .safetensors file, an experiment folder, one of "
        f"{', '.join(p.stem for p in bundled) or 'no bundled models'}, or a published one (model-info --published)",
    )
