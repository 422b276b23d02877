"""Programs run side by side: what each took, all its processes together."""

import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOK_S = 0.2  # how often memory is looked at: a look costs some milliseconds of a core
FIRST_LOOKS, FIRST_S = 25, 0.02  # more often at first, when there is little to look at


@dataclass(frozen=True)
class Spent:
    """What one run took."""

    wall_s: float
    cpu_s: float  # of the process and all that it started
    peak_mb: float  # the most memory that all its processes had at once; pages they share count once
    told: dict  # the JSON object that a program of ours prints as its last line


@dataclass(frozen=True)
class Contender:
    """One way to do a workload's work."""

    name: str
    command: Sequence[object]
    prepare: Callable[[], None] | None = None  # before every run, not timed: takes old outputs away
    warm_up: Sequence[object] | None = None  # a short run before the first; None: the command itself, () none
    env: dict = field(default_factory=dict)
    share: float = 1.0  # of the work, where all of it would take too long; its time is scaled up
    once: bool = False  # so slow that one run must do
    timed_inside: bool = False  # by "seconds" that the program prints, without its start
    note: str = ""


class ProgramFailed(Exception):
    """A program ended with another status than 0."""


def run_program(command: Sequence[object], env: dict | None = None) -> Spent:
    """Run to the end, watching time and memory.

    Raises:
        ProgramFailed: with the last line that it wrote to standard error.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen([os.fspath(w) if isinstance(w, os.PathLike) else str(w) for w in command],
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                                   env={**os.environ, **{k: str(v) for k, v in (env or {}).items()}})
        watch = _MemoryWatch(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # Ctrl-C, or SIGTERM as run_benchmarks takes it: nothing is left running
            for pid in _descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        finally:
            wall, peak_mb = time.perf_counter() - began, watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            raise ProgramFailed(f"exit status {process.returncode}: {_reason(err.read().decode('utf-8', 'replace'))}")
        out.seek(0)
        told = _last_object(out.read().decode("utf-8", "replace"))
    # The kernel's own peak counts what this process had when it made the other one: only where nothing was seen.
    return Spent(wall, usage.ru_utime + usage.ru_stime, peak_mb or usage.ru_maxrss / 1024, told)


def _reason(text: str) -> str:
    """The last line that names an error, else the last."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip("= \t")] or ["no message"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])[:200]


def _last_object(text: str) -> dict:
    last = text.strip().rpartition("\n")[2]
    return json.loads(last) if last.startswith("{") else {}


class _MemoryWatch:
    """The proportional set sizes of a process and its descendants, looked at again and again."""

    def __init__(self, pid: int):
        self.pid, self.peak_mb, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The most that was seen, in MB (2^20 bytes)."""
        self._over.set()
        self._thread.join()
        return self.peak_mb

    def _look(self) -> None:
        looks = 0
        while not self._over.wait(FIRST_S if looks < FIRST_LOOKS else LOOK_S):
            looks += 1
            sizes = [_memory_mb(pid) for pid in _descendants(self.pid)]
            together, largest = sum(now for now, _ in sizes), max(peak for _, peak in sizes)
            self.peak_mb = max(self.peak_mb, together, largest)


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:  # grows while it is walked
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:  # ended meanwhile
            continue
    return found


def _memory_mb(pid: int) -> tuple[float, float]:
    """Proportional set size now, and the largest resident set so far; zeros where the process has ended."""
    found = {"Pss:": 0.0, "VmHWM:": 0.0}
    try:
        for name in ("smaps_rollup", "status"):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                key = line.partition("\t")[0].split(" ")[0]
                if key in found:
                    found[key] = int(line.split()[1]) / 1024
    except OSError:
        pass
    return found["Pss:"], found["VmHWM:"]


def run_side_by_side(contenders: Sequence[Contender], repeats: int) -> dict:
    """Run all in turn, ``repeats`` times, so that a machine whose speed drifts slows all of them.

    Returns:
        name -> "wall_s", "cpu_s", "peak_mb" of each run (scaled to the whole work), "told" of the last,
        "note"; or "left_out", the reason why it doesn't run.
    """
    results: dict[str, dict] = {}
    for contender in contenders:
        results[contender.name] = {"wall_s": [], "cpu_s": [], "peak_mb": [], "told": {}, "note": contender.note}
        _try(contender, contender.command if contender.warm_up is None else contender.warm_up, results, keep=False)
    for turn, contender in itertools.product(range(repeats), contenders):
        if "left_out" not in results[contender.name] and not (turn and contender.once):
            _try(contender, contender.command, results, keep=True)
    return results


def _try(contender: Contender, command: Sequence[object], results: dict, keep: bool) -> None:
    if not command:
        return
    row = results[contender.name]
    try:
        if contender.prepare is not None:
            contender.prepare()
        spent = run_program(command, contender.env)
    except (ProgramFailed, OSError) as error:
        row["left_out"] = str(error)
        print(f"  {contender.name}: left out: {error}", file=sys.stderr, flush=True)
        return
    if keep:
        seconds = spent.told["seconds"] if contender.timed_inside else spent.wall_s
        row["wall_s"].append(seconds / contender.share)
        row["cpu_s"].append(spent.cpu_s / contender.share)
        row["peak_mb"].append(spent.peak_mb)
        row["told"] = spent.told
        print(f"  {contender.name}: {seconds:.2f} s, {spent.cpu_s:.2f} s of CPU, {spent.peak_mb:.0f} MB",
              file=sys.stderr, flush=True)


def median(results: dict, name: str, what: str = "wall_s") -> float | None:
    """The median of a contender's runs; None where there is none."""
    values = results.get(name, {}).get(what)
    return statistics.median(values) if values else None
