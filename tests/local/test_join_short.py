"""Short utterances joined: the grouping against Kaldi's, and what becomes of speakers, genres and bad files."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from join_short import group_neighbours, join_short, read_durations

GOLDEN = Path(__file__).parents[1] / "golden" / "joined_5s.json"


def groups(durations, shortest=1.0):
    return [(run.start, run.stop) for run in group_neighbours(durations, shortest)]


@pytest.mark.parametrize("durations, expected", [
    ([5.0, 6.0, 7.0], [(0, 1), (1, 2), (2, 3)]),        # all long enough
    ([0.5, 0.1, 0.2], [(0, 3)]),                        # not enough together
    ([0.5, 0.6, 0.7], [(0, 3)]),                        # the last one joins to its left: 0.5 would be left over
    ([0.5, 0.6, 1.7], [(0, 2), (2, 3)]),
    ([0.1, 6.0, 7.0], [(0, 2), (2, 3)]),                # nothing on its left
    ([6.0, 7.0, 0.1], [(0, 1), (1, 3)]),                # nothing on its right
    ([6.0, 0.1, 7.0], [(0, 2), (2, 3)]),                # the right one needs nobody
    ([1.0, 0.5, 0.1, 6.0], [(0, 3), (3, 4)]),           # from the end: 0.1 goes left, then 0.6 does
    ([0.9, 0.2, 0.95], [(0, 3)]),                       # 0.95 takes 0.2, and 0.9 then joins them
    ([1.0], [(0, 1)]),
    ([0.2], [(0, 1)]),
    ([], []),
])
def test_groups_by_hand(durations, expected):
    assert groups(durations) == expected


def test_groups_are_those_of_wespeakers_script():
    cases = json.loads(GOLDEN.read_text())
    assert len(cases) == 120
    assert any(len(case["ends"]) > 3 for case in cases)
    for case in cases:
        assert [run.stop for run in group_neighbours(case["durations"], 5.0)] == case["ends"], case["durations"]


@given(st.lists(st.integers(1, 400), max_size=40), st.integers(1, 300))
def test_groups_cover_everything_and_are_long_enough(durations, shortest):
    found = group_neighbours(durations, shortest)
    assert [index for run in found for index in run] == list(range(len(durations)))
    lengths = [sum(durations[index] for index in run) for run in found]
    assert all(length >= shortest for length in lengths) or len(found) == 1
    if all(duration >= shortest for duration in durations):
        assert len(found) == len(durations)


@pytest.fixture
def write(tmp_path):
    """``write("a-speech-01-001", 2.0)`` writes so many seconds and gives the recording and its kind."""

    def write_one(utt_id: str, seconds: float, ending: str = ".flac") -> tuple[tuple[str, str, str], str]:
        path = tmp_path / f"{utt_id}{ending}"
        soundfile.write(path, np.zeros(int(seconds * 8000)), 8000)
        spk_id, genre = utt_id.split("-")[:2]
        return (utt_id, spk_id, str(path)), genre

    return write_one


def join(rows, nj=1):
    return join_short([recording for recording, _ in rows], [kind for _, kind in rows], 5.0, nj)


@pytest.mark.parametrize("nj", [1, 2])
def test_only_of_one_speaker_and_genre_in_the_order_of_ids(write, nj):
    rows = [write("a-vlog-01-002", 2.0, ".wav"), write("a-vlog-01-001", 2.0), write("a-vlog-02-001", 2.0),
            write("a-speech-01-001", 1.0), write("b-vlog-01-001", 1.0), write("a-play-01-001", 6.0)]
    joined = join(rows, nj)
    assert joined.utt2utts == {"a-vlog-01-001-comb3": ["a-vlog-01-001", "a-vlog-01-002", "a-vlog-02-001"]}
    assert joined.utt2spk == {"a-vlog-01-001-comb3": "a", "a-speech-01-001": "a", "b-vlog-01-001": "b",
                              "a-play-01-001": "a"}
    assert (joined.seconds, joined.num_unreadable) == (14.0, 0)


def test_what_cant_be_read_stays_as_it_is(write, tmp_path):
    rows = [write("a-vlog-01-001", 2.0), write("a-vlog-01-002", 2.0), write("a-vlog-01-003", 2.0)]
    (tmp_path / "a-vlog-01-002.flac").write_bytes(b"fLaC")
    joined = join(rows)
    assert joined.utt2utts == {"a-vlog-01-001-comb2": ["a-vlog-01-001", "a-vlog-01-003"]}
    assert joined.utt2spk == {"a-vlog-01-001-comb2": "a", "a-vlog-01-002": "a"}
    assert joined.num_unreadable == 1


def test_durations_of_all_formats(write, tmp_path):
    paths = [write("a-x-1", 1.5)[0][2], write("a-x-2", 0.5, ".wav")[0][2], str(tmp_path / "gone.flac")]
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.zeros((400, 2)), 8000)
    assert read_durations([*paths, str(stereo)], 1) == [1.5, 0.5, 0.0, 0.05]
    assert read_durations([], 2) == []
