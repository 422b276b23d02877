"""Long work kept in parts: what is finished stays finished, and belongs to one manifest."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from speakerkit.io import files
from speakerkit.io.files import Manifest

PART_SECONDS = 3600.0  # of audio
PART_UTTERANCES = 1000


def split_parts(seconds: Sequence[float]) -> list[range]:
    """Cut a list of utterances, by their seconds of audio, into runs of indices; the same for every --nj."""
    parts, start, total = [], 0, 0.0
    for index, value in enumerate(seconds):
        if index > start and (total + value > PART_SECONDS or index - start >= PART_UTTERANCES):
            parts.append(range(start, index))
            start, total = index, 0.0
        total += value
    if start < len(seconds):
        parts.append(range(start, len(seconds)))
    return parts


class PartFolder:
    """`<output>.parts/`: finished parts of one output, numbered from 0.

    A part is its data file and `NNNNN.json`, written last: facts of the part and the data's SHA-256.
    A folder of another manifest is cleared: its parts belong to something else.
    """

    def __init__(self, output: str | os.PathLike, manifest: Manifest):
        self.folder = Path(f"{os.fspath(output)}.parts")
        identity = self.folder / "manifest.json"
        try:
            known = json.loads(identity.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if known != manifest.to_json():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            files.write_json(identity, manifest.to_json())

    def data_path(self, number: int) -> Path:
        """Where a part's data lie."""
        return self.folder / f"{number:05d}.ark"

    def finish(self, number: int, facts: dict) -> None:
        """Mark a part whose data file is written as done."""
        data = self.data_path(number)
        files.write_json(data.with_suffix(".json"), facts | {"sha256": files.sha256_file(data)})

    def finished(self, number: int) -> dict | None:
        """A part's facts, or None where it isn't done or its data have changed since."""
        data = self.data_path(number)
        try:
            facts = json.loads(data.with_suffix(".json").read_text(encoding="utf-8"))
            return facts if facts["sha256"] == files.sha256_file(data) else None
        except (OSError, ValueError, KeyError):
            return None

    def remove(self) -> None:
        """The output is whole: its parts aren't needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
