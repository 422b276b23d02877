"""Worker processes for loops over utterances: one thread each, results in order, a lost worker told."""

import collections
import concurrent.futures
import concurrent.futures.process
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from speakerkit.errors import MachineError
from speakerkit.inference.child_signals import signals_held, take_signals_as_child

AHEAD = 4  # tasks a worker that are handed out before the first result is asked for
PR_SET_PDEATHSIG = 1  # of prctl(2)


def use_one_thread() -> None:
    """torch with one thread in this process: as many processes as cores are faster than threads."""
    import torch

    from speakerkit.models import device

    torch.set_num_threads(1)
    device.keep_freed_memory()


def _start_worker(parent_pid: int, set_up: Callable[[], None] | None) -> None:
    take_signals_as_child()  # Ctrl-C reaches the whole group; the parent ends its workers
    _die_with_parent(parent_pid)
    if set_up is not None:
        set_up()


def _die_with_parent(parent_pid: int) -> None:
    """End this worker when its parent is killed: nobody else tells it, and it might still write files."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the call
            os._exit(1)
        return
    ended = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (multiprocessing.connection.wait([ended]), os._exit(1)), daemon=True).start()


def run_tasks(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    nj: int,
    set_up: Callable[[], None] | None = None,
    describe: Callable[[Any], str] = str,
    has_room: Callable[[Any], bool] | None = None,
) -> Iterator[Any]:
    """Call ``function`` on every task in worker processes; yields the results in the tasks' order.

    Workers are forked where the system can, so what the parent has loaded is shared and costs
    nothing to start; torch's thread pool must not have been used by then. With one worker
    everything runs in this process.

    Args:
        function: a module-level function of one task.
        tasks: taken as they are needed.
        nj: worker processes.
        set_up: called once in each worker, or here with one worker.
        describe: a task in words, for the message about a worker that died.
        has_room: whether a task may be handed out already, for results that lie somewhere until they are
            used; it is asked again after each result. Without it AHEAD tasks a worker are out at a time.

    Raises:
        MachineError: a worker was killed, as for want of memory.
        Whatever ``function`` raises.
    """
    if nj <= 1:
        if set_up is not None:
            set_up()
        yield from map(function, tasks)
        return
    executor = _make_workers(nj, set_up)
    waiting: collections.deque = collections.deque()
    remaining = iter(tasks)
    done = False
    try:
        for task in remaining:
            while waiting and (len(waiting) >= nj * AHEAD if has_room is None else not has_room(task)):
                yield waiting[0][1].result()
                waiting.popleft()
            with signals_held():  # it may fork
                waiting.append((task, executor.submit(function, task)))
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
        done = True
    except concurrent.futures.process.BrokenProcessPool:
        raise _lost_worker(waiting, nj, describe) from None
    finally:
        if not done:
            _end_workers(executor)
        executor.shutdown(wait=True, cancel_futures=True)


def _make_workers(nj: int, set_up: Callable[[], None] | None) -> concurrent.futures.ProcessPoolExecutor:
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return concurrent.futures.ProcessPoolExecutor(nj, mp_context=multiprocessing.get_context(method),
                                                  initializer=_start_worker, initargs=(os.getpid(), set_up))


def _lost_worker(waiting: Iterable[tuple], nj: int, describe: Callable[[Any], str]) -> MachineError:
    """What is told of a worker that died: the tasks that it may have had in hand."""
    lost = [task for task, future in waiting if not future.done() or future.exception() is not None]
    hand = "; ".join(describe(task) for task in lost[:nj])
    return MachineError(f"a worker died, probably for want of memory; in hand: {hand}; fewer --nj need less")


def run_threads(function: Callable[[Any], Any], items: list, nj: int) -> list:
    """Results in the items' order, from threads of this process; the first exception ends what hasn't begun."""
    if nj == 1 or len(items) < 2:
        return [function(item) for item in items]
    executor = concurrent.futures.ThreadPoolExecutor(nj, thread_name_prefix="speakerkit")
    try:
        return list(executor.map(function, items))
    finally:
        executor.shutdown(cancel_futures=True)


def _end_workers(executor: concurrent.futures.ProcessPoolExecutor) -> None:
    """Stop workers in the middle of a task: nobody waits for their results any more."""
    for process in list((executor._processes or {}).values()):
        process.terminate()
