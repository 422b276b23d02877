"""The one writer: files whole or not at all (`output.py`), locks (`locks.py`), a manifest beside each output.

A manifest says what an output was made from and what it holds, so that a rerun knows whether
there is anything to do, and what has changed if there is.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from speakerkit.errors import ConfigError, DataError
from speakerkit.io.locks import output_lock
from speakerkit.io.output import (
    before_publishing,
    check_writable,
    failpoint,
    forget_before_publishing,
    open_output,
    refuse_input_as_output,
)

__all__ = ["Manifest", "check_writable", "failpoint", "manifest_path", "open_output", "output_lock", "output_state",
           "prepare_output", "read_manifest", "refuse_input_as_output", "sha256_file", "write_json",
           "write_manifest", "write_text"]

_MAX_DIFFERENCES_TOLD = 3


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with open_output(path, "w") as stream:
        stream.write(text)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write JSON with sorted keys, whole or not at all; ValueError for NaN and Infinity, which JSON lacks."""
    write_text(path, _to_json_text(value) + "\n")


def _to_json_text(value: object) -> str:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1, sort_keys=True, default=_plain_value)
    # A byte of a path that is no UTF-8 is a lone surrogate here; as \udcff, JSON's own way to write it, it comes back.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain_value(value: object) -> object:
    """What JSON has no word for: a path becomes text, a numpy scalar a Python number."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def sha256_file(path: str | os.PathLike) -> str:
    """SHA-256 of a whole file as 64 hex digits; DataError if it can't be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(path, (error.strerror or str(error)).lower()) from error


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an output is made from: equal manifests mean equal outputs.

    Attributes:
        command: the command's name.
        options: every option that changes the result.
        inputs: path or name of each table, configuration and model -> SHA-256.
        version: speakerkit's version.
    """
    command: str
    options: dict
    inputs: dict[str, str]
    version: str

    def to_json(self) -> dict:
        """The same as plain JSON values: tuples as lists, paths as text."""
        return json.loads(_to_json_text(dataclasses.asdict(self)))


def manifest_path(path: str | os.PathLike) -> Path:
    """`<path>.manifest.json`."""
    return Path(f"{os.fspath(path)}.manifest.json")


def write_manifest(path: str | os.PathLike, manifest: Manifest, results: dict,
                   extra_outputs: Sequence[str | os.PathLike] = (), sha256: str | None = None) -> None:
    """Write the manifest of a finished output; the last thing a command does.

    Args:
        path: the output; the manifest lies beside it.
        results: metric values, counts, audio seconds: what a rerun prints again. No NaN, no Infinity.
        extra_outputs: further files of the same run, such as the scp of an ark.
        sha256: the output's, where its writer knows it; None: the file is read again.
    """
    outputs = {}
    for output in (path, *extra_outputs):
        forget_before_publishing(output)
        known = sha256 if output is path else None
        outputs[_name_beside(path, output)] = {"bytes": os.stat(output).st_size, "sha256": known or sha256_file(output)}
    write_json(manifest_path(path), manifest.to_json() | {"finished": True, "outputs": outputs, "results": results})


def read_manifest(path: str | os.PathLike) -> dict | None:
    """The manifest beside an output, or None where there is none or its run did not finish.

    Returns:
        `command`, `options`, `inputs`, `version`, `outputs` (name -> bytes, sha256) and `results`.

    Raises:
        DataError: the manifest is no JSON object.
    """
    manifest = _read_any_manifest(path)
    return manifest if manifest is not None and manifest["finished"] else None


def output_state(path: str | os.PathLike, manifest: Manifest,
                 extra_outputs: Sequence[str | os.PathLike] = ()) -> str:
    """Compare what lies at `path` with what would be made now.

    Returns:
        `absent`: nothing is there, or the remains of a killed run of this very manifest;
        `same`: made from an equal manifest, and each file still has the bytes it was written with;
        `different`: another manifest, or changed bytes; `unknown`: files without a readable manifest.
    """
    return _compare(path, manifest, extra_outputs)[0]


def prepare_output(path: str | os.PathLike, manifest: Manifest, overwrite: bool,
                   extra_outputs: Sequence[str | os.PathLike] = ()) -> bool:
    """Whether there is anything to do; refuses to replace what was made differently.

    Returns:
        False if `path` is what this run would make, True to go on.

    Raises:
        ConfigError: `path` was made from something else, or nobody knows from what, and not
            `overwrite`; says what differs.
    """
    state, differences = _compare(path, manifest, extra_outputs)
    if state == "same":
        return False
    if state != "absent" and not overwrite:
        told = "; ".join(differences[:_MAX_DIFFERENCES_TOLD])
        more = len(differences) - _MAX_DIFFERENCES_TOLD
        there = next(output for output in (path, *extra_outputs) if os.path.lexists(output))
        raise ConfigError(f"{os.fspath(there)}: exists already: {told}{f'; and {more} more' if more > 0 else ''}; "
                          "give --overwrite to replace it")
    if state == "absent":
        # A run killed between its first file and its manifest must not look like a stranger's output.
        unfinished = manifest.to_json() | {"finished": False, "outputs": {}, "results": {}}
        for output in (path, *extra_outputs):
            before_publishing(output, lambda: write_json(manifest_path(path), unfinished))
    return True


def _compare(path: str | os.PathLike, manifest: Manifest,
             extra_outputs: Sequence[str | os.PathLike]) -> tuple[str, list[str]]:
    outputs = (path, *extra_outputs)
    if not any(os.path.lexists(output) for output in outputs):
        return "absent", []
    try:
        old = _read_any_manifest(path)
    except DataError as error:
        return "unknown", [str(error)]
    if old is None:
        return "unknown", [f"{manifest_path(path)} is missing"]
    differences = _manifest_differences(old, manifest.to_json())
    if not old["finished"]:
        return ("different", ["an unfinished run wrote it", *differences]) if differences else ("absent", [])
    differences += _output_differences(old, path, outputs)
    return ("different", differences) if differences else ("same", [])


def _read_any_manifest(path: str | os.PathLike) -> dict | None:
    place = manifest_path(path)
    try:
        manifest = json.loads(place.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(place, f"is no manifest that can be read: {error}") from error
    wanted = {"command": str, "options": dict, "inputs": dict, "version": str, "finished": bool, "outputs": dict,
              "results": dict}
    if not isinstance(manifest, dict):
        raise DataError(place, "is no manifest; wanted a JSON object")
    for name, kind in wanted.items():
        if not isinstance(manifest.get(name), kind):
            raise DataError(place, f"is no manifest: '{name}' is missing or no {kind.__name__}")
    return manifest


def _manifest_differences(old: dict, new: dict) -> list[str]:
    differences = []
    for name in ("command", "version"):
        if old[name] != new[name]:
            differences.append(f"made by {name} {old[name]}, now {new[name]}")
    for name in sorted(old["options"].keys() | new["options"].keys()):
        before, now = old["options"].get(name), new["options"].get(name)
        if before != now:
            differences.append(f"made with {name} {json.dumps(before, ensure_ascii=False)}, "
                               f"now {json.dumps(now, ensure_ascii=False)}")
    for name in sorted(old["inputs"].keys() | new["inputs"].keys()):
        if name not in new["inputs"]:
            differences.append(f"made from {name} too")
        elif name not in old["inputs"]:
            differences.append(f"made without {name}")
        elif old["inputs"][name] != new["inputs"][name]:
            differences.append(f"{name} has changed since")
    return differences


def _output_differences(old: dict, path: str | os.PathLike, outputs: Sequence[str | os.PathLike]) -> list[str]:
    differences = []
    for output in outputs:
        recorded = old["outputs"].get(_name_beside(path, output))
        if not isinstance(recorded, dict):
            differences.append(f"made without {os.fspath(output)}")
        elif not os.path.isfile(output):
            differences.append(f"{os.fspath(output)} is gone")
        elif os.stat(output).st_size != recorded.get("bytes"):
            differences.append(f"{os.fspath(output)} has {os.stat(output).st_size} bytes, "
                               f"was written with {recorded.get('bytes')}")
        elif sha256_file(output) != recorded.get("sha256"):
            differences.append(f"{os.fspath(output)} is not as it was written")
    return differences


def _name_beside(path: str | os.PathLike, output: str | os.PathLike) -> str:
    """The name of an output in a manifest: relative to its folder, so that the whole folder can move."""
    return os.path.relpath(output, os.path.dirname(os.path.abspath(path)))
