"""Short utterances of one kind joined with their neighbours until each is long enough, without writing audio.

The grouping is that of Kaldi's combine_short_segments.sh, which WeSpeaker's CN-Celeb recipe uses with
speaker and genre as the kind and 5 s (examples/cnceleb/v2/local/combine_utt.sh).
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from speakerkit.cli import entry

TOLERANCE_S = 1e-5          # lengths that differ by less are equal, as in Kaldi
_RECORDINGS_A_TASK = 2000


def group_neighbours(durations_s: Sequence[float], shortest_s: float) -> list[range]:
    """Runs of consecutive utterances, each at least so long as wanted.

    Args:
        durations_s: of each utterance, in order; none is 0.
        shortest_s: what a run should reach; if all together don't, they are one run.

    Returns:
        index ranges that cover all utterances in order. An utterance that is long enough stays alone
        unless a short neighbour joins it.

    Runs that are too short are taken from the last one to the first. One is joined to its left neighbour
    where there is none on the right, or that is longer than shortest_s by itself; else to the one that
    makes it long enough, to the shorter one if both do, to the right one if that doesn't decide.
    """
    count = len(durations_s)
    total = list(durations_s)           # of the run that starts here
    end = list(range(1, count + 1))     # behind the last utterance of the run that starts here
    start_before = list(range(-1, count - 1))   # where the run to the left of the run that starts here starts
    is_start = [True] * count

    def is_less(one: float, other: float) -> bool:
        return one < other - TOLERANCE_S

    def join(left: int, right: int) -> None:
        total[left] += total[right]
        end[left] = end[right]
        is_start[right] = False
        if end[left] < count:
            start_before[end[left]] = left

    queue = [index for index in range(count) if is_less(total[index], shortest_s)]
    while queue:
        here = queue.pop()
        if not is_start[here] or not is_less(total[here], shortest_s):
            continue
        left, right = start_before[here], end[here] if end[here] < count else -1
        if left < 0 and right < 0:
            break
        if left >= 0 and (right < 0 or _is_left_better(total[left], total[here], total[right], shortest_s, is_less)):
            join(left, here)  # if that is still too short, it waits in the queue itself
        else:
            join(here, right)
            if is_less(total[here], shortest_s):
                queue.append(here)
    return [range(index, end[index]) for index in range(count) if is_start[index]]


def _is_left_better(left: float, here: float, right: float, shortest: float, is_less) -> bool:
    if is_less(shortest, right):
        return True
    if is_less(left + here, shortest):
        return False
    return is_less(right + here, shortest) or is_less(left, right)


class Joined(NamedTuple):
    """What became of a set of recordings."""

    utt2spk: dict[str, str]          # of the new utterances
    utt2utts: dict[str, list[str]]   # of those that are joined: '<first part>-comb<number of parts>'
    seconds: float                   # of all
    num_unreadable: int              # recordings whose header can't be read; they stay as they are


def join_short(recordings: Iterable[tuple[str, str, str]], kinds: Iterable[str], shortest_s: float, nj: int) -> Joined:
    """Join recordings of one speaker and kind in the order of their ids.

    Args:
        recordings: (utt_id, spk_id, path) of each.
        kinds: of each.
        shortest_s: what each utterance should reach, in seconds.
        nj: processes that read headers.
    """
    from speakerkit.io.tables import sort_key

    rows = sorted(zip(recordings, kinds, strict=True), key=lambda row: (row[0][1], row[1], sort_key(row[0][0])))
    durations = read_durations([recording[2] for recording, _ in rows], nj)
    utt2spk, utt2utts, num_unreadable, seconds = {}, {}, 0, 0.0
    pairs = zip(rows, durations, strict=True)
    for (spk_id, _), group in itertools.groupby(pairs, key=lambda pair: (pair[0][0][1], pair[0][1])):
        known = []
        for ((utt_id, _, _), _), duration in group:
            if duration > 0:
                known.append((utt_id, duration))
            else:
                utt2spk[utt_id] = spk_id
                num_unreadable += 1
        seconds += sum(duration for _, duration in known)
        for run in group_neighbours([duration for _, duration in known], shortest_s):
            parts = [known[index][0] for index in run]
            utt_id = parts[0] if len(parts) == 1 else f"{parts[0]}-comb{len(parts)}"
            utt2spk[utt_id] = spk_id
            if len(parts) > 1:
                utt2utts[utt_id] = parts
    return Joined(utt2spk, utt2utts, seconds, num_unreadable)


def read_durations(paths: Sequence[str], nj: int) -> list[float]:
    """Seconds of each recording by its header; 0 of one whose header can't be read."""
    from tqdm import tqdm

    from speakerkit.jobs import pool

    tasks = [paths[start:start + _RECORDINGS_A_TASK] for start in range(0, len(paths), _RECORDINGS_A_TASK)]
    durations: list[float] = []
    for found in tqdm(pool.run_tasks(_durations, tasks, min(nj, len(tasks)), describe=lambda task: task[0]),
                      total=len(tasks), desc="read headers", leave=False, disable=None):
        durations += found
    return durations


def _durations(paths: Sequence[str]) -> list[float]:
    from speakerkit.errors import RecordingError
    from speakerkit.io.audio import read_length

    found = []
    for path in paths:
        try:
            num_samples, sample_rate = read_length(path)
            found.append(num_samples / sample_rate)
        except RecordingError as error:
            entry.log.debug("%s", error)
            found.append(0.0)
    return found
