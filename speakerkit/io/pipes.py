"""A wav.scp entry that is a shell pipe, `command |`, where --allow-pipes lets it run."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading

from speakerkit.errors import RecordingError

PIPE_TIMEOUT_S = 600.0
PIPE_MAX_BYTES = 2 ** 31
PIPE_BLOCK = 2 ** 20


def is_pipe(path: str) -> bool:
    """Whether an entry begins or ends in `|`, which Kaldi hands to a shell."""
    text = path.strip()
    return text.startswith("|") or text.endswith("|")


def check_pipe(path: str, allow_pipes: bool) -> None:
    """Refuse a pipe that isn't allowed or isn't an input.

    Raises:
        RecordingError: pipe-refused.
    """
    if not allow_pipes:
        raise RecordingError(path, "pipe-refused", "a shell pipe; it runs only with --allow-pipes")
    if path.strip().startswith("|"):
        raise RecordingError(path, "pipe-refused", "a pipe that writes; an input ends in '|', it doesn't begin with it")


def read_pipe(path: str, timeout_s: float = PIPE_TIMEOUT_S, max_bytes: int = PIPE_MAX_BYTES) -> bytes:
    """What a command writes to its standard output, once it has ended well.

    Args:
        path: `command |`.
        timeout_s: after so long the command and its children are ended.
        max_bytes: no more than this is read.

    Raises:
        RecordingError: pipe-failed: exit status, time or size; the last line of stderr is quoted.
    """
    command = path.strip().removesuffix("|").strip()
    bash = shutil.which("bash")  # pipefail: `sph2pipe x | sox ...` fails where its first part does
    shell = [bash, "-o", "pipefail", "-c", command] if bash else ["/bin/sh", "-c", command]
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(shell, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=talk,
                                   start_new_session=True)
        expired = threading.Event()
        timer = threading.Timer(timeout_s, lambda: (expired.set(), end_group(process)))
        timer.start()
        try:
            blocks, total = [], 0
            while block := process.stdout.read(PIPE_BLOCK):
                blocks.append(block)
                total += len(block)
                if total > max_bytes:
                    raise RecordingError(path, "pipe-failed", f"wrote more than {max_bytes} bytes")
            status = process.wait()
        except BaseException:
            end_group(process)
            raise
        finally:
            timer.cancel()
            process.stdout.close()
            process.wait()
        if expired.is_set():
            raise RecordingError(path, "pipe-failed", f"still running after {timeout_s:g} s")
        if status != 0:
            raise RecordingError(path, "pipe-failed", f"exit status {status}{quote_last_line(talk)}")
    return b"".join(blocks)


def end_group(process: subprocess.Popen) -> None:
    """End a command and the children it has left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or handed its rights on
        os.killpg(process.pid, signal.SIGKILL)


def quote_last_line(talk) -> str:
    """`: 'the last line of stderr'`, or nothing."""
    talk.seek(0, os.SEEK_END)
    talk.seek(max(0, talk.tell() - 4096))
    lines = talk.read().decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:200]!r}" if lines else ""
