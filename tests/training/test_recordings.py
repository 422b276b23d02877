"""Where training reads samples: parts of a joined utterance look like one recording."""

import dataclasses

import numpy as np
import pytest
import soundfile

from speakerkit.errors import DataError
from speakerkit.io.audio import AudioOptions
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.io.data_dir import read_data_dir, write_data_dir
from speakerkit.training import recordings
from speakerkit.training.recordings import scan_recordings

LENGTHS = {"a-1": 4000, "a-2": 1600, "a-3": 5000, "b-1": 8000}


@pytest.fixture
def folder(tmp_path):
    """Three recordings of a, joined, and one of b."""
    for key, length in LENGTHS.items():
        samples = 0.5 * np.random.default_rng(length).uniform(-1, 1, length)
        soundfile.write(tmp_path / f"{key}.wav", samples, 16000, subtype="FLOAT")
    write_data_dir(tmp_path / "data", wav_scp={key: str(tmp_path / f"{key}.wav") for key in LENGTHS},
                   utt2utts={"a-1-comb3": ["a-1", "a-2", "a-3"]}, utt2spk={"a-1-comb3": "a", "b-1": "b"})
    return tmp_path / "data"


def scan(folder):
    bad = BadRecordings(str(folder / "out"))
    return *scan_recordings(read_data_dir(folder), AudioOptions(), bad, False), bad


def test_any_stretch_of_a_joined_utterance_is_that_of_the_whole(folder):
    utt_ids, recordings, bad = scan(folder)
    assert utt_ids == ["a-1-comb3", "b-1"] and not bad.rows
    joined = recordings[0]
    whole = np.concatenate([soundfile.read(folder.parent / f"{key}.wav", dtype="float32")[0] for key in
                            ("a-1", "a-2", "a-3")])
    assert joined.num_samples == len(whole) == 10600
    assert joined.sample_rate == 16000
    generator = np.random.default_rng(1)
    edges = [(0, 10600), (3999, 2), (4000, 1600), (3999, 1602), (5600, 5000), (10599, 1), (0, 1)]
    drawn = [(first, int(generator.integers(1, 10601 - first))) for first in generator.integers(0, 10600, 100)]
    for first, count in edges + drawn:
        np.testing.assert_array_equal(joined.read(int(first), count), whole[first:first + count])


def test_only_parts_that_hold_something_are_opened(folder):
    joined = scan(folder)[1][0]
    (folder.parent / "a-3.wav").unlink()
    assert len(joined.read(0, 5600)) == 5600


def test_a_bad_part_is_noted_under_the_utterance(folder):
    (folder.parent / "a-2.wav").unlink()
    utt_ids, _, bad = scan(folder)
    assert utt_ids == ["b-1"]
    assert bad.rows["a-1-comb3"][:2] == (f"{folder.parent}/a-2.wav", "missing")


def test_parts_of_several_rates_are_refused(folder):
    soundfile.write(folder.parent / "a-2.wav", np.full(1600, 0.1), 8000)
    _, _, bad = scan(folder)
    assert bad.rows["a-1-comb3"][1] == "bad-sample-rate"


def test_an_unknown_part_is_told_at_the_utterances_line(folder):
    (folder / "utt2utts").write_text("a-1-comb3 a-1 a-9\n")
    with pytest.raises(DataError, match="utt2spk:1: part 'a-9' of 'a-1-comb3' has no recording in .*wav.scp"):
        scan(folder)


def test_one_channel_is_drawn_for_all_parts(folder):
    for key, num_channels in {"a-1": 3, "a-2": 2, "a-3": 3}.items():
        mono = soundfile.read(folder.parent / f"{key}.wav")[0]
        soundfile.write(folder.parent / f"{key}.wav", np.outer(mono, 1.0 / (1 + np.arange(num_channels))), 16000,
                        subtype="FLOAT")
    options = AudioOptions(channel=0)
    _, recordings = scan_recordings(read_data_dir(folder), options, BadRecordings(str(folder / "out")), False, True)
    joined, generator = recordings[0], np.random.default_rng(1)
    assert {joined.draw_channel(generator) for _ in range(30)} == {0, 1}  # which each of them has
    first, second = (joined.read(3000, 4000, channel) for channel in (0, 1))
    np.testing.assert_allclose(second, first / 2, rtol=1e-6)


def test_plain_waves_are_read_without_a_decoder_and_others_are_not(folder, monkeypatch):
    samples = np.random.default_rng(3).integers(-32768, 32768, 8000).astype(np.int16)
    soundfile.write(folder.parent / "b-1.wav", samples, 16000, subtype="PCM_16")
    joined, plain = scan(folder)[1]
    assert [part.place for part in joined.parts] == [None] * 3  # of float samples
    expected = dataclasses.replace(plain, place=None).read(17, 5000)
    monkeypatch.setattr(recordings.audio, "read_chunk", None)
    np.testing.assert_array_equal(plain.read(17, 5000), expected)
    assert plain.place.path == str(folder.parent / "b-1.wav")


def test_a_room_response_may_be_short(tmp_path):
    response = np.zeros(1600)
    response[100:] = 0.5 * np.random.default_rng(1).choice([-1, 1], 1500) * 0.995 ** np.arange(1500)
    soundfile.write(tmp_path / "response.wav", response, 16000, subtype="FLOAT")  # 0.1 s
    (tmp_path / "wav.scp").write_text(f"room {tmp_path}/response.wav\n")
    options = AudioOptions(min_duration_s=0.3)
    [read] = recordings.read_responses(tmp_path / "wav.scp", options, 16000)
    assert read.shape == (1500,) and np.allclose(read, response[100:] / abs(response[100]), atol=1e-6)
    with pytest.raises(DataError, match="too-short"):
        recordings.read_noises(tmp_path / "wav.scp", options)
