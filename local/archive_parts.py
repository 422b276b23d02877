"""The parts of a published archive, fetched one after another into one file; what came is kept between runs."""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from archive_list import Archive, Part, hash_stream, published_digests, what_differs
from http_download import Interrupted, Refused, Version, continue_download
from speakerkit.cli import entry
from speakerkit.errors import DataError, MachineError

log = entry.log

MOST_FAILURES = 8        # attempts in a row that bring nothing
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0   # between attempts; doubled after each that brings nothing
_CHUNK = 1 << 20


class PartialFile:
    """`NAME.part`, to which the parts of an archive are appended, and what is known of its content beside it."""

    def __init__(self, path: Path, archive: Archive):
        self.path = path.with_name(f"{path.name}.part")
        self.state_path = path.with_name(f"{path.name}.part.json")
        self.finished: list[int] = []      # bytes of each part that is there and checked
        self.version = Version()           # of the next one, as far as it is there
        try:
            state = json.loads(self.state_path.read_bytes())
            if state["parts"] == [part.name for part in archive.parts]:
                self.finished = [int(size) for size in state["finished"]]
                self.version = Version(**state["version"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a first run, or nobody knows what lies there: it begins anew
        self.names = [part.name for part in archive.parts]
        size = self.path.stat().st_size if self.path.exists() else 0
        while sum(self.finished) > size:
            self.finished.pop()
            self.version = Version()

    @property
    def begin(self) -> int:
        """Where the part that is being fetched starts."""
        return sum(self.finished)

    def open(self) -> BinaryIO:
        """The file, for reading and writing; of unknown content it is emptied."""
        stream = open(self.path, "r+b" if self.path.exists() else "w+b")  # noqa: SIM115 - the caller closes it
        if self.version == Version():
            stream.truncate(self.begin)
        return stream

    def note(self, version: Version) -> None:
        """Keep what the bytes that follow are of."""
        if version != self.version:
            self.version = version
            self._save()

    def finish_part(self, num_bytes: int) -> None:
        """The part is there and right."""
        self.finished.append(num_bytes)
        self.version = Version()
        self._save()

    def _save(self) -> None:
        from speakerkit.io.files import write_json

        write_json(self.state_path, {"parts": self.names, "finished": self.finished,
                                     "version": dataclasses.asdict(self.version)})

    def publish(self, path: Path) -> None:
        """Give the whole file its name."""
        with open(self.path, "rb") as stream:
            os.fsync(stream.fileno())
        self.path.rename(path)
        self.state_path.unlink(missing_ok=True)


def fetch_part(part: Part, partial: PartialFile, stream: BinaryIO, progress: Callable[[int], None]) -> None:
    """Bring one part to the end of the file, by as many attempts as it takes.

    Raises:
        DataError: no server has it, or what they have isn't what is published.
        MachineError: no server could be reached.
    """
    urls, failures, wrong = list(part.urls), 0, 0
    while True:
        before = stream.seek(0, 2)
        try:
            continue_download(urls[0], stream, partial.begin, partial.version, part.num_bytes, partial.note, progress)
        except Refused as error:
            log.warning("%s: %s", urls[0], error)
            if len(urls) == 1:
                raise DataError(urls[0], str(error)) from None
            urls.pop(0)
            continue
        except Interrupted as error:
            failures = failures + 1 if stream.seek(0, 2) <= before else 0
            if failures >= MOST_FAILURES:
                raise MachineError(f"{urls[0]}: {error}; {failures} attempts in a row brought nothing; "
                                   "what was fetched is kept, a rerun goes on") from None
            delay = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** failures)
            log.warning("%s: %s; again in %g s", urls[0], error, delay)
            if failures:
                urls.append(urls.pop(0))  # perhaps the next mirror can be reached
            time.sleep(delay)
            continue
        num_bytes = stream.seek(0, 2) - partial.begin
        stream.flush()
        fault = what_differs(part, num_bytes, hash_stream(stream, partial.begin, tuple(published_digests(part))))
        if fault is None:
            partial.finish_part(num_bytes)
            return
        stream.truncate(partial.begin)
        partial.note(Version())
        wrong += 1
        if wrong > len(part.urls):
            raise DataError(urls[0], f"{fault}; fetched {wrong} times and dropped")
        log.warning("%s: %s; dropped, fetched again", urls[0], fault)
        urls.append(urls.pop(0))


def take_local_part(part: Part, partial: PartialFile, stream: BinaryIO, folder: Path) -> bool:
    """Append a part that somebody has put into the folder, if it is the published one."""
    path = folder / part.name
    if not (published_digests(part) and path.is_file()):
        return False
    with open(path, "rb") as local:
        fault = what_differs(part, path.stat().st_size, hash_stream(local, 0, tuple(published_digests(part))))
        if fault is not None:
            log.warning("%s: %s; not used", path, fault)
            return False
        log.info("%s: is there already, as published", path)
        stream.truncate(partial.begin)
        stream.seek(partial.begin)
        local.seek(0)
        shutil.copyfileobj(local, stream, _CHUNK)
    partial.finish_part(path.stat().st_size)
    return True
