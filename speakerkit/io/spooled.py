"""Lists that can be read once only, standard input and pipes: read from the start, or kept in a temporary file."""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from speakerkit.errors import DataError, DataErrors


class Spooled(NamedTuple):
    """A list that stands in a temporary file, and what messages call it."""
    path: str
    name: str


@contextlib.contextmanager
def readable_twice(path: str | os.PathLike | Spooled) -> Iterator[tuple[str, str]]:
    """(path to open, name for messages): standard input (`-`) and pipes are copied to a temporary file first."""
    if isinstance(path, Spooled):
        with told_as(path.name):
            yield path
        return
    path = os.fspath(path)
    if not is_pipe(path):
        yield path, path
        return
    with tempfile.NamedTemporaryFile(prefix="speakerkit-") as copy:
        with open_once(path) as source:
            shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        with told_as(name_of(path)):
            yield copy.name, name_of(path)


def name_of(path: str) -> str:
    """What messages call a list."""
    return "standard input" if path == "-" else path


def is_pipe(path: str) -> bool:
    """Whether a list can be read once only."""
    return path == "-" or (os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode))


@contextlib.contextmanager
def open_once(path: str) -> Iterator[BinaryIO]:
    """A list's bytes from the start; standard input stays open."""
    if path == "-":
        yield sys.stdin.buffer
    else:
        with open(path, "rb") as stream:
            yield stream


@contextlib.contextmanager
def told_as(name: str, lines_before: int = 0) -> Iterator[None]:
    """Faults of a temporary file, told under the name and at the line of what it is a copy of."""
    def moved(fault: DataError) -> DataError:
        return DataError(name, fault.message, fault.line and fault.line + lines_before)

    try:
        yield
    except DataErrors as errors:
        raise DataErrors([moved(fault) for fault in errors.faults]) from None
    except DataError as error:
        raise moved(error) from None
