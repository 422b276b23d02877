"""What can go wrong that a user can mend, and how it is told.

``DataError`` is wrong data or a wrong model (exit 1), ``ConfigError`` a wrong command line or
configuration (exit 2), ``MachineError`` a machine that failed (exit 75). Anything else that
escapes a command is a bug (exit 70).
"""

import os
from collections.abc import Sequence

# The closed list of what can be wrong with one recording or one embedding; the same words
# stand in `<output>.bad.tsv`, in --json and in RecordingError.reason.
REASON_CODES = (
    "missing",
    "not-a-file",
    "unreadable",
    "empty",
    "truncated",
    "unsupported-format",
    "not-finite",
    "silent",
    "no-speech",
    "too-short",
    "too-long",
    "channel-not-chosen",
    "bad-sample-rate",
    "pipe-refused",
    "pipe-failed",
    "url-refused",
    "url-failed",
    "nan-embedding",
    "zero-embedding",
    "wrong-dimension",
)


class DataError(Exception):
    """Input that is wrong, not the code: one line, `path:line: what is wrong; what was wanted`.

    Args:
        path: the file at fault.
        message: what is wrong, with the value, and what was wanted.
        line: its line, counted from 1; None where a file has no lines.
    """

    def __init__(self, path: str | os.PathLike, message: str, line: int | None = None):
        self.path = os.fspath(path)
        self.message = message
        self.line = line
        super().__init__(self.path, message, line)

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.message}"


class RecordingError(DataError):
    """One recording (or its embedding) is unusable; ``reason`` is one of REASON_CODES.

    Loops over utterances catch it, note the recording in `<output>.bad.tsv` and go on.
    """

    def __init__(self, path: str | os.PathLike, reason: str, detail: str = ""):
        if reason not in REASON_CODES:
            raise ValueError(f"reason is {reason!r}; want one of {', '.join(REASON_CODES)}")
        self.reason = reason
        self.detail = detail
        super().__init__(path, f"{reason}: {detail}" if detail else reason)

    def __reduce__(self):  # keeps the three arguments when it crosses a process border
        return RecordingError, (self.path, self.reason, self.detail)


class DataErrors(DataError):
    """Several faults of one kind, found in one pass before any work."""

    def __init__(self, faults: Sequence[DataError]):
        if not faults:
            raise ValueError("DataErrors needs at least one fault")
        self.faults = list(faults)
        first = self.faults[0]
        super().__init__(first.path, first.message, first.line)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)

    def __reduce__(self):
        return DataErrors, (self.faults,)


class BatchError(DataErrors):
    """Some recordings of a batch can't be used; ``results`` has an embedding or a RecordingError for each."""

    def __init__(self, results: Sequence):
        self.results = list(results)
        super().__init__([result for result in self.results if isinstance(result, RecordingError)])

    def __reduce__(self):
        return BatchError, (self.results,)


class ConfigError(Exception):
    """A wrong command line or configuration file: exit 2."""


class MachineError(Exception):
    """Disk, memory, lock or output place failed; a rerun may work: exit 75."""


def raise_all(faults: Sequence[DataError]) -> None:
    """Raise what was found: nothing, the one fault, or all of them together."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataErrors(faults)
