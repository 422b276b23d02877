"""One output file, whole or not at all: temp name, sync, size check, rename; and faults on demand."""

import contextlib
import errno
import io
import os
import secrets
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterable, Iterator

from speakerkit.errors import ConfigError, MachineError
from speakerkit.io.locks import is_alive

_BUFFER_BYTES = 1 << 20
_SENT_ON_BYTES = 1 << 24
_TEMP_PREFIX = ".tmp-"
_swept_folders: set[str] = set()
_before_publishing: dict[str, Callable[[], None]] = {}
_fault_counts: dict[str, int] = {}


@contextlib.contextmanager
def open_output(path: str | os.PathLike, mode: str = "wb", encoding: str | None = None) -> Iterator[io.IOBase]:
    """Open a file for writing that takes its name only when the block ends without an exception.

    Args:
        path: the final path; missing parent folders are made, a link is followed. A device or a
            pipe (`/dev/stdout`) is written directly.
        mode: `wb`, or `w` for text with `\\n` line ends.
        encoding: of text; UTF-8 unless told.

    Raises:
        MachineError: the place can't be written or is full; what was there before is untouched.

    Written beside the final path as `.tmp-<host>-<pid>-<random>-<name>`, flushed, synced, measured
    again and renamed; then the folder is synced. Leftovers of dead processes go first.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is {mode!r}; want 'wb' or 'w'")
    path = os.fspath(path)
    encoding = None if mode == "wb" else encoding or "utf-8"
    if _is_written_directly(path):
        with _told_as_machine_error(path), open(path, mode, encoding=encoding) as stream:
            yield stream
        return
    with _told_as_machine_error(path):
        target = os.path.realpath(path)
        temp_path, descriptor = _create_temp(target)
    stream = io.BufferedWriter(_RawOutput(descriptor, path), _BUFFER_BYTES)
    if mode == "w":
        stream = io.TextIOWrapper(stream, encoding, newline="\n")
    try:
        yield stream
        with _told_as_machine_error(path):
            size = _sync(stream)
            stream.close()
            _publish(temp_path, target, size)
    except BaseException:
        with contextlib.suppress(MachineError, OSError):
            stream.close()
        with contextlib.suppress(OSError):
            os.unlink(temp_path)
        raise


def check_writable(path: str | os.PathLike) -> None:
    """Try, before any work, whether a file can be made where `path` will be; makes missing parent folders.

    Raises:
        MachineError: `path` is a folder, or its folder can't be made or written.
    """
    if _is_written_directly(os.fspath(path)):
        return
    with _told_as_machine_error(path):
        temp_path, descriptor = _create_temp(os.path.realpath(path))
        os.close(descriptor)
        os.unlink(temp_path)


def refuse_input_as_output(option: str, output: str | os.PathLike, inputs: Iterable[object]) -> None:
    """ConfigError where an output would be written over what it is made from, by whatever name.

    Args:
        option: what the message puts before the output, such as `--output`; may be empty.
        output: the path to be written.
        inputs: paths that are read; what is no path (None, a spooled stream) is let pass.
    """
    paths = (path for path in inputs if path and isinstance(path, (str, os.PathLike)))
    if any(os.path.realpath(output) == os.path.realpath(path) for path in paths):
        raise ConfigError(f"{option} {os.fspath(output)} is one of the inputs".lstrip())


def before_publishing(path: str | os.PathLike, action: Callable[[], None]) -> None:
    """Run `action` once, just before this process gives a finished file the name `path`."""
    _before_publishing[os.path.realpath(path)] = action


def forget_before_publishing(path: str | os.PathLike) -> None:
    """Drop the action that `before_publishing` was given for `path`, if it has not run."""
    _before_publishing.pop(os.path.realpath(path), None)


def failpoint(point: str) -> None:
    """Fail here on purpose when $SPEAKERKIT_FAULT is `point:N:action`; for tests of crashes.

    Args:
        point: the name of this place; a variable that begins with `any:` counts all places together.

    The N-th pass acts: `kill` ends the process as SIGKILL does, `enospc` and `eio` raise OSError.
    """
    order = os.environ.get("SPEAKERKIT_FAULT")
    if not order:
        return
    wanted, number, action = order.split(":")
    if wanted not in (point, "any"):
        return
    _fault_counts[wanted] = _fault_counts.get(wanted, 0) + 1
    if _fault_counts[wanted] != int(number):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    code = {"enospc": errno.ENOSPC, "eio": errno.EIO}[action]
    raise OSError(code, os.strerror(code))


class _RawOutput(io.FileIO):
    """The temp file below the buffer; its failures name the final path, not the temp one."""

    def __init__(self, descriptor: int, final_path: str):
        super().__init__(descriptor, "wb")
        self.final_path = final_path
        self._num_written = self._num_sent = 0

    def write(self, data) -> int:
        with _told_as_machine_error(self.final_path):
            failpoint("write")
            num_written = super().write(data)
        self._num_written += num_written
        if self._num_written - self._num_sent >= _SENT_ON_BYTES:
            self._send_on()
        return num_written

    def _send_on(self) -> None:
        """Have the system begin to move to disk what was written, so that the sync at the end waits for little.

        Linux writes out what it is told isn't needed; it drops only what is on disk already, which this is not.
        """
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # a hint, which not every file system takes
                os.posix_fadvise(self.fileno(), self._num_sent, self._num_written - self._num_sent,
                                 os.POSIX_FADV_DONTNEED)
        self._num_sent = self._num_written


@contextlib.contextmanager
def _told_as_machine_error(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = (error.strerror or str(error)).lower()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free
                message += f" ({free / 1e9:.2f} GB free there)"
        raise MachineError(f"{os.fspath(path)}: can't be written: {message}") from error


def _is_written_directly(path: str) -> bool:
    """Whether the path is no ordinary file: a rename would, as root, replace even /dev/null."""
    if os.path.abspath(path).startswith("/dev/"):
        return not os.path.abspath(path).startswith("/dev/shm/")
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind)


def _create_temp(target: str) -> tuple[str, int]:
    failpoint("open")
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    _sweep_dead_temps(folder)
    short_name = os.fsdecode(os.fsencode(name)[:100])
    temp_name = f"{_TEMP_PREFIX}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}-{short_name}"
    temp_path = os.path.join(folder, temp_name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return temp_path, os.open(temp_path, flags, 0o666)


def _sweep_dead_temps(folder: str) -> None:
    """Remove temp files whose writer on this host is gone; once for each folder in a process's life."""
    if folder in _swept_folders:
        return
    _swept_folders.add(folder)
    prefix = f"{_TEMP_PREFIX}{socket.gethostname()}-"
    with contextlib.suppress(OSError):  # a folder that can't be listed may still be written
        for name in os.listdir(folder):
            pid = name.removeprefix(prefix).split("-", 1)[0]
            if name.startswith(prefix) and pid.isdecimal() and not is_alive(int(pid)):
                os.unlink(os.path.join(folder, name))


def _sync(stream: io.IOBase) -> int:
    stream.flush()
    failpoint("fsync")
    os.fsync(stream.fileno())
    return os.fstat(stream.fileno()).st_size


def _publish(temp_path: str, target: str, size: int) -> None:
    written = os.stat(temp_path).st_size
    if written != size:
        raise OSError(errno.EIO, f"only {written} of {size} bytes reached the disk")
    action = _before_publishing.pop(target, None)
    if action is not None:
        action()
    failpoint("replace")
    os.replace(temp_path, target)
    failpoint("fsync-folder")
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems can't sync a folder
            os.fsync(folder)
    finally:
        os.close(folder)
