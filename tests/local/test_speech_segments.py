"""Stretches of one speaker: by hand, and against a grid of hundredths."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import speech_segments
from speech_segments import Stretch, fit_durations, single_speaker_stretches, whole_segments

spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda x: (x[0], x[0] + x[1]))
meetings = st.dictionaries(st.sampled_from("abcd"), st.lists(spans, max_size=6))


def on_a_grid(spoken) -> list[Stretch]:
    """The slow way: who is active in each hundredth, and runs of one and the same."""
    alone = []
    for time in range(100):
        who = {spk_id for spk_id, mine in spoken.items() for start, end in mine if start <= time < end}
        alone.append(who.pop() if len(who) == 1 else None)
    stretches, begin = [], 0
    for time in range(1, 101):
        if time == 100 or alone[time] != alone[begin]:
            if alone[begin] is not None:
                stretches.append(Stretch(alone[begin], begin, time))
            begin = time
    return stretches


@given(meetings)
def test_stretches_are_the_runs_on_a_grid(spoken):
    assert single_speaker_stretches(spoken) == on_a_grid(spoken)


@given(meetings)
def test_whole_segments_overlap_nothing(spoken):
    everything = [(spk_id, *span) for spk_id, mine in spoken.items() for span in mine]
    expected = [(spk_id, start, end) for number, (spk_id, start, end) in enumerate(everything)
                if not any(start < other_end and other_start < end
                           for place, (_, other_start, other_end) in enumerate(everything) if place != number)]
    assert whole_segments(spoken) == sorted(expected, key=lambda stretch: stretch[1])


@given(meetings, st.integers(1, 10), st.one_of(st.none(), st.integers(20, 40)))
def test_durations_fit_and_nothing_else_is_lost(spoken, shortest, longest):
    stretches = single_speaker_stretches(spoken)
    fitting = fit_durations(stretches, shortest, longest)
    lengths = [stretch.end - stretch.start for stretch in fitting]
    assert all(length >= shortest for length in lengths)
    assert longest is None or all(length <= longest for length in lengths)
    assert sum(lengths) == sum(end - start for _, start, end in stretches if end - start >= shortest)


def test_a_stretch_that_is_too_long_is_cut_into_equal_parts():
    assert fit_durations([Stretch("a", 5, 105)], 10, 40) == [Stretch("a", 5, 38), Stretch("a", 38, 71),
                                                             Stretch("a", 71, 105)]
    with pytest.raises(ValueError, match="a maximum of 19 is less than twice the minimum of 10"):
        fit_durations([], 10, 19)


def test_the_examples():
    assert doctest.testmod(speech_segments).failed == 0
