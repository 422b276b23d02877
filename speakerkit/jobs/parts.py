"""Long work kept in parts: what is finished stays finished, as long as its recordings stay as they were."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from speakerkit.io import files

PART_SECONDS = 3600.0  # of audio
PART_UTTERANCES = 1000


def split_parts(seconds: Sequence[float], part_seconds: float = PART_SECONDS) -> list[range]:
    """Cut a list of utterances, by their seconds of audio, into runs of indices; the same for every --nj.

    Every PART_UTTERANCES there is a cut in any case, so that a recording that is mended later
    moves the cuts of its own run only.
    """
    parts, start, total = [], 0, 0.0
    for index, value in enumerate(seconds):
        if index > start and (total + value > part_seconds or index % PART_UTTERANCES == 0):
            parts.append(range(start, index))
            start, total = index, 0.0
        total += value
    if start < len(seconds):
        parts.append(range(start, len(seconds)))
    return parts


class PartFolder:
    """The finished parts of one output, numbered from 0: `<stem>00001.ark` is the first one's data.

    Beside it lies `<stem>00001.json`, written last: facts of the part, the fingerprint of the
    recordings it was made from, and the data's size, time and SHA-256.
    """

    def __init__(self, folder: str | os.PathLike, identity: dict, stem: str = ""):
        """Open or make the folder; parts of another identity are removed, for they belong to something else.

        Args:
            folder: where they lie; other files in it are left alone.
            identity: all that makes a part what it is, but for its recordings.
            stem: what the names begin with.
        """
        self.folder, self.stem = Path(folder), stem
        if not self.is_there(folder, identity, stem):
            self._remove_parts(keep=())
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_json(_identity_path(folder, stem), identity)

    @staticmethod
    def is_there(folder: str | os.PathLike, identity: dict, stem: str = "") -> bool:
        """Whether a run of this identity has left its parts in the folder."""
        return _read_json(_identity_path(folder, stem)) == json.loads(json.dumps(identity))

    def data_path(self, number: int) -> Path:
        """Where a part's data lie."""
        return self.folder / f"{self.stem}{number + 1:05d}.ark"

    def finish(self, number: int, fingerprint: str, facts: dict) -> dict:
        """Mark a part whose data file is written as done; gives back what ``finished`` will."""
        data = self.data_path(number)
        status = data.stat()
        facts = facts | {"fingerprint": fingerprint, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns,
                         "sha256": files.sha256_file(data)}
        files.write_json(data.with_suffix(".json"), facts)
        return facts

    def finished(self, number: int, fingerprint: str) -> dict | None:
        """A part's facts, or None where it isn't done, or its recordings or its data have changed since."""
        data = self.data_path(number)
        facts = _read_json(data.with_suffix(".json"))
        if not isinstance(facts, dict) or facts.get("fingerprint") != fingerprint:
            return None
        return facts if is_as_written(data, facts) else None

    def remove(self) -> None:
        """The output is whole and holds what the parts held: the folder isn't needed any more."""
        self._remove_parts(keep=())  # first: what names the folder as ours goes last, however this ends
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep_data(self, names: Collection[str]) -> None:
        """The output is whole and points at these data files: all else of the parts goes."""
        self._remove_parts(keep=names)
        _identity_path(self.folder, self.stem).unlink(missing_ok=True)

    def _remove_parts(self, keep: Collection[str]) -> None:
        name = re.compile(re.escape(self.stem) + r"\d{5,}\.(ark|scp|json)")
        with contextlib.suppress(FileNotFoundError):
            for path in list(self.folder.iterdir()):
                if name.fullmatch(path.name) and path.name not in keep:
                    path.unlink()


def _identity_path(folder: str | os.PathLike, stem: str) -> Path:
    return Path(folder) / f"{stem}parts.json"


def is_as_written(path: Path, facts: dict) -> bool:
    """Whether a file still has its bytes: by size and time, and where only the time differs by its SHA-256."""
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_size != facts.get("bytes"):
        return False
    return status.st_mtime_ns == facts.get("mtime_ns") or files.sha256_file(path) == facts.get("sha256")


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
