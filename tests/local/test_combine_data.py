"""Data directories made one: whole recordings beside segments, joined utterances, speakers left out."""

import pytest

import combine_data
from speakerkit.io.data_dir import read_data_dir, write_data_dir
from speakerkit.io.tables import Segment


@pytest.fixture
def directories(tmp_path):
    """One of segments; one of whole recordings, of which two are joined; both with files that needn't be there."""
    write_data_dir(tmp_path / "segments", wav_scp={"far": "/a/far.wav"}, utt2spk={"s1-1": "s1", "s2-1": "s2"},
                   segments={"s1-1": Segment("far", 0.5, 2.0, 0), "s2-1": Segment("far", 3.0, 4.0, 0)})
    write_data_dir(tmp_path / "whole", wav_scp={name: f"/b/{name}.flac" for name in ("i1-1", "i1-2", "i2-1")},
                   utt2spk={"i1-1-join2": "i1", "i2-1": "i2"}, utt2utts={"i1-1-join2": ["i1-1", "i1-2"]})
    return tmp_path / "segments", tmp_path / "whole"


def combine(tmp_path, *arguments) -> int:
    return combine_data.main([str(tmp_path / "all"), *map(str, arguments)])


def test_whole_recordings_become_segments_of_full_length(tmp_path, directories):
    assert combine(tmp_path, *directories) == 0
    data = read_data_dir(tmp_path / "all")
    assert {name: (s.rec_id, s.start_s, s.end_s) for name, s in data.segments.items()} == {
        "i1-1": ("i1-1", 0.0, -1.0), "i1-2": ("i1-2", 0.0, -1.0), "i2-1": ("i2-1", 0.0, -1.0),
        "s1-1": ("far", 0.5, 2.0), "s2-1": ("far", 3.0, 4.0)}
    assert data.utt2utts == {"i1-1-join2": ["i1-1", "i1-2"]}
    assert data.utt2spk.values == {"i1-1-join2": "i1", "i2-1": "i2", "s1-1": "s1", "s2-1": "s2"}
    assert set(data.wav_scp.values) == {"far", "i1-1", "i1-2", "i2-1"}


def test_without_segments_there_are_none(tmp_path, directories):
    assert combine(tmp_path, directories[1]) == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["spk2utt", "utt2spk", "utt2utts", "wav.scp"]


def test_speakers_are_left_out_with_their_recordings(tmp_path, directories, capsys):
    (tmp_path / "absent").write_text("i1\ns2\nnobody\n")
    assert combine(tmp_path, *directories, "--without-speakers", tmp_path / "absent", "--expect-speakers", 3) == 0
    data = read_data_dir(tmp_path / "all")
    assert set(data.utt2spk.values) == {"i2-1", "s1-1"}
    assert set(data.wav_scp.values) == {"far", "i2-1"}
    told = capsys.readouterr().err
    assert "2 of the 3 speakers to leave out are there" in told
    assert "has 2 speakers; expected: 3" in told


def test_refusals(tmp_path, directories, capsys):
    assert combine(tmp_path, directories[0], directories[0]) == 1
    assert "segments: 's1-1' is in another of the directories too" in capsys.readouterr().err
    assert combine(tmp_path, tmp_path / "nowhere") == 1
    assert "nowhere: no such folder" in capsys.readouterr().err
    (tmp_path / "absent").write_text("s1\ns2\n")
    assert combine(tmp_path, directories[0], "--without-speakers", tmp_path / "absent") == 1
    assert "absent: leaves no speaker over" in capsys.readouterr().err
    assert combine(tmp_path, directories[0], tmp_path / "all") == 2
    assert "all is one of the directories to combine" in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
