"""Who is writing: a lock file beside an output, and whether the process it names still lives.

The lock saves a second process its wasted work; that files are whole rests on the rename in
`io/output.py` alone, for locks fail on some network file systems.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from speakerkit.errors import MachineError

log = logging.getLogger(__name__)

_WAIT_STEP_S = 0.05
_UNREADABLE_LOCK_AGE_S = 60.0  # a lock is made and filled in two steps; older and still empty: its writer died between


@contextlib.contextmanager
def output_lock(path: str | os.PathLike, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only writer of `path`: `<path>.lock` holds host, pid and time while the block runs.

    Args:
        path: the output.
        wait_s: how long to wait for another writer, a process or a thread of this one; by default not at all, for
            its output would then be replaced.

    Raises:
        MachineError: another living process, or one on another host, still holds it; says which.

    A lock whose process on this host is dead is taken over, with one line in the log.
    """
    lock_path, deadline = f"{os.fspath(path)}.lock", time.monotonic() + wait_s
    try:
        os.makedirs(os.path.dirname(os.path.abspath(lock_path)), exist_ok=True)
        while not _create_lock(lock_path):
            _remove_dead_lock(lock_path, deadline)
    except OSError as error:
        raise MachineError(f"{lock_path}: can't be written: {(error.strerror or str(error)).lower()}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock_path)


def _create_lock(lock_path: str) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(lock_path, flags, 0o644)
    except FileExistsError:
        return False
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_start(os.getpid()),
             "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    with open(descriptor, "w", encoding="utf-8") as stream:
        json.dump(owner, stream)
    return True


def _remove_dead_lock(lock_path: str, deadline: float) -> None:
    """Remove a lock whose owner is gone; while it lives, wait a little or, past the deadline, MachineError."""
    try:
        text = _read_text(lock_path)
        age_s = time.time() - os.lstat(lock_path).st_mtime
    except FileNotFoundError:
        return
    try:
        owner = json.loads(text)
        name = f"process {owner['pid']} on {owner['host']} since {owner['time']}"
        is_dead = owner["host"] == socket.gethostname() and not is_alive(int(owner["pid"]), owner["started"])
    except (ValueError, KeyError, TypeError):
        name = "a process that has not said who it is"
        is_dead = age_s > _UNREADABLE_LOCK_AGE_S
    if not is_dead and time.monotonic() < deadline:
        time.sleep(_WAIT_STEP_S)
        return
    if not is_dead:
        raise MachineError(f"{lock_path.removesuffix('.lock')}: is being written by {name}; "
                           f"wait for it, or remove {lock_path} if that process is gone")
    log.info("%s: its writer is dead (%s); taken over", lock_path, name)
    _bury_lock(lock_path, text)


def _bury_lock(lock_path: str, dead_text: str) -> None:
    """Take a dead lock away so that, of two processes that found it, neither removes the other's new one."""
    grave = f"{lock_path}.{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(lock_path, grave)
        if _read_text(grave) != dead_text:  # another took over between our reading and our renaming: put it back
            with contextlib.suppress(FileExistsError):
                os.link(grave, lock_path)
        os.unlink(grave)


def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def is_alive(pid: int, started: str | None = None) -> bool:
    """Whether a process of this host runs; the same number with another start time is another process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    start = _process_start(pid)
    return start != "gone" and (started is None or start in (started, None))


def _process_start(pid: int) -> str | None:
    """When a process began, in ticks since boot; `gone` for one that only waits to be reaped; None if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no /proc on this system
        return None
    fields = stat.rpartition(")")[2].split()  # the process name before it may hold spaces
    return "gone" if fields[0] in "ZX" else fields[19]
