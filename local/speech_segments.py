"""Who spoke when -> the stretches in which one person speaks alone. Times are whole hundredths of a second."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Spans = Mapping[str, Sequence[tuple[int, int]]]   # speaker -> (start, end) of what was spoken, end not included


class Stretch(NamedTuple):
    """One speaker, alone, from start to end."""

    spk_id: str
    start: int
    end: int


def single_speaker_stretches(spoken: Spans) -> list[Stretch]:
    """All maximal stretches in which exactly one speaker is active, by start.

    Where others join in, a turn is cut; where intervals of one speaker touch or overlap, they are one.

    >>> single_speaker_stretches({"a": [(0, 100)], "b": [(40, 50)]})
    [Stretch(spk_id='a', start=0, end=40), Stretch(spk_id='a', start=50, end=100)]
    """
    edges = sorted((time, change, spk_id) for spk_id, spans in spoken.items()
                   for start, end in spans for time, change in ((start, 1), (end, -1)))
    active: Counter = Counter()
    stretches: list[Stretch] = []
    before = 0
    for time, change, spk_id in edges:
        if time > before and len(active) == 1:
            alone = next(iter(active))
            last = stretches[-1] if stretches else None
            if last and last.spk_id == alone and last.end == before:
                stretches[-1] = last._replace(end=time)
            else:
                stretches.append(Stretch(alone, before, time))
        before = time
        active[spk_id] += change
        if not active[spk_id]:
            del active[spk_id]
    return stretches


def whole_segments(spoken: Spans) -> list[Stretch]:
    """All spoken intervals that overlap no other one, of whomever, by start.

    >>> whole_segments({"a": [(0, 100), (200, 300)], "b": [(40, 50)]})
    [Stretch(spk_id='a', start=200, end=300)]
    """
    spans = sorted((start, end, spk_id) for spk_id, spans in spoken.items() for start, end in spans)
    starts = [start for start, _, _ in spans[1:]] + [float("inf")]
    reached, alone = 0, []
    for (start, end, spk_id), next_start in zip(spans, starts, strict=False):
        if reached <= start and end <= next_start:
            alone.append(Stretch(spk_id, start, end))
        reached = max(reached, end)
    return alone


def fit_durations(stretches: Iterable[Stretch], min_length: int, max_length: int | None) -> list[Stretch]:
    """Drop what is too short; cut what is too long into equal parts, to the nearest hundredth.

    Raises:
        ValueError: a maximum below twice the minimum, whose parts could be too short.
    """
    if max_length is not None and max_length < 2 * min_length:
        raise ValueError(f"a maximum of {max_length} is less than twice the minimum of {min_length}")
    fitting = []
    for spk_id, start, end in stretches:
        if end - start < min_length:
            continue
        num_parts = 1 if max_length is None else -((start - end) // max_length)
        edges = [start + (end - start) * part // num_parts for part in range(num_parts + 1)]
        fitting += [Stretch(spk_id, *span) for span in zip(edges, edges[1:], strict=False)]
    return fitting
