"""From a command's function to its exit code: what is told on stderr, what --json says, how signals end it."""

import argparse
import atexit
import contextlib
import errno
import gc
import io
import json
import logging
import math
import os
import re
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator

from speakerkit import __version__
from speakerkit.cli.stopping import Stopper, Terminated
from speakerkit.errors import ConfigError, DataError, DataErrors, MachineError

SCHEMA = 1  # of the --json object
MOST_FAULTS = 10  # told one a line; then a count
NEW_OBJECTS = 10_000  # between two looks for garbage in cycles
NO_MEMORY = re.compile(r"can't allocate memory|CUDA out of memory")  # torch's words on a CPU and on a GPU
# Of a file or folder on the way, where nothing nearer has said what it was wanted for.
OUT_OF_REACH = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE, errno.EMFILE, errno.ENFILE)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

log = logging.getLogger("speakerkit")


class _ClosedOutput(io.RawIOBase):
    """Standard output that was closed before the command began: nothing can be written to it, and that is told."""

    def writable(self) -> bool:
        """True: it takes the place of an output."""
        return True

    def write(self, data) -> int:
        """Refuse."""
        raise MachineError("standard output is closed; want it open, or a file (--output, --json) where there is one")


def _replace_closed_streams() -> None:
    """Standard streams that were closed: Python has None for them, and the next file opened would take their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, io.TextIOWrapper(_ClosedOutput(), "utf-8") if name == "stdout" else stream)


class _TellFormatter(logging.Formatter):
    def __init__(self, program: str):
        super().__init__()
        self.program = program

    def format(self, record: logging.LogRecord) -> str:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        return f"{self.program}: {kind}{record.getMessage()}"


@contextlib.contextmanager
def _telling(program: str, quiet: bool) -> Iterator[None]:
    """The log goes to stderr under the program's name; afterwards all is as before."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TellFormatter(program))
    handler.setLevel(logging.WARNING if quiet else logging.INFO)  # a log file still gets everything

    before, handlers = (log.level, log.propagate), log.handlers[:]
    log.handlers[:], log.propagate = [handler], False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers[:] = handlers
        log.setLevel(before[0])
        log.propagate = before[1]


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Garbage in cycles is looked for less often, and when the process ends not at all.

    Importing torch makes objects that stay; looking through them every 700 new ones and once more at the end takes
    0.5 s of 2, in which no worker has begun or all have ended.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], NEW_OBJECTS) if before[0] else 0, *before[1:])
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _tell(program: str, message: object) -> None:
    """One line, whatever a file name in it holds: a newline would fake a second one, an escape move the cursor."""
    shown = "".join(repr(char)[1:-1] if unicodedata.category(char) == "Cc" else char for char in str(message))
    print(f"{program}: {shown}", file=sys.stderr)


def _tell_data_error(program: str, error: DataError) -> None:
    faults = error.faults if isinstance(error, DataErrors) else [error]
    for fault in faults[:MOST_FAULTS]:
        _tell(program, fault)
    if len(faults) > MOST_FAULTS:
        _tell(program, f"... and {len(faults) - MOST_FAULTS:,} more")


def _translated(error: BaseException) -> BaseException:
    """A library's word for a full disk, too little memory, a file out of reach as a MachineError."""
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return MachineError(f"{error.filename or 'output'}: {error.strerror}")
    if isinstance(error, OSError) and error.errno in OUT_OF_REACH and error.filename is not None:
        return MachineError(f"{os.fsdecode(error.filename)}: can't be reached: {error.strerror.lower()}")
    if isinstance(error, FileNotFoundError) and error.filename is None:  # os.getcwd alone says no name
        return MachineError("the working folder is gone; want one that is there")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        return MachineError(f"out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return error


def _exit_code(program: str, error: BaseException) -> int:
    """Tell an error on stderr; returns the exit code it stands for."""
    error = _translated(error)
    if isinstance(error, DataError):
        _tell_data_error(program, error)
        return 1
    if isinstance(error, ConfigError):
        _tell(program, error)
        return 2
    if isinstance(error, MachineError):
        _tell(program, error)
        return 75
    if isinstance(error, KeyboardInterrupt):
        print(f"{program}: stopped by Ctrl-C", file=sys.stderr)
        return 130
    if isinstance(error, Terminated):
        print(f"{program}: stopped by SIGTERM", file=sys.stderr)
        return 143
    traceback.print_exception(error)
    print(f"{program}: a bug in speakerkit {__version__}; please report it with the lines above", file=sys.stderr)
    return 70


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _write_report(program: str, args: argparse.Namespace, code: int, started: float, error: str | None) -> int:
    from speakerkit.io import files

    status = {0: "ok", 1: "bad-data", 2: "bad-configuration", 75: "machine-failed"}.get(
        code, "stopped" if code > 128 else "bug"
    )
    head = {
        "command": program,
        "schema": SCHEMA,
        "version": __version__,
        "status": status,
        "exit_code": code,
        "seconds": round(time.monotonic() - started, 3),
    }
    if error:
        head["error"] = error
    try:
        if args.json == "-":
            print(json.dumps(head | _finite(args.report), ensure_ascii=False, allow_nan=False))
        else:
            files.write_json(args.json, head | _finite(args.report))
    except (OSError, MachineError) as failure:
        print(f"{program}: --json: {failure}", file=sys.stderr)
        return code or 75
    return code


def run(
    parser: argparse.ArgumentParser, function: Callable[[argparse.Namespace], None], argv: list[str] | None = None
) -> int:
    """Parse, call, and turn what happens into an exit code (interface: 0, 1, 2, 70, 75, 130, 143).

    ``function`` gets the parsed options and fills ``args.report`` (a dictionary for --json) as it
    goes, so that what is known stands there on failure too.
    """
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:  # argparse: 0 for --help, 2 for a wrong command line
        return int(end.code or 0)
    _replace_closed_streams()
    program, started = parser.prog, time.monotonic()
    args.report = {}
    args.command_line = [program, *(sys.argv[1:] if argv is None else argv)]
    with _few_collections(), _telling(program, args.quiet), Stopper().watch() as stopper:
        if args.json and _is_named_twice(args):
            _tell(program, f"--json {args.json} is another file of this command; want a name of its own")
            return 2
        code, told = _call(program, function, args, stopper)
        if args.json:
            code = _write_report(program, args, code, started, told)
    return code


def _is_named_twice(args: argparse.Namespace) -> bool:
    """Whether the file of --json is also given as something else, which the report would be written over."""
    others = [value for name, value in vars(args).items() if name not in ("json", "command_line")]
    words = [word for value in others for word in (value if isinstance(value, list) else [value])]
    return any(isinstance(word, str) and word != "-" and os.path.realpath(word) == os.path.realpath(args.json)
               for word in words)


def _call(program: str, function: Callable, args: argparse.Namespace, stopper: Stopper) -> tuple[int, str | None]:
    """Exit code, and what went wrong in words."""
    try:
        function(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `... | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends in an exit code
        stopper.caught()
        return _exit_code(program, error), str(_translated(error)) or type(error).__name__
    return 0, None
