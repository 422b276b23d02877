"""Ctrl-C and SIGTERM as exceptions that don't get lost."""

import contextlib
import signal
import weakref
from collections.abc import Iterator

AGAIN_S = 0.5  # until what was raised and dropped is raised once more


class Terminated(BaseException):
    """SIGTERM: open files are dropped in order, then the command ends with 143."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; Python's own class can't be referred to weakly."""


class Stopper:
    """Raises where a signal finds the main thread, and again for as long as nobody has caught it.

    Python drops what is raised in a destructor, a hook behind a fork or a library's callback ("Exception ignored in
    ..."), and the command would go on as if nobody had stopped it. An exception on its way is held by whoever handles
    it, also while a file is being closed; one that was dropped is gone.
    """

    def __init__(self):
        self._kind: type[BaseException] | None = None
        self._raised: weakref.ref | None = None
        self._alarm_before = None

    @contextlib.contextmanager
    def watch(self) -> Iterator["Stopper"]:
        """SIGTERM and Ctrl-C are this one's while it lasts, where the main thread runs it and nobody ignores them."""
        kinds = {signal.SIGTERM: Terminated}
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            kinds[signal.SIGINT] = Interrupted
        before = {}

        def stop(signum, frame):
            self._kind = kinds[signum]
            if self._alarm_before is None:
                self._alarm_before = signal.signal(signal.SIGALRM, self._again), signal.getitimer(signal.ITIMER_REAL)
                signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
            self._raise()

        with contextlib.suppress(ValueError):  # not the main thread: the caller owns the signals
            before = {signum: signal.signal(signum, stop) for signum in kinds}
        try:
            yield self
        finally:
            self.caught()
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def caught(self) -> None:
        """What was raised has arrived: nothing more will be."""
        if self._alarm_before is not None:
            (handler, timer), self._alarm_before = self._alarm_before, None
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    def _again(self, signum, frame) -> None:
        if self._raised() is None:
            self._raise()

    def _raise(self) -> None:
        error = self._kind()
        self._raised = weakref.ref(error)
        try:
            raise error
        finally:
            del error  # this frame, which the traceback holds, would keep it alive
