"""Worker processes: order, errors, and what becomes of them when somebody dies."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speakerkit.errors import MachineError, RecordingError
from speakerkit.jobs import pool


def square(number):
    return number * number


def refuse_five(number):
    if number == 5:
        raise RecordingError("five.wav", "silent", "no sound")
    return number


def die_at_five(number):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait_for_ever(folder):
    (folder / f"{os.getpid()}.part").touch()
    (folder / f"{os.getpid()}.part").rename(folder / f"{os.getpid()}")
    signal.pause()


def not_set_up(number):
    return os.environ.get("POOL_WORKER", "nobody")


def set_up():
    os.environ["POOL_WORKER"] = "set up"


@pytest.mark.parametrize("nj", [1, 2, 5])
def test_results_come_in_the_tasks_order(nj):
    assert list(pool.run_tasks(square, range(40), nj)) == [number * number for number in range(40)]
    assert list(pool.run_tasks(square, [], nj)) == []


@pytest.mark.parametrize("nj", [1, 2])
def test_a_task_waits_for_room(nj):
    """Windows of ten tasks, two of which have room at a time."""
    done, begun = 0, []

    def tasks():
        for number in range(60):
            yield number
            begun.append(number)  # the one before the task that is asked for next

    results = pool.run_tasks(square, tasks(), nj, has_room=lambda number: number // 10 < done + 2)
    for window in range(6):
        assert [next(results) for _ in range(10)] == [n * n for n in range(10 * window, 10 * window + 10)]
        assert len(begun) <= 10 * (window + 2)
        done += 1
    assert list(results) == []


def test_workers_are_set_up():
    assert list(pool.run_tasks(not_set_up, range(4), 2, set_up)) == ["set up"] * 4
    assert "POOL_WORKER" not in os.environ


@pytest.mark.parametrize("nj", [1, 3])
def test_an_error_crosses_with_all_it_says(nj):
    results = pool.run_tasks(refuse_five, range(20), nj)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(RecordingError) as caught:
        next(results)
    assert (caught.value.path, caught.value.reason, caught.value.detail) == ("five.wav", "silent", "no sound")


def test_a_worker_that_dies_is_told_with_what_it_had_in_hand():
    with pytest.raises(MachineError, match=r"a worker died, .* in hand: .*task 5.*; fewer --nj need less"):
        list(pool.run_tasks(die_at_five, range(8), 2, describe=lambda number: f"task {number}"))


def wait_for_workers(folder: Path, count: int) -> list[int]:
    """Process numbers of workers that have begun."""
    while len(found := [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]) < count:
        os.sched_yield()
    return found


def has_ended(descriptor: int) -> bool:
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path, number):
    parent = os.fork()
    if parent == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            list(pool.run_tasks(wait_for_ever, [tmp_path] * 2, 2))
        finally:
            os._exit(1)
    workers = [os.pidfd_open(pid) for pid in wait_for_workers(tmp_path, 2)]
    os.kill(parent, number)
    os.waitpid(parent, 0)
    assert all(has_ended(worker) for worker in workers)


def test_workers_end_when_nobody_wants_more(tmp_path):
    def tasks():
        yield from [tmp_path] * 2
        workers.extend(os.pidfd_open(pid) for pid in wait_for_workers(tmp_path, 2))
        raise KeyboardInterrupt

    workers: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        list(pool.run_tasks(wait_for_ever, tasks(), 2))
    assert len(workers) == 2
    assert all(has_ended(worker) for worker in workers)


STOPPED_AT_A_FORK = """
import os, signal
from speakerkit.errors import MachineError
from speakerkit.jobs import pool

def stop(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
os.register_at_fork(**{WHERE: lambda: os.kill(os.getpid(), NUMBER)})
try:
    print("went on", list(pool.run_tasks(abs, [-1, 2, 3], 2)))
except (KeyboardInterrupt, MachineError) as error:
    print("stopped", type(error).__name__)
"""


@pytest.mark.parametrize("number, where, ended", [
    (signal.SIGINT, "after_in_parent", "stopped KeyboardInterrupt"),  # such hooks of logging and random run at a fork
    (signal.SIGTERM, "after_in_parent", "stopped KeyboardInterrupt"),
    (signal.SIGINT, "after_in_child", "went on [1, 2, 3]"),           # the parent's matter
    (signal.SIGTERM, "after_in_child", "stopped MachineError"),
])
def test_a_signal_at_the_fork_is_neither_lost_nor_told_by_a_worker(number, where, ended):
    program = STOPPED_AT_A_FORK.replace("WHERE", repr(where)).replace("NUMBER", str(int(number)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (ended, "")
