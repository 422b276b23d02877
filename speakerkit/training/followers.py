"""The training processes that the first one starts on its host, watches, and takes with it when it ends."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait

from speakerkit.errors import ConfigError, DataError, MachineError
from speakerkit.training import ranks

log = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1  # prctl's number in linux/prctl.h
LOST = 75  # exit code of a process that others have left alone
NOTICE_S = 20.0  # how long after a process died the exchange of gradients may take to notice


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the one that started it is gone, however it went (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before the kernel was told
        os._exit(LOST)


def apart_from_terminal() -> None:
    """In a process group of its own and deaf to Ctrl-C, so that the first process ends the run in order."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _follow(
    parent: int, rank: int, size: int, meeting: str, device_type: str, pipe, work: Callable, args: tuple
) -> None:
    """What a started process does: its work, and tell the first one why it ended."""
    die_with_parent(parent)
    apart_from_terminal()
    if sys.platform == "linux":  # a spawned process would spawn its data workers too, and leave named semaphores
        multiprocessing.set_start_method("fork", force=True)
    logging.disable(logging.WARNING)  # the first process says it
    try:
        pipe.send("ready")
        with ranks.join(rank, size, meeting, device_type) as group:
            work(group, *args)
    except ranks.PeerLost:
        os._exit(LOST)  # the first process is gone, or knows already
    except (DataError, ConfigError, MachineError) as error:
        _hand_over(pipe, error)
    except Exception:  # noqa: BLE001 - a bug is raised by the first process too, with the traceback from here
        _hand_over(pipe, RuntimeError(f"in training process {rank + 1} of {size}:\n{traceback.format_exc()}"))


def _hand_over(pipe, error: Exception) -> None:
    pipe.send(error)
    pipe.close()
    os._exit(1)


class Followers:
    """The processes 1..size-1, and what became of them."""

    def __init__(self, size: int, meeting: str, device_type: str, work: Callable, args: tuple):
        context = multiprocessing.get_context("spawn")  # CUDA, and OpenMP's threads, don't survive a fork
        self.size, self.processes, self.pipes = size, [], []
        for rank in range(1, size):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_follow,
                args=(os.getpid(), rank, size, meeting, device_type, theirs, work, args),
                name=f"train-{rank}",
            )
            self.processes.append(process)
            self.pipes.append(mine)
            process.start()
            theirs.close()

    def await_ready(self) -> None:
        """Return when all have started.

        Raises:
            MachineError: one died before that.
        """
        for pipe in self.pipes:
            try:
                pipe.recv()
            except EOFError:
                self.raise_loss()

    def first_ended(self) -> int | None:
        """Which process has ended for another reason than being done."""
        ended = [n for n, process in enumerate(self.processes) if process.exitcode not in (None, 0, LOST)]
        return ended[0] if ended else None

    def loss(self, number: int) -> BaseException:
        """Why a process ended: its own error, or what killed it."""
        process, pipe = self.processes[number], self.pipes[number]
        with contextlib.suppress(EOFError, OSError):
            while pipe.poll():
                said = pipe.recv()
                if isinstance(said, BaseException):
                    return said
        code = process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        memory = ", probably for want of memory" if code == -signal.SIGKILL else ""
        return MachineError(
            f"training process {number + 2} of {self.size} (pid {process.pid}) {how}{memory}; "
            "the same command goes on from the last checkpoint"
        )

    def raise_loss(self) -> None:
        """Raise why the first of them ended, which may take a moment to show; nothing where all are well."""
        deadline = time.monotonic() + NOTICE_S
        while (number := self.first_ended()) is None and time.monotonic() < deadline:
            left = [process.sentinel for process in self.processes if process.exitcode is None]
            if not left or not wait(left, deadline - time.monotonic()):
                return
        if number is not None:
            raise self.loss(number) from None

    def watch(self, done: threading.Event) -> None:
        """End this process where another one's end leaves it waiting for ever, as NCCL does."""
        while not done.wait(1.0):
            number = self.first_ended()
            if number is not None:
                if not done.wait(NOTICE_S):
                    log.error("%s", self.loss(number))
                    self.kill()
                    os._exit(LOST)
                return

    def kill(self) -> None:
        """None is left."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


@contextlib.contextmanager
def start_followers(size: int, device_type: str, work: Callable, args: tuple) -> Iterator[ranks.Ranks]:
    """Train together with ``size`` - 1 more processes that run ``work(their ranks, *args)``; of size 1, alone.

    Raises:
        MachineError: a process was killed; says which. Its own error, where it raised one.
    """
    if size == 1:
        yield ranks.Ranks()
        return
    with ranks.meeting_place() as meeting:
        followers = Followers(size, meeting, device_type, work, args)
        done = threading.Event()
        try:
            followers.await_ready()
            threading.Thread(target=followers.watch, args=(done,), daemon=True).start()
            with ranks.join(0, size, meeting, device_type) as group:
                yield group
        except ranks.PeerLost:
            done.set()
            followers.raise_loss()
            raise
        finally:
            done.set()
            followers.kill()
