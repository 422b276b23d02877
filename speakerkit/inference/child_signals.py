"""Ctrl-C and SIGTERM around a fork: the parent ends in order, its children say nothing.

A signal that comes while a process forks would raise in the hooks that run behind the fork, where Python
drops exceptions ("Exception ignored in ..."): the command would go on as if nobody had stopped it. And a
child that still has its parent's handlers tells a traceback when the whole group is stopped.
"""

import contextlib
import signal
from collections.abc import Iterator

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """While this lasts, signals that stop a command wait; threads and children begun meanwhile inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals_as_child() -> None:
    """What a child forked under ``signals_held`` does first: its parent, which sees Ctrl-C too, ends it by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
