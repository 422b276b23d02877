"""The list of recordings that can't be used, and whether that many may be left out."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from speakerkit.errors import DataError, RecordingError
from speakerkit.io import files


@dataclass
class BadRecordings:
    """Faults of content, by id, in the order they were found."""

    output: str
    rows: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # id -> path, reason code, detail

    @property
    def list_path(self) -> Path:
        """`<output>.bad.tsv`."""
        return Path(f"{self.output}.bad.tsv")

    def add(self, utt_id: str, error: RecordingError, path: str | None = None) -> None:
        """Note one; ``path`` stands in for the error's own."""
        self.rows[utt_id] = (path or error.path, error.reason, error.detail)

    def write(self) -> None:
        """Write the list, or remove an old one when nothing is bad."""
        if not self.rows:
            self.list_path.unlink(missing_ok=True)
            return
        lines = ["id\tpath\treason\tdetail"]
        for utt_id, row in self.rows.items():
            lines.append("\t".join([utt_id, *(text.replace("\t", " ").replace("\n", " ") for text in row)]))
        files.write_text(self.list_path, "\n".join(lines) + "\n")

    def judge(self, total: int, allowed_bad: Callable[[int], int], rerun: str) -> None:
        """Write the list, and refuse more than are allowed.

        Args:
            total: recordings in all.
            allowed_bad: from that number to the number that may be left out.
            rerun: the command that would finish, all but the number of bad ones.

        Raises:
            DataError: too many; it names the list and the command.
        """
        self.write()
        count = len(self.rows)
        if count <= allowed_bad(total) and count < total:
            return
        utt_id, (path, reason, detail) = next(iter(self.rows.items()))
        cure = f"to leave them out: {rerun} --max-bad {count}" if count < total else "nothing is left"
        raise DataError(
            self.list_path,
            f"{count:,} of {total:,} recordings can't be used, first '{utt_id}': {path}: {reason}"
            + (f": {detail}" if detail else "")
            + f"; the rest is kept; {cure}",
        )

    def counts(self) -> dict[str, int]:
        """`bad_<reason>` -> how many, as --json names them."""
        found: dict[str, int] = {}
        for _, reason, _ in self.rows.values():
            name = f"bad_{reason.replace('-', '_')}"
            found[name] = found.get(name, 0) + 1
        return found



def count_reasons(output: str | os.PathLike) -> dict[str, int] | None:
    """Reason code -> recordings of the list beside an output; None where there is no list.

    Raises:
        DataError: a line without its four fields.
    """
    path = Path(f"{os.fspath(output)}.bad.tsv")
    if not path.is_file():
        return None
    counts: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="backslashreplace").splitlines()[1:], 2):
        fields = line.split("\t")
        if len(fields) != 4:
            raise DataError(path, f"{len(fields)} fields; wanted id, path, reason and detail", number)
        counts[fields[2]] = counts.get(fields[2], 0) + 1
    return counts
